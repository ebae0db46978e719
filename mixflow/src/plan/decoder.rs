//! What the training of a decoder will cost.

use std::fmt;

use serde::Serialize;

use super::{BYTES, Machine, duration};
use crate::numbers::{counted, gigabytes, thousands};
use crate::recipe::DecoderRecipe;

/// Size, work, memory and time of the recipe of a decoder; prints as a table.
///
/// The encoder and the decoder are counted. Activations, and the networks of a perceptual and an adversarial loss, which
/// may take as long again, come on top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecoderPlan {
    /// Parameters of the decoder, its frozen table included.
    pub parameters: u64,
    /// Parameters of the frozen encoder.
    pub encoder_parameters: u64,
    /// Multiplications with addition of one image's forward pass: the decoder's, then the encoder's.
    pub multiply_adds: [u64; 2],
    /// Bytes in training, by part.
    pub memory: Vec<(&'static str, u64)>,
    /// Images in all steps of the training.
    pub images: u128,
    /// Seconds of the training on the machine, at least.
    pub training_seconds: f64,
    /// Losses that have networks of their own.
    pub losses: Vec<&'static str>,
    /// The machine that times are for.
    pub machine: Machine,
}

impl DecoderPlan {
    /// Works a recipe out. No weights are drawn, allocated or read.
    #[must_use]
    pub fn new(recipe: &DecoderRecipe, machine: Machine) -> Self {
        let DecoderRecipe { encoder, decoder, training, .. } = recipe;
        let (parameters, encoder_parameters) = (decoder.parameters(), encoder.parameters());
        let multiply_adds = [decoder.multiply_adds(), encoder.multiply_adds()];
        let images = u128::from(training.steps) * training.batch as u128;
        // The decoder has a backward pass, of two products for each of the forward pass; the encoder is frozen.
        let operations = 2.0 * (3 * multiply_adds[0] + multiply_adds[1]) as f64 * images as f64;
        let losses = [("perceptual", training.perceptual.is_some()), ("adversarial", training.adversarial.is_some())];
        Self {
            parameters,
            encoder_parameters,
            multiply_adds,
            memory: vec![
                ("weights of the decoder", BYTES * parameters),
                ("gradients", BYTES * parameters),
                ("moments of AdamW", 2 * BYTES * parameters),
                ("moving average", BYTES * parameters),
                ("weights of the encoder", BYTES * encoder_parameters),
            ],
            images,
            training_seconds: operations / machine.speed,
            losses: losses.into_iter().filter_map(|(name, there)| there.then_some(name)).collect(),
            machine,
        }
    }

    /// Bytes of all parts together.
    #[must_use]
    pub fn total_memory(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for DecoderPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, losses, .. } = self;
        writeln!(f, "{:<28}decoder of a representation autoencoder", "network")?;
        writeln!(f, "{:<28}{}", "parameters", thousands(self.parameters))?;
        writeln!(f, "{:<28}{}", "of the frozen encoder", thousands(self.encoder_parameters))?;
        let [decoder, encoder] = self.multiply_adds.map(|count| count as f64 / 1e9);
        let digits = if decoder < 1.0 { 4 } else { 1 };
        writeln!(f, "{:<28}{decoder:.digits$} GMAC for one image, encoder {encoder:.digits$} GMAC", "forward pass")?;
        writeln!(f, "memory in training")?;
        for (part, bytes) in &self.memory {
            writeln!(f, "  {part:<26}{:>9}", gigabytes(*bytes))?;
        }
        writeln!(f, "  {:<26}{:>9}", "together", gigabytes(self.total_memory()))?;
        writeln!(f, "training of {}", counted(self.images, "image"))?;
        writeln!(f, "  on {} ({})", machine.name, machine.origin)?;
        writeln!(f, "  {:<26}{:>9}", "at least", duration(self.training_seconds))?;
        match losses[..] {
            [] => write!(f, "not counted: activations"),
            _ => write!(f, "not counted: activations, and the networks of the {} loss", losses.join(" and the ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_decoder_has_its_size_and_work() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/paper/rae-decoder-xl.json");
        let recipe = DecoderRecipe::read(path, &[]).unwrap().unwrap();
        let plan = DecoderPlan::new(&recipe, Machine::named("h100").unwrap());
        let encoder = recipe.encoder.parameters();
        assert_eq!((plan.parameters, plan.encoder_parameters), (recipe.decoder.parameters(), encoder));
        // Five copies of the decoder's weights and one of the encoder's.
        assert_eq!(plan.total_memory(), 20 * plan.parameters + 4 * encoder);
        let [decoder, encoder] = plan.multiply_adds;
        let operations = (6 * decoder + 2 * encoder) as f64 * plan.images as f64;
        assert!((plan.training_seconds * 0.4 * 67e12 / operations - 1.0).abs() < 1e-9);
        let text = plan.to_string();
        for words in [thousands(plan.parameters).as_str(), "the perceptual and the adversarial loss", "at least"] {
            assert!(text.contains(words), "{text}");
        }
        let plain = ["training.perceptual=null", "training.adversarial=null"].map(String::from);
        let recipe = DecoderRecipe::read(path, &plain).unwrap().unwrap();
        let text = DecoderPlan::new(&recipe, Machine::named("h100").unwrap()).to_string();
        assert!(text.ends_with("not counted: activations"), "{text}");
    }
}
