//! DINOv2.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::tokens::embed;
use super::{EncoderConfig, Preprocessing};
use crate::embed::PatchEmbedding;
use crate::init::Initializer;
use crate::keys::renamed;
use crate::resize::Filter;
use crate::vit::{LayerNorm, VitBlock};

/// DINOv2, with registers where it was trained with them.
///
/// # Source
/// Oquab et al. 2023 (arXiv 2304.07193); Hugging Face Transformers 4.56.2, `Dinov2WithRegistersModel`.
#[derive(Module, Debug)]
pub struct Dinov2 {
    /// `[1, 1, width]`
    pub cls_token: Param<Tensor<3>>,
    /// Stands for hidden patches in pre-training, unused here: `[1, width]`.
    pub mask_token: Param<Tensor<2>>,
    /// `[1, registers, width]`
    pub register_tokens: Option<Param<Tensor<3>>>,
    /// `[1, 1 + positions, width]`: of the class token, then of a square grid.
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

impl Dinov2 {
    pub(super) fn new(config: &EncoderConfig, init: &Initializer) -> Self {
        let (width, block) = (config.width, config.block());
        let positions = 1 + config.table_side().pow(2);
        Self {
            cls_token: init.normal([1, 1, width], 0.02),
            mask_token: init.zeros([1, width]),
            register_tokens: (config.registers > 0).then(|| init.normal([1, config.registers, width], 0.02)),
            position_embeddings: init.normal([1, positions, width], 0.02),
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
        let registers = self.register_tokens.as_ref().map(|tokens| tokens.val());
        let (positions, class) = (self.position_embeddings.val(), self.cls_token.val());
        let (tokens, extra) = embed(&self.patch, images, positions, Filter::AntialiasedBicubic, class, registers);
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        self.norm.affine_if(tokens.slice_dim(1, extra..), self.learned_norm)
    }
}

/// Of a block here and in `torch.hub`, and what Hugging Face calls it.
pub(super) const BLOCK: [(&str, &str); 7] = [
    ("attn.proj.", "attention.output.dense."),
    ("attn.qkv.", "attn."),
    ("attn.", "attention.attention."),
    ("scale1", "layer_scale1.lambda1"),
    ("scale2", "layer_scale2.lambda1"),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
];

/// The name that Hugging Face gives to the parameter at `path`.
pub(super) fn official_key(path: &str) -> String {
    match path.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layer.{}", renamed(rest, &BLOCK)),
        Some(("norm", rest)) => format!("layernorm.{rest}"),
        _ => format!("embeddings.{}", path.replace("patch.proj.", "patch_embeddings.projection.")),
    }
}
