//! `LightningDiT`, RAE's narrow network.
//!
//! # Guidance
//! The official `forward_with_cfg` takes intervals of the network's time in which guidance is *off*, or has a strength
//! of its own: the opposite of DiT^DH and of everything here. What it calls `cfg_interval = [(low, high)]` is two
//! guidances on a `Reversed` schedule, whose paper time is `1 - time`: one within `0..=1 - high` and one within
//! `1 - low..=1`. Guided flows nest, so both together are `flow.guided(weak, before).guided(weak, after)`. At `low`
//! itself the official guidance is off, and ours on.

mod config;
mod parts;

pub use crate::keys::official_key;
pub use config::LightningDitConfig;
pub use parts::LightningParts;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::{AdaLnBlock, FinalLayer, Perceptron};
use crate::embed::{FourierEmbedding, LabelEmbedding, PatchEmbedding, RotaryTable, unpatchify};
use crate::weights::Weights;
use crate::{Backbone, ClassLabels, Error, Network, Precision, ops};

/// `LightningDiT`: a diffusion transformer with rotary positions, root mean square normalisation and `SwiGLU`.
///
/// # Source
/// Yao et al. 2025 (arXiv 2501.01423), as `bytetriper/RAE` at a4d18c4 builds it, `src/stage2/models/lightningDiT.py`.
#[derive(Module, Debug)]
pub struct LightningDit {
    /// Places, `[1, tokens, width]`: a sine-cosine table at first.
    pub pos_embed: Param<Tensor<3>>,
    /// Latent to tokens.
    pub x_embedder: PatchEmbedding,
    /// Time to vector.
    pub t_embedder: FourierEmbedding,
    /// Label to vector.
    pub y_embedder: LabelEmbedding,
    /// Angles of the tokens.
    pub feat_rope: Option<RotaryTable>,
    /// The transformer.
    pub blocks: Vec<AdaLnBlock<Perceptron>>,
    /// Tokens to patches.
    pub final_layer: FinalLayer,
    pub(crate) channels: usize,
    pub(crate) patch: usize,
}

impl LightningDit {
    /// The vector that modulates every block, SiLU already applied: `[batch, 1, width]`.
    pub fn modulation(&self, time: Tensor<1>, condition: ClassLabels) -> Tensor<3> {
        ops::silu(self.t_embedder.forward(time) + self.y_embedder.forward(condition.labels)).unsqueeze_dim(1)
    }

    /// Latent to tokens with their places: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        self.x_embedder.of_square(x, self.pos_embed.lazy_shape()[1]) + self.pos_embed.val()
    }

    /// This network with the weights of a published checkpoint. A file without the tables of rotary positions, which are computed
    /// and never trained, leaves them as they are.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::select_weights(weights)?;
        if let Some(table) = &self.feat_rope {
            table.insert_missing("feat_rope", &mut weights);
        }
        weights.into_module(self, official_key)
    }
}

impl Backbone for LightningDit {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let modulation = self.modulation(time, condition);
        let block = |x, block: &AdaLnBlock<Perceptron>| block.forward(x, modulation.clone(), self.feat_rope.as_ref());
        let tokens = self.blocks.iter().fold(self.embed(x), block);
        let patches = self.final_layer.forward(tokens, modulation); // [batch, tokens, patch² · (1 or 2) channels]
        let output = unpatchify(patches, [height / self.patch, width / self.patch], self.patch);
        // A network that learns sigma predicts it in a second half, which flow matching does not use.
        output.slice([0..batch, 0..self.channels])
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
pub(crate) mod tests;
