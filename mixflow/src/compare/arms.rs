//! How the arms of a comparison are trained.

use std::path::Path;

use mixflow_schedules::{Beta, LawConfig, MixFlow, TimestepConfig};

use crate::Error;
use crate::recipe::{ObjectiveConfig, PostTraining};
use crate::train::{Start, TrainConfig};

impl PostTraining {
    /// What the standard and the MixFlow arm minimise, whose start was trained with `objective`.
    ///
    /// The standard arm goes on as before. The MixFlow arm differs in its times alone: they are slowed by up to
    /// [`gamma`](Self::gamma) from a label that follows [`label_law`](Self::label_law), or else the recipe's own law with
    /// Beta(2, 1) in the place of uniform times.
    ///
    /// # Errors
    /// A sentence, if `objective` is slowed already, and if its times are not uniform and no law of the label is given.
    pub fn objectives(&self, objective: &ObjectiveConfig) -> Result<[ObjectiveConfig; 2], String> {
        let law = match &objective.timesteps {
            TimestepConfig::Law(law) => law,
            TimestepConfig::MixFlow(slowed) => {
                return Err(format!(
                    "objective.timesteps is `mixflow` with gamma {} already, so that the standard arm would be trained \
                     with MixFlow, too; the gamma of a comparison is post_training.gamma, here {}: set \
                     objective.timesteps to the law of plain flow matching, such as {{\"kind\":\"uniform\"}}, or \
                     post_training to null",
                    slowed.parts().0,
                    self.gamma
                ));
            }
        };
        let label = match &self.label_law {
            Some(label) => label.clone(),
            None => law.mixflow_label().map_err(|fault| {
                let beta = law.around(LawConfig::Beta(Beta::MIXFLOW)).ok();
                let such_as = beta.and_then(|law| serde_json::to_string(&law).ok());
                let such_as = such_as.map_or(String::new(), |law| format!(", such as {law}"));
                format!("objective.timesteps: {fault}; say which with post_training.label_law{such_as}")
            })?,
        };
        let mixflow = MixFlow::try_wrap(self.gamma, label).map_err(|fault| fault.to_string())?;
        let slowed = ObjectiveConfig { timesteps: TimestepConfig::MixFlow(mixflow), ..objective.clone() };
        Ok([objective.clone(), slowed])
    }

    /// How long and how fast each arm is trained, whose start was trained so.
    pub fn training(&self, start: &TrainConfig) -> TrainConfig {
        let optimizer = self.optimizer.clone().unwrap_or_else(|| start.optimizer.at_constant_rate());
        TrainConfig { steps: self.steps, optimizer, ..start.clone() }
    }

    /// What [`training`](Self::training) does, for the readers of a report.
    pub(super) fn describe(&self, start: &TrainConfig) -> String {
        let TrainConfig { steps, batch, optimizer, .. } = self.training(start);
        let kept = 100.0 * optimizer.average.powf(steps as f64);
        format!(
            "Each arm takes {steps} steps of {batch} examples at {}, from the start's moving average, with moments of zero; \
             {kept:.0} % of its own moving average, which is what is measured, are still the start. The standard and the \
             MixFlow arm of a seed see the same examples, noise and dropped labels in the same order.",
            optimizer.learning_rate
        )
    }
}

/// The folder of an arm in that of a comparison.
pub(super) fn folder(name: &str, seed: u64) -> String {
    format!("{}-{seed}", name.to_lowercase())
}

/// Says in the folder of an arm what it starts from; refuses one that has started from something else.
pub(super) fn started(arm: &Path, start: &Start) -> Result<(), Error> {
    check_started(arm, start)?;
    // Nobody knows what an arm started from that did not say so and has begun.
    if arm.join("checkpoints").is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(arm).map_err(Error::io("create", arm))?;
    Start::write(Some(start), arm)
}

/// Refuses an arm that has started from something else.
pub(super) fn check_started(arm: &Path, start: &Start) -> Result<(), Error> {
    let Some(old) = Start::read(arm)? else { return Ok(()) };
    let [before, now] = [&old, start].map(|start| start.files.first().map_or("", |file| &file.sha256));
    if before == now {
        return Ok(());
    }
    let [before, now] = [before, now].map(|hash| hash.get(..16).unwrap_or(hash));
    let reason = format!(
        "this arm was trained from weights with the SHA-256 {before}…, the start of the comparison now has {now}…: choose \
         another --out for arms of this start, or remove the folder {} to train it anew",
        arm.display()
    );
    Err(Error::Recipe { origin: arm.display().to_string(), reason })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use mixflow_schedules::TimestepSampler;

    use super::*;
    use crate::recipe::Recipe;
    use crate::train::LearningRate;

    fn objectives(recipe: &str, changes: &[&str]) -> Result<[ObjectiveConfig; 2], String> {
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let recipe = Recipe::read(recipe, &set).unwrap();
        recipe.post_training.unwrap().objectives(&recipe.objective)
    }

    #[test]
    fn uniform_times_become_the_papers_law() {
        let [standard, mixflow] = objectives("digits", &[]).unwrap();
        assert_eq!(standard, Recipe::read("digits", &[]).unwrap().objective);
        assert_eq!(mixflow.timesteps.timestep([0.25, 0.5]), MixFlow::new(0.8).timestep([0.25, 0.5]));
        assert_eq!(ObjectiveConfig { timesteps: standard.timesteps.clone(), ..mixflow }, standard);
    }

    /// The recipe of the paper that is slowed, from that of its start.
    #[test]
    fn a_shift_is_kept_and_the_arms_are_those_of_the_paper() {
        let paper = |name: &str| {
            let file = format!("{}/recipes/paper/{name}.json", env!("CARGO_MANIFEST_DIR"));
            Recipe::read(&file, &[]).unwrap().objective
        };
        let post = |gamma: f64| PostTraining { gamma, ..Recipe::read("digits", &[]).unwrap().post_training.unwrap() };
        for (name, gamma) in [("sit-xl-2-256", 0.8), ("repa-xl-2-256", 0.8)] {
            let [_, mixflow] = post(gamma).objectives(&paper(name)).unwrap();
            assert_eq!(mixflow, paper(&format!("{name}-mixflow")), "{name}");
        }
        // RAE's own times are logit-normal, inside its shift: which law the label has must be said.
        let rae = paper("dit-dh-xl-256");
        let fault = post(0.4).objectives(&rae).unwrap_err();
        let law = fault.split("such as ").nth(1).unwrap();
        let said = PostTraining { label_law: Some(serde_json::from_str(law).unwrap()), ..post(0.4) };
        assert_eq!(said.objectives(&rae).unwrap()[1], paper("dit-dh-xl-256-mixflow"));
        let shift = "objective.timesteps={\"kind\":\"shifted\",\"shift\":3,\"base\":{\"kind\":\"uniform\"}}";
        let [standard, mixflow] = objectives("digits", &[shift]).unwrap();
        assert_eq!(standard.timesteps.timestep([0.25, 0.0]).t, 0.1);
        // t = √0.25, then t/(t + 3 (1 − t)).
        assert_eq!(mixflow.timesteps.timestep([0.25, 0.0]).t, 0.25);
    }

    #[test]
    fn a_second_gamma_and_a_second_law_are_refused() {
        let slowed = "objective.timesteps={\"kind\":\"mixflow\",\"gamma\":0.5}";
        let fault = objectives("digits", &[slowed]).unwrap_err();
        assert!(fault.contains("gamma 0.5 already") && fault.contains("post_training.gamma, here 0.8"), "{fault}");
        let normal = "objective.timesteps={\"kind\":\"logit-normal\",\"mean\":0,\"std\":1}";
        let fault = objectives("digits", &[normal]).unwrap_err();
        assert!(
            fault.contains("logit-normal(0, 1)") && fault.contains("post_training.label_law, such as {"),
            "{fault}"
        );
        assert!(objectives("rae", &[]).is_ok());
    }

    #[test]
    fn an_arm_trains_at_the_full_rate_from_its_first_step() {
        let recipe = Recipe::read("digits", &[]).unwrap();
        let post = recipe.post_training.unwrap();
        let training = post.training(&recipe.training);
        assert_eq!((training.steps, training.batch), (100, 64));
        assert!((0..100).all(|step| training.optimizer.learning_rate.at(step) == 0.002));
        let said = post.describe(&recipe.training);
        // 0.99^100 = 0.366.
        assert!(
            said.contains("100 steps of 64 examples at the constant rate 0.002") && said.contains("37 %"),
            "{said}"
        );

        // A schedule that ends at zero is not where an arm goes on.
        let falling = LearningRate::Cosine { rate: 1e-3, last: 0.0, start: 20, end: 400, from_zero: true };
        let mut start = recipe.training.clone();
        start.optimizer.learning_rate = falling;
        assert!([0, 99].iter().all(|step| post.training(&start).optimizer.learning_rate.at(*step) == 1e-3));
        let own = PostTraining { optimizer: Some(start.optimizer.clone()), ..post };
        assert_eq!(own.training(&recipe.training).optimizer, start.optimizer);
        assert!(
            own.describe(&start).contains("a rate that rises to 0.001 in 20 steps and falls by a cosine to 0 from")
        );
    }
}
