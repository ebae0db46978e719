//! The encoder of a masked autoencoder.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::tokens::embed;
use super::{EncoderConfig, Preprocessing};
use crate::embed::{PatchEmbedding, sin_cos_2d};
use crate::init::Initializer;
use crate::keys::mae_block_key;
use crate::resize::Filter;
use crate::vit::{LayerNorm, VitBlock};

/// The encoder of ViT-MAE, which here sees all patches.
///
/// # Source
/// He et al. 2021 (arXiv 2111.06377); Hugging Face Transformers 4.56.2, `ViTMAEModel` with a mask ratio of 0.
#[derive(Module, Debug)]
pub struct Mae {
    /// `[1, 1, width]`
    pub cls_token: Param<Tensor<3>>,
    /// Frozen sine-cosine table, `[1, 1 + positions, width]`: zeros for the class token, then a square grid.
    pub position_embeddings: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch: PatchEmbedding,
    /// The transformer.
    pub blocks: Vec<VitBlock>,
    /// The last normalisation.
    pub norm: LayerNorm,
    pub(super) learned_norm: bool,
    #[module(skip)]
    pub(super) preprocessing: Preprocessing,
}

impl Mae {
    pub(super) fn new(config: &EncoderConfig, init: &Initializer) -> Self {
        let (width, block, side) = (config.width, config.block(), config.table_side());
        let positions = move || [vec![0.0; width], sin_cos_2d([side, side], width)].concat();
        Self {
            cls_token: init.normal([1, 1, width], 0.02),
            position_embeddings: init.frozen_by([1, 1 + side * side, width], positions),
            patch: PatchEmbedding::new(config.channels, config.patch, width, init),
            blocks: (0..config.depth).map(|_| block.init(init, |i, o| init.xavier_linear(i, o))).collect(),
            norm: LayerNorm::new(width, block.epsilon, init),
            learned_norm: config.learned_norm,
            preprocessing: config.preprocessing(),
        }
    }

    /// # Shapes
    /// - images: `[batch, channels, height, width]`, preprocessed
    /// - output: `[batch, patches, width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let (positions, class) = (self.position_embeddings.val(), self.cls_token.val());
        let (tokens, extra) = embed(&self.patch, images, positions, Filter::Bicubic, class, None);
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        self.norm.affine_if(tokens.slice_dim(1, extra..), self.learned_norm)
    }
}

/// The name that Hugging Face gives to the parameter at `path`.
pub(super) fn official_key(path: &str) -> String {
    match path.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layer.{}", mae_block_key(rest)),
        Some(("norm", rest)) => format!("layernorm.{rest}"),
        _ => format!("embeddings.{}", path.replace("patch.proj.", "patch_embeddings.projection.")),
    }
}
