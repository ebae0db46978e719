//! DiT^DH, the network of RAE: a transformer whose wide and shallow head predicts.

mod config;

pub use crate::keys::official_key;
pub use config::{DitDhConfig, Stack};

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::{AdaLnBlock, FinalLayer, Perceptron};
use crate::embed::{FourierEmbedding, LabelEmbedding, PatchEmbedding, RotaryTable, unpatchify};
use crate::weights::Weights;
use crate::{Backbone, ClassLabels, Error, Linear, Network, Precision, ops};

/// DiT^DH: an encoder of `LightningDiT` blocks turns latent, time and class into one condition a token, and a head of
/// few and wide blocks predicts from the latent under these conditions.
///
/// # Source
/// Zheng et al. 2025 (arXiv 2510.11690), section 5; `DiTwDDTHead` of `bytetriper/RAE` at a4d18c4,
/// `src/stage2/models/DDT.py`.
#[derive(Module, Debug)]
pub struct DitDh {
    /// Places of the encoder's tokens, `[1, tokens, encoder width]`: a sine-cosine table at first. The head has none.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// Latent to tokens of the head.
    pub x_embedder: PatchEmbedding,
    /// Latent to tokens of the encoder.
    pub s_embedder: PatchEmbedding,
    /// The encoder's width to the head's, where they differ.
    pub s_projector: Option<Linear>,
    /// Time to vector.
    pub t_embedder: FourierEmbedding,
    /// Label to vector.
    pub y_embedder: LabelEmbedding,
    /// Angles of the encoder's tokens.
    pub enc_feat_rope: RotaryTable,
    /// Angles of the head's tokens.
    pub dec_feat_rope: RotaryTable,
    /// Encoder, then head.
    pub blocks: Vec<AdaLnBlock<Perceptron>>,
    /// Tokens to latent.
    pub final_layer: FinalLayer,
    encoder_depth: usize,
}

impl DitDh {
    /// The encoder's blocks, then the head's.
    pub fn stacks(&self) -> (&[AdaLnBlock<Perceptron>], &[AdaLnBlock<Perceptron>]) {
        self.blocks.split_at(self.encoder_depth)
    }

    /// Latent to the encoder's tokens with their places: `[batch, channels, height, width]` to
    /// `[batch, tokens, encoder width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        let tokens = self.s_embedder.of_square(x, self.enc_feat_rope.freqs_cos.lazy_shape()[0]);
        match &self.pos_embed {
            Some(places) => tokens + places.val(),
            None => tokens,
        }
    }

    /// The vector that modulates every block of the encoder: `[batch, 1, encoder width]`. SiLU is applied twice, as in
    /// the official code: to the sum of time and class, and again in each block.
    pub fn modulation(&self, time: Tensor<2>, condition: ClassLabels) -> Tensor<3> {
        ops::silu(ops::silu(time + self.y_embedder.forward(condition.labels))).unsqueeze_dim(1)
    }

    /// What the head is told: `[batch, tokens, encoder width]`.
    pub fn encode(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<3> {
        let time = self.t_embedder.forward(time);
        let modulation = self.modulation(time.clone(), condition);
        let block = |s, block: &AdaLnBlock<Perceptron>| block.forward(s, modulation.clone(), Some(&self.enc_feat_rope));
        let tokens = self.stacks().0.iter().fold(self.embed(x), block);
        ops::silu(tokens + time.unsqueeze_dim(1))
    }

    /// The vectors that modulate the head, SiLU already applied: `[batch, tokens, encoder width]` to
    /// `[batch, tokens, head width]`.
    pub fn head_modulation(&self, encoded: Tensor<3>) -> Tensor<3> {
        ops::silu(match &self.s_projector {
            Some(projector) => projector.forward(encoded),
            None => encoded,
        })
    }

    /// The prediction from a latent and what [`encode`](Self::encode) says about it.
    pub fn decode(&self, x: Tensor<4>, encoded: Tensor<3>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let modulation = self.head_modulation(encoded);
        let block = |x, block: &AdaLnBlock<Perceptron>| block.forward(x, modulation.clone(), Some(&self.dec_feat_rope));
        let tokens = self.stacks().1.iter().fold(self.x_embedder.forward(x), block);
        unpatchify(self.final_layer.forward(tokens, modulation), [height, width], 1)
    }

    /// This network with the weights of a published checkpoint. A file without the tables of rotary positions, which are computed
    /// and never trained, leaves them as they are.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::select_weights(weights)?;
        self.enc_feat_rope.insert_missing("enc_feat_rope", &mut weights);
        self.dec_feat_rope.insert_missing("dec_feat_rope", &mut weights);
        weights.into_module(self, official_key)
    }
}

impl Backbone for DitDh {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let encoded = self.encode(x.clone(), time, condition);
        self.decode(x, encoded)
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
