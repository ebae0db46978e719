//! How a network was trained, in words.

use std::fmt::Write;

use mixflow::numbers::thousands;
use mixflow::objective::Perturbation;
use mixflow::recipe::{NetworkSettings, ObjectiveConfig};
use mixflow::schedules::{Prediction, ScheduleConfig, TimestepConfig};
use mixflow::train::Start;

use super::finished::Finished;

/// The training of a network, in a sentence or two.
pub(super) fn training<N: NetworkSettings>(finished: &Finished<N>) -> String {
    let Finished { run, recipe, arm, start, .. } = finished;
    let steps = thousands(finished.steps);
    let batch = recipe.training.batch;
    match (arm.as_deref(), &recipe.post_training) {
        (Some(arm), Some(post)) if arm != "pretraining" => {
            let own = post.arm_in(arm).and_then(|(arm, _)| {
                let trainings = post.trainings(&recipe.objective).ok()?;
                trainings.into_iter().find_map(|(other, objective)| (other.name == arm.name).then_some(objective))
            });
            let method = method(own.as_ref().unwrap_or(&recipe.objective));
            let start = match start {
                Some(start) => weights(start),
                None if run.join("pretraining").is_dir() => {
                    format!("a network that was trained for {} steps before", thousands(recipe.training.steps))
                }
                None => "weights that were given to the run".into(),
            };
            format!(
                "It was post-trained for {steps} steps of {batch} images with {method}, from {start}; it is the network \
                 `{arm}` of a comparison."
            )
        }
        _ => {
            let from = start.as_ref().map_or(String::new(), |start| format!(", from {}", weights(start)));
            let method = method(&recipe.objective);
            format!("It was trained for {steps} steps of {batch} images with {method}{from}.")
        }
    }
}

/// Whether it is no flow matching: the noise of DDPM's thousand steps.
pub(super) fn is_of_ddpm(objective: &ObjectiveConfig) -> bool {
    matches!(objective.schedule, ScheduleConfig::Ddpm { .. }) && objective.prediction == Prediction::Noise
}

/// What a training minimises.
fn method(objective: &ObjectiveConfig) -> String {
    if is_of_ddpm(objective) {
        let more = if objective.learned_variance { " and a learned variance" } else { "" };
        return format!("the loss of DDPM{more}");
    }
    let times = match &objective.timesteps {
        TimestepConfig::Law(_) => "flow matching".into(),
        TimestepConfig::MixFlow(mixflow) => format!("MixFlow Training (γ = {})", mixflow.parts().0),
        TimestepConfig::Independent(_) => "flow matching at times that its labels do not tell".into(),
    };
    let more = objective.perturbation.map(|perturbation| match perturbation {
        Perturbation::Input { gamma } => format!("Input Perturbation (γ = {gamma})"),
        Perturbation::OffPath { strength } => format!("noise off the path (strength {strength})"),
    });
    let defar = objective.defar.map(|defar| format!("DEFAR (β = {})", defar.beta));
    let alignment = objective
        .alignment
        .map(|alignment| format!("alignment with the features of frozen encoders (REPA, weight {})", alignment.weight));
    [Some(times), more, defar, alignment].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// The weights that a training started from.
fn weights(start: &Start) -> String {
    let mut text = format!("`{}`", start.file().display());
    if let Some(part) = &start.part {
        let _ = write!(text, " (`{part}`)");
    }
    match (&start.repository, &start.commit, start.files.first()) {
        (Some(repository), Some(commit), _) => {
            let _ = write!(text, " of [{repository}](https://huggingface.co/{repository}/tree/{commit}) at `{commit}`");
        }
        (_, _, Some(file)) => {
            let _ = write!(text, ", SHA-256 `{}`", file.sha256);
        }
        _ => {}
    }
    text
}
