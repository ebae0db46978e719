//! Post-training and its comparison, in a recipe.

use mixflow_backbones::Invalid;
use mixflow_schedules::{Beta, Error, LawConfig, MixFlow, TimeGrid, TimestepConfig};
use serde::{Deserialize, Serialize};

use super::{ArmConfig, ObjectiveConfig, SamplingConfig};
use crate::train::{OptimizerConfig, TrainConfig};

/// Post-training and its evaluation, in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostTraining {
    /// Steps of each post-training.
    pub steps: u64,
    /// How far MixFlow slows: `m ~ U[(1 − gamma) t, t]`, in [0, 1]; 0.8 is the paper's value for SiT. It is the only place
    /// of a comparison's γ: an objective that is slowed already is refused.
    pub gamma: f64,
    /// Law of the MixFlow arm's label `t`. None is that of the recipe with Beta(2, 1), the paper's law, in the place of
    /// uniform times: what shifts, truncates or carries them over stays. Times that follow another law inside compete with
    /// it, and then this must say what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_law: Option<LawConfig>,
    /// Post-trainings of each kind, with seeds that follow the recipe's.
    #[serde(default = "three")]
    pub seeds: u64,
    /// The optimiser of the arms, with a schedule that counts their own steps. None is that of the training, as in the
    /// paper, at its full rate from the first step to the last: warm-up and decay belong to the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// Generated images of each network, and as many held-out real ones for the floor.
    #[serde(default = "five_hundred")]
    pub images: usize,
    /// Steps of the solver at which quality is measured, beside those of the sampling.
    #[serde(default)]
    pub solver_steps: Vec<usize>,
    /// Factors on the velocity that the arm `control` may choose from.
    #[serde(default = "lambdas")]
    pub lambdas: Vec<f64>,
    /// The arms beside the start. All trainings start from the same weights and see the same examples, noise and dropped
    /// labels in the same order; all sample from the same noise.
    #[serde(default = "ArmConfig::usual", skip_serializing_if = "is_usual")]
    pub arms: Vec<ArmConfig>,
    /// Whether Slow Flow is measured too.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub slow_flow: bool,
}

fn is_usual(arms: &[ArmConfig]) -> bool {
    arms == ArmConfig::usual()
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn three() -> u64 {
    3
}

fn five_hundred() -> usize {
    500
}

fn lambdas() -> Vec<f64> {
    vec![1.0, 1.03, 1.06]
}

impl PostTraining {
    /// The samplings of [`solver_steps`](Self::solver_steps), but for that which is `sampling` itself.
    ///
    /// # Errors
    /// As [`SamplingConfig::with_steps`].
    pub fn other_samplings(&self, sampling: &SamplingConfig) -> Result<Vec<SamplingConfig>, Error> {
        let all = self.solver_steps.iter().map(|&steps| sampling.with_steps(steps));
        all.filter(|other| other.as_ref() != Ok(sampling)).collect()
    }

    /// Whether these numbers can be used.
    ///
    pub fn check(&self) -> Result<(), Invalid> {
        if !(0.0..=1.0).contains(&self.gamma) {
            return Err(Invalid::new("gamma", format!("must be in [0, 1], found {}", self.gamma)));
        }
        for (name, value, least) in
            [("steps", self.steps, 1), ("seeds", self.seeds, 1), ("images", self.images as u64, 8)]
        {
            if value < least {
                return Err(Invalid::new(name, format!("must be at least {least}, found {value}")));
            }
        }
        if self.seeds > 10_000 {
            return Err(Invalid::new("seeds", format!("must be at most 10000, found {}", self.seeds)));
        }
        if u32::try_from(self.images).is_err() {
            return Err(Invalid::new("images", format!("must be below 2^32, found {}", self.images)));
        }
        for (place, &steps) in self.solver_steps.iter().enumerate() {
            if self.solver_steps[..place].contains(&steps) {
                return Err(Invalid::new(
                    "solver_steps",
                    format!("have {steps} twice, which would count as another seed"),
                ));
            }
            TimeGrid::new(steps).map_err(|fault| Invalid::new("solver_steps", format!("have {steps}: {fault}")))?;
        }
        if self.lambdas.is_empty() || !self.lambdas.iter().all(|lambda| lambda.is_finite() && *lambda > 0.0) {
            let reason = format!("must be numbers above 0, at least one, found {:?}", self.lambdas);
            return Err(Invalid::new("lambdas", reason));
        }
        if self.arms.is_empty() {
            let reason =
                "must have at least one arm, found none: to train without a comparison, set post_training to null";
            return Err(Invalid::new("arms", reason));
        }
        for arm in &self.arms {
            arm.check(&self.arms)?;
            arm.candidates(&self.lambdas)?;
        }
        if self.label_law.is_some() && self.arms.iter().all(|arm| arm.name != "mixflow") {
            let reason = "has no effect without the arm `mixflow` among post_training.arms";
            return Err(Invalid::new("label_law", reason));
        }
        if self.lambdas != lambdas() && !self.arms.iter().any(ArmConfig::is_control) {
            return Err(Invalid::new("lambdas", "has no effect without the arm `control` among post_training.arms"));
        }
        self.optimizer.as_ref().map_or(Ok(()), |optimizer| optimizer.check().map_err(|fault| fault.within("optimizer")))
    }

    /// The arms that are trained, and what each minimises, whose start was trained with `objective`.
    ///
    /// # Errors
    /// As [`objectives`](Self::objectives) where MixFlow is among them, and for arms that no objective is of.
    pub fn trainings(&self, objective: &ObjectiveConfig) -> Result<Vec<(&ArmConfig, ObjectiveConfig)>, Invalid> {
        let trainings = self.arms.iter().filter(|arm| arm.of().is_none());
        trainings
            .map(|arm| {
                let objective = match arm.name.as_str() {
                    "mixflow" => self.objectives(objective)?[1].clone(),
                    _ => arm.changed(objective)?,
                };
                Ok((arm, objective))
            })
            .collect()
    }

    /// The arm whose training is kept in a folder of this name in that of a comparison, and its seed, counted from 0.
    pub fn arm_in(&self, folder: &str) -> Option<(&ArmConfig, u64)> {
        let (name, seed) = folder.rsplit_once('-')?;
        let seed = seed.parse().ok().filter(|seed| *seed < self.seeds)?;
        let arm = self.arms.iter().find(|arm| arm.of().is_none() && arm.name.to_lowercase() == name)?;
        Some((arm, seed))
    }

    /// Networks that are trained, of all arms and seeds.
    pub fn networks(&self) -> u64 {
        self.seeds.saturating_mul(self.arms.iter().filter(|arm| arm.of().is_none()).count() as u64)
    }

    /// Sets of images for each number of steps: as many as there are networks, the start among them; what each arm that only
    /// samples tries; and what it is measured with.
    pub fn sets(&self) -> [u64; 3] {
        let samplings = self.arms.iter().filter(|arm| arm.of().is_some());
        let (mut tried, mut measured) = (0u64, 0u64);
        for arm in samplings {
            let networks = if arm.of() == Some("start") { 1 } else { self.seeds };
            let candidates = arm.candidates(&self.lambdas).map_or(0, |candidates| candidates.len());
            tried =
                if candidates > 1 { networks.saturating_mul(candidates as u64).saturating_add(tried) } else { tried };
            measured = networks.saturating_add(measured);
        }
        [self.networks().saturating_add(1), tried, measured]
    }

    /// What the standard and the MixFlow arm minimise, whose start was trained with `objective`.
    ///
    /// The standard arm goes on as before. The MixFlow arm differs in its times alone: they are slowed by up to
    /// [`gamma`](Self::gamma) from a label that follows [`label_law`](Self::label_law), or else the recipe's own law with
    /// Beta(2, 1) in the place of uniform times.
    ///
    /// # Errors
    /// If `objective` is slowed already, and if its times are not uniform and no law of the label is given.
    pub fn objectives(&self, objective: &ObjectiveConfig) -> Result<[ObjectiveConfig; 2], Invalid> {
        let law = match &objective.timesteps {
            TimestepConfig::Law(law) => law,
            TimestepConfig::Independent(_) => {
                let reason = "are `independent`, which MixFlow cannot slow: set objective.timesteps to the law of plain flow \
                              matching, or post_training to null";
                return Err(Invalid::new("objective.timesteps", reason));
            }
            TimestepConfig::MixFlow(slowed) => {
                let reason = format!(
                    "is `mixflow` with gamma {} already, so that the standard arm would be trained \
                     with MixFlow, too; the gamma of a comparison is post_training.gamma, here {}: set \
                     objective.timesteps to the law of plain flow matching, such as {{\"kind\":\"uniform\"}}, or \
                     post_training to null",
                    slowed.parts().0,
                    self.gamma
                );
                return Err(Invalid::new("objective.timesteps", reason));
            }
        };
        let label = match &self.label_law {
            Some(label) => label.clone(),
            None => law.mixflow_label().map_err(|fault| {
                let beta = law.around(LawConfig::Beta(Beta::MIXFLOW)).ok();
                let such_as = beta.and_then(|law| serde_json::to_string(&law).ok());
                let such_as = such_as.map_or(String::new(), |law| format!(", such as {law}"));
                let reason =
                    format!("are no law for MixFlow: {fault}; say which with post_training.label_law{such_as}");
                Invalid::new("objective.timesteps", reason)
            })?,
        };
        let mixflow = MixFlow::try_wrap(self.gamma, label)
            .map_err(|fault| Invalid::new("post_training", format!("has no law of times: {fault}")))?;
        let slowed = ObjectiveConfig { timesteps: TimestepConfig::MixFlow(mixflow), ..objective.clone() };
        Ok([objective.clone(), slowed])
    }

    /// How long and how fast each arm is trained, whose start was trained so.
    pub fn training(&self, start: &TrainConfig) -> TrainConfig {
        let optimizer = self.optimizer.clone().unwrap_or_else(|| start.optimizer.at_constant_rate());
        TrainConfig { steps: self.steps, optimizer, ..start.clone() }
    }
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::TimestepSampler;

    use super::*;
    use crate::recipe::Recipe;

    fn objectives(recipe: &str, changes: &[&str]) -> Result<[ObjectiveConfig; 2], Invalid> {
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
        let fault = post(0.4).objectives(&rae).unwrap_err().to_string();
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
    fn what_no_arm_reads_is_refused() {
        let check = |changes: [&str; 2]| {
            let set: Vec<String> = changes.map(|change| format!("post_training.{change}")).into();
            Recipe::read("digits", &set).map(drop).map_err(|error| error.to_string())
        };
        let law = r#"label_law={"kind":"beta","alpha":3,"beta":1}"#;
        let slowed = r#"{"name":"slowed","objective":{"timesteps":{"kind":"mixflow","gamma":0.5}}}"#;
        let slowed = format!(r#"arms=["standard",{slowed}]"#);
        for (changes, key, arm) in
            [([law, &slowed], "label_law", "mixflow"), (["lambdas=[1]", &slowed], "lambdas", "control")]
        {
            let error = check(changes).unwrap_err();
            let words = format!("post_training.{key} has no effect without the arm `{arm}`");
            assert!(error.contains(&words), "{error}");
        }
        assert_eq!(check([law, r#"arms=["mixflow"]"#]), Ok(()));
        assert_eq!(check(["lambdas=[1]", r#"arms=["standard","control"]"#]), Ok(()));
        // As a recipe says it that names no factors.
        assert_eq!(check(["lambdas=[1,1.03,1.06]", &slowed]), Ok(()));
    }

    #[test]
    fn a_folder_tells_its_arm() {
        let arms = r#"post_training.arms=["standard", { "name": "Beta-2" }]"#;
        let post = Recipe::read("digits", &[arms.into()]).unwrap().post_training.unwrap();
        let kept = |folder: &str| post.arm_in(folder).map(|(arm, seed)| (arm.name.as_str(), seed));
        assert_eq!(kept("beta-2-1"), Some(("Beta-2", 1)));
        assert_eq!([kept("standard-3"), kept("beta-2"), kept("mixflow-0"), kept("pretraining")], [None; 4]);
    }

    #[test]
    fn a_second_gamma_and_a_second_law_are_refused() {
        let slowed = "objective.timesteps={\"kind\":\"mixflow\",\"gamma\":0.5}";
        let fault = objectives("digits", &[slowed]).unwrap_err().to_string();
        assert!(fault.contains("gamma 0.5 already") && fault.contains("post_training.gamma, here 0.8"), "{fault}");
        let normal = "objective.timesteps={\"kind\":\"logit-normal\",\"mean\":0,\"std\":1}";
        let fault = objectives("digits", &[normal]).unwrap_err().to_string();
        assert!(
            fault.contains("logit-normal(0, 1)") && fault.contains("post_training.label_law, such as {"),
            "{fault}"
        );
        assert!(objectives("rae", &[]).is_ok());
    }
}
