//! The image half of SigLIP 2.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{EncoderConfig, Preprocessing};
use crate::Linear;
use crate::block::Mlp;
use crate::embed::PatchEmbedding;
use crate::init::Initializer;
use crate::keys::clip_block_key;
use crate::resize::Filter;
use crate::vit::{LayerNorm, VitBlock, resize_positions};

/// The vision tower of SigLIP 2.
///
/// # Source
/// Tschannen et al. 2025 (arXiv 2502.14786); Hugging Face Transformers 4.56.2, `SiglipVisionModel`.
#[derive(Module, Debug)]
pub struct Siglip2 {
    /// Patches to tokens.
    pub patch: PatchEmbedding,
    /// `[positions, width]`, a square grid.
    pub position: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<VitBlock>,
    /// The last normalisation.
    pub norm: LayerNorm,
    /// Pools tokens into one vector; files have it, features of patches do without.
    pub head: AttentionPool,
    pub(super) learned_norm: bool,
    #[module(skip)]
    pub(super) preprocessing: Preprocessing,
}

/// Attention of one learned query over all tokens, kept with the network and not computed here.
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// The query, `[1, 1, width]`.
    pub probe: Param<Tensor<3>>,
    /// `[3 * width, width]`: queries, keys, values.
    pub in_proj_weight: Param<Tensor<2>>,
    /// `[3 * width]`
    pub in_proj_bias: Param<Tensor<1>>,
    /// `width` to `width`
    pub out_proj: Linear,
    /// After attention.
    pub layernorm: LayerNorm,
    /// Perceptron.
    pub mlp: Mlp,
}

impl Siglip2 {
    pub(super) fn new(config: &EncoderConfig, init: &Initializer) -> Self {
        let (width, hidden, block) = (config.width, config.hidden, config.block());
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs);
        Self {
            patch: PatchEmbedding::new(config.channels, config.patch, width, init),
            position: init.normal([config.table_side().pow(2), width], 0.02),
            blocks: (0..config.depth).map(|_| block.init(init, linear)).collect(),
            norm: LayerNorm::new(width, block.epsilon, init),
            head: AttentionPool {
                probe: init.normal([1, 1, width], 0.02),
                in_proj_weight: init.xavier([3 * width, width]),
                in_proj_bias: init.zeros([3 * width]),
                out_proj: linear(width, width),
                layernorm: LayerNorm::new(width, block.epsilon, init),
                mlp: Mlp::new(width, hidden, block.gelu, linear),
            },
            learned_norm: config.learned_norm,
            preprocessing: config.preprocessing(),
        }
    }

    /// # Shapes
    /// - images: `[batch, channels, height, width]`, preprocessed
    /// - output: `[batch, patches, width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [_, _, height, length] = images.dims();
        let patch = self.patch.proj.weight.val().dims()[2];
        let grid = [height / patch, length / patch];
        let table = resize_positions(self.position.val().unsqueeze(), grid, Filter::Bicubic);
        let tokens = self.patch.forward(images) + table;
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        self.norm.affine_if(tokens, self.learned_norm)
    }
}

/// What files of `SiglipModel` hold beside this half: the other half, and what compares the two; old ones also the numbers
/// of the positions.
pub(super) const OTHERS: [&str; 4] =
    ["text_model.", "logit_scale", "logit_bias", "vision_model.embeddings.position_ids"];

/// The name that Hugging Face gives to the parameter at `path`.
pub(super) fn official_key(path: &str) -> String {
    let name = match path.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layers.{}", clip_block_key(rest)),
        Some(("norm", rest)) => format!("post_layernorm.{rest}"),
        Some(("head", _)) => path.replace("in_proj", "attention.in_proj").replace("out_proj.", "attention.out_proj."),
        Some(("patch", rest)) => format!("embeddings.patch_embedding.{}", rest.replace("proj.", "")),
        _ => "embeddings.position_embedding.weight".into(),
    };
    format!("vision_model.{name}")
}
