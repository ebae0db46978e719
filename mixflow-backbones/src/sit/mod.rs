//! Scalable Interpolant Transformers.

mod config;

pub use crate::keys::official_key;
pub use config::SitConfig;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::{AdaLnBlock, FinalLayer};
use crate::embed::{LabelEmbedding, PatchEmbedding, TimestepEmbedding, unpatchify};
use crate::weights::Weights;
use crate::{Backbone, ClassLabels, Error, Network, Precision, ops};

/// SiT: a vision transformer whose blocks are modulated by time and class.
///
/// # Source
/// Ma et al. 2024 (arXiv 2401.08740); `willisma/SiT` at 947f95b, `models.py`.
#[derive(Module, Debug)]
pub struct Sit {
    /// Frozen sine-cosine table, `[1, tokens, width]`; stored and averaged with the weights, never trained.
    pub pos_embed: Param<Tensor<3>>,
    /// Image to tokens.
    pub x_embedder: PatchEmbedding,
    /// Time to vector.
    pub t_embedder: TimestepEmbedding,
    /// Label to vector.
    pub y_embedder: LabelEmbedding,
    /// The transformer.
    pub blocks: Vec<AdaLnBlock>,
    /// Tokens to patches.
    pub final_layer: FinalLayer,
    channels: usize,
    patch: usize,
}

impl Sit {
    /// The vector that modulates every block, SiLU already applied: `[batch, 1, width]`.
    pub fn modulation(&self, time: Tensor<1>, condition: ClassLabels) -> Tensor<3> {
        ops::silu(self.t_embedder.forward(time) + self.y_embedder.forward(condition.labels)).unsqueeze_dim(1)
    }

    /// Image to tokens with their places: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        self.x_embedder.of_square(x, self.pos_embed.lazy_shape()[1]) + self.pos_embed.val()
    }

    /// Everything that the last layer says: `[batch, channels, height, width]`, of a network that learns sigma
    /// `[batch, 2 channels, height, width]`.
    pub fn outputs(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let modulation = self.modulation(time, condition);
        let tokens = self.blocks.iter().fold(self.embed(x), |x, block| block.forward(x, modulation.clone(), None));
        self.decode(tokens, modulation, [height, width])
    }

    /// Tokens after the last block to [`outputs`](Self::outputs) of this size.
    pub fn decode(&self, tokens: Tensor<3>, modulation: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
        let patches = self.final_layer.forward(tokens, modulation); // [batch, tokens, patch² · (1 or 2) channels]
        unpatchify(patches, [height / self.patch, width / self.patch], self.patch)
    }

    /// This network with the weights of a published checkpoint. A file without the position table, which is computed
    /// and never trained, leaves it as it is.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::select_weights(weights)?;
        weights.insert_missing("pos_embed", || self.pos_embed.val().into_data());
        weights.into_module(self, official_key)
    }
}

impl Backbone for Sit {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        // Flow matching does not use a second half.
        self.outputs(x, time, condition).narrow(1, 0, self.channels)
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let blocks = self.blocks.iter().map(AdaLnBlock::recomputing).collect();
        Some(Self { blocks, ..self.clone() })
    }
}

#[cfg(test)]
mod tests;
