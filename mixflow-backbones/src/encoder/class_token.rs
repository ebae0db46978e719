//! Vision transformers that read a class token before the patches: DINOv2 and the encoder of ViT-MAE.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Architecture, EncoderConfig, Preprocessing};
use crate::embed::{PatchEmbedding, sin_cos_2d};
use crate::init::Initializer;
use crate::keys::{mae_block_key, renamed};
use crate::resize::Filter;
use crate::vit::{LayerNorm, VitBlock, resize_positions};

/// DINOv2, with registers where it was trained with them, or the encoder of ViT-MAE, which here sees all patches.
///
/// # Source
/// Of Hugging Face Transformers 4.56.2, `Dinov2WithRegistersModel` (Oquab et al. 2023, arXiv 2304.07193) and `ViTMAEModel`
/// with a mask ratio of 0 (He et al. 2021, arXiv 2111.06377).
#[derive(Module, Debug)]
pub struct ClassTokenVit {
    /// `[1, 1, width]`
    pub cls_token: Param<Tensor<3>>,
    /// `[1, width]`, of DINOv2: stands for hidden patches in pre-training, unused here.
    pub mask_token: Option<Param<Tensor<2>>>,
    /// `[1, registers, width]`, of DINOv2 with registers.
    pub register_tokens: Option<Param<Tensor<3>>>,
    /// `[1, 1 + positions, width]`: of the class token, then of a square grid. MAE's is a frozen table: zeros, then sines and
    /// cosines.
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
    /// How positions are resized to the grid of an image.
    #[module(skip)]
    filter: Filter,
}

impl ClassTokenVit {
    pub(super) fn new(config: &EncoderConfig, init: &Initializer) -> Self {
        let (width, block, side) = (config.width, config.block(), config.table_side());
        let (is_mae, positions) = (config.architecture == Architecture::Mae, [1, 1 + side * side, width]);
        let table = move || [vec![0.0; width], sin_cos_2d([side, side], width)].concat();
        Self {
            cls_token: init.normal([1, 1, width], 0.02),
            mask_token: (!is_mae).then(|| init.zeros([1, width])),
            register_tokens: (config.registers > 0).then(|| init.normal([1, config.registers, width], 0.02)),
            position_embeddings: if is_mae { init.frozen_by(positions, table) } else { init.normal(positions, 0.02) },
            patch: PatchEmbedding::new(config.channels, config.patch, width, init),
            blocks: (0..config.depth).map(|_| block.init(init, |i, o| init.xavier_linear(i, o))).collect(),
            norm: LayerNorm::new(width, block.epsilon, init),
            learned_norm: config.learned_norm,
            preprocessing: config.preprocessing(),
            filter: if is_mae { Filter::Bicubic } else { Filter::AntialiasedBicubic },
        }
    }

    /// # Shapes
    /// - images: `[batch, channels, height, width]`, preprocessed
    /// - output: `[batch, patches, width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let (tokens, extra) = self.embed(images);
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        self.norm.affine_if(tokens.slice_dim(1, extra..), self.learned_norm)
    }

    /// Tokens that belong to no patch, then the patches of images, `[batch, 1 + registers + patches, width]`; and how many
    /// the former are.
    ///
    /// The class token has the first position, registers have none, patches have the others, resized to their grid.
    fn embed(&self, images: Tensor<4>) -> (Tensor<3>, usize) {
        let [batch, _, height, length] = images.dims();
        let (positions, side) = (self.position_embeddings.val(), self.patch.proj.weight.val().dims()[2]);
        let grid = [height / side, length / side];
        let table = resize_positions(positions.clone().slice_dim(1, 1..), grid, self.filter);
        let class = self.cls_token.val() + positions.slice_dim(1, 0..1);
        let registers = self.register_tokens.as_ref().map(|tokens| tokens.val());
        let extra = Tensor::cat([Some(class), registers].into_iter().flatten().collect(), 1);
        let [_, count, width] = extra.dims();
        (Tensor::cat(vec![extra.expand([batch, count, width]), self.patch.forward(images) + table], 1), count)
    }
}

/// Of a block of DINOv2 here and in `torch.hub`, and what Hugging Face calls it.
pub(super) const DINOV2_BLOCK: [(&str, &str); 7] = [
    ("attn.proj.", "attention.output.dense."),
    ("attn.qkv.", "attn."),
    ("attn.", "attention.attention."),
    ("scale1", "layer_scale1.lambda1"),
    ("scale2", "layer_scale2.lambda1"),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
];

/// The name that Hugging Face gives to the parameter of DINOv2 at `path`.
pub(super) fn dinov2_key(path: &str) -> String {
    official_key(path, |rest| renamed(rest, &DINOV2_BLOCK))
}

/// The name that Hugging Face gives to the parameter of ViT-MAE at `path`.
pub(super) fn mae_key(path: &str) -> String {
    official_key(path, mae_block_key)
}

fn official_key(path: &str, block_key: impl Fn(&str) -> String) -> String {
    match path.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layer.{}", block_key(rest)),
        Some(("norm", rest)) => format!("layernorm.{rest}"),
        _ => format!("embeddings.{}", path.replace("patch.proj.", "patch_embeddings.projection.")),
    }
}
