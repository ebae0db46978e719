//! The arms of a comparison: in words, their folders, and what they started from.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Error;
use crate::recipe::{ObjectiveConfig, PostTraining};
use crate::report::Arm;
use crate::train::{Start, TrainConfig, has_begun};

impl PostTraining {
    /// What [`training`](Self::training) does, for the readers of a report.
    pub(super) fn describe(&self, start: &TrainConfig) -> String {
        let TrainConfig { steps, batch, optimizer, .. } = self.training(start);
        let kept = 100.0 * optimizer.average.powf(steps as f64);
        format!(
            "Each arm takes {steps} steps of {batch} examples at {}, from the start's moving average, with moments of zero; \
             {kept:.0} % of its own moving average, which is what is measured, are still the start. The arms of a seed see \
             the same examples, noise and dropped labels in the same order.",
            optimizer.learning_rate
        )
    }
}

impl PostTraining {
    /// What the arms are, a sentence each.
    pub(super) fn described(&self, trainings: &[(Arm, ObjectiveConfig)]) -> BTreeMap<Arm, String> {
        let trained = trainings.iter().map(|(arm, objective)| {
            let own = match arm {
                Arm::Other(_) => "Post-trained for as many steps.",
                _ => arm.description(),
            };
            let mut text = format!("{own} Times {}.", objective.timesteps);
            if let Some(perturbation) = &objective.perturbation {
                text += &format!(" More noise: {perturbation}.");
            }
            if let Some(defar) = &objective.defar {
                text += &format!(" DEFAR with beta {}, without its unpublished weight.", defar.beta);
            }
            (arm.clone(), text)
        });
        let sampled = self.arms.iter().filter_map(|config| {
            let arm = Arm::from(config);
            let candidates = config.candidates(&self.lambdas).unwrap_or_default();
            let how = match &candidates[..] {
                _ if arm == Arm::Control => return None,
                [one] => one.to_string(),
                all => format!("the best of {} corrections such as {}", all.len(), all.first()?),
            };
            let text = format!("The networks of the arm {}, sampled with {how}.", config.of()?);
            Some((arm, text))
        });
        trained.chain(sampled).collect()
    }
}

/// What a recipe calls an arm.
pub(super) fn config_name(arm: &Arm) -> &str {
    match arm {
        Arm::MixFlow => "mixflow",
        Arm::Control => "control",
        _ => arm.name(),
    }
}

/// The folder of an arm in that of a comparison.
pub(super) fn folder(arm: &Arm, seed: u64) -> String {
    format!("{}-{seed}", config_name(arm).to_lowercase())
}

/// Says in the folder of an arm what it starts from; refuses one that has started from something else.
pub(super) fn started(arm: &Path, start: &Start) -> Result<(), Error> {
    check_started(arm, start)?;
    // Nobody knows what an arm started from that did not say so and has begun.
    if has_begun(arm) {
        return Ok(());
    }
    std::fs::create_dir_all(arm).map_err(Error::io("create", arm))?;
    Start::write(Some(start), arm)
}

/// Refuses an arm that has started from something else.
pub(super) fn check_started(arm: &Path, start: &Start) -> Result<(), Error> {
    // One that has taken no step knows no start.
    let Some(old) = Start::read(arm)?.filter(|_| has_begun(arm)) else { return Ok(()) };
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
    Err(Error::OtherWeights { record: arm.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use crate::train::LearningRate;

    #[test]
    fn an_arm_keeps_to_its_start_once_a_step_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let arm = folder.path().join("standard-0");
        let start = |sha256: &str| Start {
            repository: None,
            commit: None,
            files: vec![crate::files::WeightsFile { file: "start".into(), sha256: sha256.into() }],
            part: None,
            class_rows: None,
        };
        started(&arm, &start("one")).unwrap();
        // It came to nothing before its first step.
        started(&arm, &start("other")).unwrap();
        std::fs::write(arm.join("metrics.jsonl"), "").unwrap();
        assert!(check_started(&arm, &start("other")).is_ok());
        assert!(check_started(&arm, &start("one")).unwrap_err().to_string().contains("SHA-256 other"));
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
