//! The decoder of a representation autoencoder.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::Error;
use crate::Linear;
use crate::embed::unpatchify;
use crate::keys::mae_block_key;
use crate::resize::{Filter, resize};
use crate::vit::{LayerNorm, VitBlock};
use crate::weights::Weights;

use super::{to_planes, to_tokens};

/// A vision transformer from an encoder's features to patches of pixels.
///
/// # Source
/// `bytetriper/RAE` at a4d18c4, `src/stage1/decoders/decoder.py`, `GeneralDecoder`.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Frozen sine-cosine table, `[1, 1 + grid * grid, width]`: zeros for the class token, then the grid.
    pub pos_embed: Param<Tensor<3>>,
    /// Trained in place of a class token, `[1, 1, width]`.
    pub class_token: Param<Tensor<3>>,
    /// Features to tokens.
    pub embed: Linear,
    /// The transformer.
    pub blocks: Vec<VitBlock>,
    /// The last normalisation.
    pub norm: LayerNorm,
    /// Tokens to patches.
    pub pred: Linear,
    pub(super) grid: usize,
    pub(super) patch: usize,
}

impl Decoder {
    /// Features to patches, on the encoder's scale of pixels.
    ///
    /// # Shapes
    /// - features: `[batch, tokens, encoder's width]`; another grid than the decoder's is resized bilinearly
    /// - output: `[batch, grid * grid, patch * patch * channels]`, channel fastest
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        self.pred.forward(self.hidden(features))
    }

    /// The tokens that the last layer, [`pred`](Self::pred), turns into patches: `[batch, grid * grid, width]`.
    pub fn hidden(&self, features: Tensor<3>) -> Tensor<3> {
        let tokens = self.embed.forward(features);
        let [batch, count, width] = tokens.dims();
        let tokens = if count == self.grid * self.grid {
            tokens
        } else {
            to_tokens(resize(to_planes(tokens), [self.grid; 2], Filter::Bilinear))
        };
        let class = self.class_token.val().expand([batch, 1, width]);
        let tokens = Tensor::cat(vec![class, tokens], 1) + self.pos_embed.val();
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        self.norm.forward(tokens).slice_dim(1, 1..)
    }

    /// Patches in place: `[batch, grid * grid, patch * patch * channels]` to `[batch, channels, height, width]`.
    pub fn images(&self, patches: Tensor<3>) -> Tensor<4> {
        unpatchify(patches, [self.grid; 2], self.patch)
    }

    /// This decoder with published weights. A file without the position table, which is computed and never trained,
    /// leaves it as it is.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Self::select_weights(weights)?;
        weights.insert_missing("decoder_pos_embed", || self.pos_embed.val().into_data());
        weights.into_module(self, Self::official_key)
    }

    /// The decoder that a file holds, under its own names: see [`Weights::network`].
    ///
    /// # Errors
    /// If there are several.
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        weights.network(&["decoder_embed.weight"])
    }

    /// Its weights under the published names.
    pub fn weights(&self) -> Weights {
        Weights::of(self, Self::official_key)
    }

    /// The published name of the parameter at `path`.
    pub fn official_key(path: &str) -> String {
        match path.split_once('.') {
            Some(("blocks", rest)) => format!("decoder_layers.{}", mae_block_key(rest)),
            None if path == "class_token" => "trainable_cls_token".into(),
            _ => format!("decoder_{path}"),
        }
    }
}
