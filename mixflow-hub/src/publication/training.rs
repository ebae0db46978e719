//! How a network was trained, in words.

use std::fmt::Write;

use mixflow::numbers::thousands;
use mixflow::recipe::NetworkSettings;
use mixflow::train::Start;

use super::finished::Finished;

/// The training of a network, in a sentence or two.
pub(super) fn training<N: NetworkSettings>(finished: &Finished<N>) -> String {
    let Finished { run, recipe, arm, start, .. } = finished;
    let steps = thousands(finished.steps);
    let batch = recipe.training.batch;
    let slowed = serde_json::to_value(&recipe.objective.timesteps).unwrap_or_default();
    let plain = match slowed["gamma"].as_f64() {
        Some(gamma) => format!("MixFlow Training (γ = {gamma})"),
        None => "flow matching".into(),
    };
    let post = recipe.post_training.as_ref();
    match (arm.as_deref(), post) {
        (Some(arm), Some(post)) if arm != "pretraining" => {
            let method = if arm.rsplit_once('-').is_some_and(|(name, _)| name == "mixflow") {
                format!("MixFlow Training (γ = {})", post.gamma)
            } else {
                plain
            };
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
            format!("It was trained for {steps} steps of {batch} images with {plain}{from}.")
        }
    }
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
