//! SiT with projectors into the feature spaces of frozen encoders.

mod config;
mod projector;

pub use crate::keys::official_key;
pub use config::RepaConfig;
pub use projector::Projector;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::block::AdaLnBlock;
use crate::sit::Sit;
use crate::weights::Weights;
use crate::{Aligned, AlignedBackbone, Backbone, ClassLabels, Error, Network, Precision};

/// REPA: a [`Sit`] whose tokens after its first blocks are projected to the features of frozen encoders.
///
/// [`forward`](Backbone::forward), which samplers call, leaves the projectors out.
///
/// # Source
/// Yu et al. 2024 (arXiv 2410.06940); `sihyun-yu/REPA` at 67f7145, `models/sit.py`.
#[derive(Module, Debug)]
pub struct Repa {
    /// The transformer.
    pub sit: Sit,
    /// One an encoder.
    pub projectors: Vec<Projector>,
    encoder_depth: usize,
}

impl Repa {
    /// This network with the weights of a published checkpoint. A file without the position table, which is computed
    /// and never trained, leaves it as it is.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::select_weights(weights)?;
        weights.insert_missing("pos_embed", || self.sit.pos_embed.val().into_data());
        weights.into_module(self, official_key)
    }
}

impl Backbone for Repa {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        self.sit.forward(x, time, condition)
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        Some(Self { sit: self.sit.recomputing()?, ..self.clone() })
    }
}

impl AlignedBackbone for Repa {
    fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Aligned {
        let [_, _, height, width] = x.dims();
        let modulation = self.sit.modulation(time, condition);
        let through = |blocks: &[AdaLnBlock], tokens| {
            blocks.iter().fold(tokens, |tokens, block| block.forward(tokens, modulation.clone(), None))
        };
        let (encoder, decoder) = self.sit.blocks.split_at(self.encoder_depth);
        let tokens = through(encoder, self.sit.embed(x));
        let projections = self.projectors.iter().map(|projector| projector.forward(tokens.clone())).collect();
        let tokens = through(decoder, tokens);
        Aligned { output: self.sit.decode(tokens, modulation, [height, width]), projections }
    }
}

#[cfg(test)]
mod tests;
