//! What a training keeps in memory, before anything is allocated.

use mixflow_backbones::Precision;

use super::{AutoencoderConfig, DecoderRecipe, NetworkSettings, Recipe, TargetEncoderConfig, TrainedRae};
use crate::Error;
use crate::train::TrainConfig;

/// Bytes of a number: training keeps `f32`.
const BYTES: u64 = 4;

/// Numbers of a parameter in training: weight, gradient, both moments and the moving average.
const TRAINED: u64 = 5;

impl<N: NetworkSettings> Recipe<N> {
    /// Refuses a training whose networks do not fit into `available` bytes, of
    /// [`memory`](crate::memory): for each trained parameter its weight, gradient, two moments and average, of others the
    /// weight, and of a comparison the networks of all arms. Activations and images come on top.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with both sizes, and [`Error::Recipe`] if an adapter is for layers that the network lacks.
    pub fn check_memory(&self, available: u64, start_is_given: bool) -> Result<(), Error> {
        let parameters = self.network.cost().map_or(0, |cost| cost.parameters);
        // The start, and the arms of each seed.
        let networks = self.post_training.as_ref().map_or(0, |post| post.networks().saturating_add(1));
        let kept = [self.encoding().map_or(0, of_autoencoder), self.target_encoder.as_ref().map_or(0, of_encoder)];
        let adapter = self.adapter_parameters(start_is_given)?;
        let needed = |precision| {
            let state = match adapter {
                None => bytes(parameters, TRAINED),
                Some(adapter) => bytes(adapter, TRAINED).saturating_add(self.frozen_bytes(precision)),
            };
            kept.into_iter().fold(state.saturating_add(bytes(parameters, networks)), u64::saturating_add)
        };
        let seeds = self.post_training.as_ref().map_or(0, |post| post.seeds);
        let advice = match (seeds > 1, start_is_given) {
            _ if adapter.is_some() && needed(Precision::Bf16) <= available => {
                "set training.precision=bf16, which stores what is frozen in 16 bits"
            }
            (true, true) => "make `post_training.seeds` smaller",
            (true, false) => "make `network` or `post_training.seeds` smaller",
            (false, true) => "the weights to start from ask for a device with more",
            (false, false) => "make `network` smaller",
        };
        fits(&self.name, parameters, needed(self.training.precision), available, advice)
    }
}

impl<N: NetworkSettings> Recipe<N> {
    /// Bytes of one training of a network of so many parameters: what it keeps of each, and, where that is known, of a step for
    /// its backward pass.
    pub(crate) fn training_bytes(&self, parameters: u64) -> u64 {
        let TrainConfig { batch, accumulation, precision, recompute, .. } = self.training;
        let step = self.network.cost().map_or(0, |cost| cost.activations.bytes(precision, recompute));
        bytes(parameters, TRAINED).saturating_add(step.saturating_mul((batch / accumulation) as u64))
    }
}

impl DecoderRecipe {
    /// As [`Recipe::check_memory`], for the training of a decoder beside its frozen encoder.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with both sizes.
    pub fn check_memory(&self, available: u64) -> Result<(), Error> {
        let (decoder, encoder) = (self.decoder.parameters(), self.encoder.parameters());
        fits(
            &self.name,
            decoder,
            bytes(decoder, TRAINED).saturating_add(bytes(encoder, 1)),
            available,
            "make `decoder` smaller",
        )
    }
}

fn bytes(parameters: u64, numbers: u64) -> u64 {
    parameters.saturating_mul(BYTES).saturating_mul(numbers)
}

/// Those of Stable Diffusion are not counted: their files have the sizes.
fn of_autoencoder(config: &AutoencoderConfig) -> u64 {
    match config {
        AutoencoderConfig::Kl { .. } => 0,
        AutoencoderConfig::Rae { encoder, decoder, .. } => bytes(encoder.parameters() + decoder.parameters(), 1),
        AutoencoderConfig::TrainedRae(trained) => of_trained(trained),
    }
}

fn of_encoder(config: &TargetEncoderConfig) -> u64 {
    match config {
        TargetEncoderConfig::File { encoder, .. } => bytes(encoder.parameters(), 1),
        TargetEncoderConfig::Trained(trained) => of_trained(trained),
    }
}

fn of_trained(TrainedRae { encoder, decoder, .. }: &TrainedRae) -> u64 {
    bytes(encoder.parameters() + decoder.parameters(), TRAINED)
}

fn fits(name: &str, parameters: u64, needed: u64, available: u64, advice: &'static str) -> Result<(), Error> {
    if needed <= available {
        return Ok(());
    }
    Err(Error::TooLarge { recipe: name.into(), parameters, needed, available, advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(name: &str, changes: &[&str]) -> String {
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Recipe::read(name, &set)
            .unwrap()
            .check_memory(16_000_000_000, false)
            .map_or_else(|error| error.to_string(), |()| "fits".into())
    }

    #[test]
    fn networks_that_cannot_fit_are_refused_by_arithmetic() {
        for name in Recipe::names().filter(|name| !name.starts_with("paper/")) {
            assert_eq!(needed(name, &[]), "fits");
        }
        // 838,675,796 parameters, 20 bytes each.
        assert!(needed("paper/dit-dh-xl-256", &[]).contains("16.77 GB"));
        // Each of three blocks has ten squares of the width, the time one and the last layer two; 20 bytes each.
        let squares = 33.0 * 1_000_008f64.powi(2);
        let said = needed("digits", &["network.width=1000008", "post_training=null"]);
        assert!(said.contains("there are 16.00 GB") && said.contains("`plan`"), "{said}");
        let found: u64 =
            said.split(' ').find_map(|word| word.replace(',', "").parse().ok().filter(|n| *n > 1000)).unwrap();
        assert!((found as f64 / squares - 1.0).abs() < 0.01, "{found} {squares}");

        // 1.1 billion parameters: 20 bytes each, or 4 and an adapter.
        let wide = ["network.width=5760", "network.heads=5", "network.hidden=23040", "post_training=null"];
        let adapter = r#"adapter={"kind":"lora"}"#;
        assert!(needed("digits", &wide).contains("there are 16.00 GB"), "{}", needed("digits", &wide));
        assert_eq!(needed("digits", &[&wide[..], &[adapter]].concat()), "fits");
        // Every arm is a network of its own.
        let arms = |names: &str| needed("digits", &[&wide[..3], &[&format!("post_training.arms={names}")]].concat());
        let (two, three) = (
            arms(r#"["standard","mixflow"]"#),
            arms(r#"["standard","mixflow",{"name":"more","objective":{"defar":{"beta":0.5}}}]"#),
        );
        assert!(two != three, "{two}");

        assert!(
            needed("digits", &["post_training.seeds=10000"]).contains("`network` or `post_training.seeds` smaller;")
        );
        // What would not help is not advised.
        let advice = |changes: &[&str], available, start| {
            let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
            let recipe = Recipe::read("digits", &set).unwrap();
            let fault = recipe.check_memory(available, start).unwrap_err().to_string();
            fault.rsplit(": ").next().unwrap().split(';').next().unwrap().to_owned()
        };
        let one = "post_training.seeds=1";
        assert_eq!(advice(&[one], 1, false), "make `network` smaller");
        assert_eq!(advice(&[one], 1, true), "the weights to start from ask for a device with more");
        assert_eq!(advice(&["post_training.seeds=2"], 1, true), "make `post_training.seeds` smaller");
        let adapted = [&wide[..], &[adapter]].concat();
        assert!(advice(&adapted, 6_000_000_000, true).starts_with("set training.precision=bf16"));
        assert!(advice(&adapted, 1_000_000_000, true).starts_with("the weights to start from"));
        assert!(needed("rae", &["autoencoder.decoder.width=100000"]).contains("in memory"));
        assert!(needed("repa", &["target_encoder.encoder.hidden=10000000"]).contains("in memory"));
    }

    #[test]
    fn numbers_that_overflow_are_refused_when_a_recipe_is_read() {
        let most = u64::MAX;
        for (name, change, words) in [
            ("digits", format!("seed={most}"), "must be below 2^64"),
            ("digits", format!("post_training.seeds={most}"), "seeds must be at most 10000"),
            ("digits", format!("training.steps={most}"), "steps times batch"),
            ("digits", format!("post_training.steps={most}"), "post_training.steps times batch"),
            ("digits", "training.batch=65537".into(), "batch must be at most 65536"),
            ("digits", "training.workers=257".into(), "workers must be at most 256"),
            ("digits", "post_training.images=5000000000".into(), "images must be below 2^32"),
            ("digits", "post_training.solver_steps=[100001]".into(), "from 1 to 100000"),
            ("rae", format!("autoencoder.training.steps={most}"), "steps times batch"),
            ("repa", format!("target_encoder.training.steps={most}"), "steps times batch"),
            ("digits", "network.width=12000000000".into(), "more than can be counted"),
            ("digits", "network.input_size=8000000000".into(), "more than can be counted"),
            ("digits", format!("network.classes={most}"), "more than can be counted"),
            ("repa", "network.projector_hidden=10000000000".into(), "more than can be counted"),
            ("repa", "target_encoder.encoder.hidden=1000000000000".into(), "more than can be counted"),
            ("rae", "network.head.hidden=1000000000000".into(), "more than can be counted"),
            ("rae", "autoencoder.decoder.width=4000000000".into(), "more than can be counted"),
        ] {
            let found = Recipe::read(name, std::slice::from_ref(&change))
                .map_or_else(|error| error.to_string(), |_| "fits".into());
            assert!(found.contains(words), "{name} {change}: {found}");
        }
    }
}
