//! What stands frozen beside a network in training.

use mixflow_backbones::encoder::EncoderConfig;
use mixflow_backbones::rae::DecoderConfig;

use crate::recipe::{AutoencoderConfig, TargetEncoderConfig, TrainedRae};

/// What a recipe's autoencoder or target encoder costs.
pub(super) struct Frozen {
    pub(super) parameters: u64,
    /// Of encoding an image.
    pub(super) encode: u64,
    /// Of decoding one.
    pub(super) decode: u64,
}

/// Of latents of this shape.
pub(super) fn autoencoder(config: &AutoencoderConfig, [_, height, width]: [usize; 3]) -> Frozen {
    match config {
        AutoencoderConfig::Kl { network, .. } => {
            let factor = 1 << (network.widths.len() - 1);
            let [encode, decode] = network.multiply_adds([height, width].map(|side| side.saturating_mul(factor)));
            Frozen { parameters: network.parameters().iter().sum(), encode, decode }
        }
        AutoencoderConfig::Rae { encoder, decoder, .. }
        | AutoencoderConfig::TrainedRae(TrainedRae { encoder, decoder, .. }) => rae(encoder, decoder),
    }
}

pub(super) fn target_encoder(config: &TargetEncoderConfig) -> Frozen {
    match config {
        TargetEncoderConfig::File { encoder, .. } => {
            Frozen { parameters: encoder.parameters(), encode: encoder.multiply_adds(), decode: 0 }
        }
        TargetEncoderConfig::Trained(TrainedRae { encoder, decoder, .. }) => rae(encoder, decoder),
    }
}

fn rae(encoder: &EncoderConfig, decoder: &DecoderConfig) -> Frozen {
    Frozen {
        parameters: encoder.parameters() + decoder.parameters(),
        encode: encoder.multiply_adds(),
        decode: decoder.multiply_adds(),
    }
}
