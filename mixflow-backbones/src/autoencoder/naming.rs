//! The same autoencoder under other names.

use super::keys::{diffusers_key, original_key};
use crate::Error;
use crate::weights::{LazyTensor, Weights};

/// What training scripts store beside the autoencoder.
const TRAINING: [&str; 2] = ["loss.", "model_ema."];

/// Who gave an autoencoder's tensors their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `diffusers`, since 2023.
    Diffusers,
    /// `CompVis/latent-diffusion`, and the code of Stability after it, whose attention is made of convolutions.
    Original,
}

impl Naming {
    /// The autoencoder of `weights` under these names, whatever names it has; none if they hold no such autoencoder. Of a
    /// whole Stable Diffusion, or what a training script stored, the rest is left out. No value changes.
    ///
    /// # Errors
    /// As [`Weights::network`].
    pub fn apply(self, weights: Weights) -> Result<Option<Weights>, Error> {
        let weights = select_weights(weights)?;
        let Some(last) = weights.iter().filter_map(|(name, _)| level(name)).max() else { return Ok(None) };
        let levels = last + 1;
        let weights = as_diffusers(weights, levels);
        Ok(Some(match self {
            Self::Diffusers => weights,
            Self::Original => weights.flat_map(|name, tensor| {
                let tensor = if name.contains(".attentions.") { with_pixel(tensor) } else { tensor };
                Some((original_key(&name, levels), tensor))
            }),
        }))
    }
}

/// The autoencoder of a file, alone or in one with a whole Stable Diffusion, which calls it `first_stage_model`.
pub(super) fn select_weights(weights: Weights) -> Result<Weights, Error> {
    Ok(weights.network(&["decoder.conv_in.weight"])?.without(&TRAINING))
}

/// The tensors of an autoencoder with so many `levels` under the names of `diffusers`.
pub(super) fn as_diffusers(weights: Weights, levels: usize) -> Weights {
    weights.flat_map(|name, tensor| {
        let name = diffusers_key(&name, levels);
        let tensor = if name.contains(".attentions.") { without_pixel(tensor) } else { tensor };
        Some((name, tensor))
    })
}

/// The level of the decoder that a tensor belongs to.
fn level(name: &str) -> Option<usize> {
    let rest = name.strip_prefix("decoder.up_blocks.").or_else(|| name.strip_prefix("decoder.up."))?;
    // More levels than any image has sides to halve are none.
    rest.split('.').next()?.parse().ok().filter(|&level| level < 64)
}

/// A convolution one pixel wide is a linear layer.
fn without_pixel(tensor: LazyTensor) -> LazyTensor {
    match *tensor.shape() {
        [outputs, inputs, 1, 1] => tensor.reshaped(vec![outputs, inputs]),
        _ => tensor,
    }
}

fn with_pixel(tensor: LazyTensor) -> LazyTensor {
    match *tensor.shape() {
        [outputs, inputs] => tensor.reshaped(vec![outputs, inputs, 1, 1]),
        _ => tensor,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::autoencoder::{KlAutoencoderConfig, official_key};

    fn network() -> Weights {
        let config =
            KlAutoencoderConfig { widths: vec![4, 8, 8], groups: 2, ..KlAutoencoderConfig::stable_diffusion() };
        Weights::of(&config.init(5, &Device::default()), official_key)
    }

    #[test]
    fn the_way_to_the_original_names_and_back_changes_nothing() {
        let there = Naming::Original.apply(network()).unwrap().unwrap();
        assert_eq!(there.get("decoder.mid.attn_1.proj_out.weight").unwrap().shape(), [8, 8, 1, 1]);
        assert!(there.get("decoder.up.2.block.0.norm1.weight").is_some());
        assert!(there.get("decoder.up.0.block.0.nin_shortcut.weight").is_some());
        assert!(there.iter().all(|(name, _)| !name.contains("_blocks.") && !name.contains("conv_norm_out")));
        assert_eq!(there.iter().len(), network().iter().len());
        let back = Naming::Diffusers.apply(there.clone()).unwrap().unwrap();
        assert_eq!(back.to_safetensors(&[]).unwrap(), network().to_safetensors(&[]).unwrap());
        let again = Naming::Original.apply(back).unwrap().unwrap();
        assert_eq!(again.to_safetensors(&[]).unwrap(), there.to_safetensors(&[]).unwrap());
    }

    #[test]
    fn other_networks_have_no_such_names() {
        assert!(Naming::Original.apply(Weights::default()).unwrap().is_none());
    }
}
