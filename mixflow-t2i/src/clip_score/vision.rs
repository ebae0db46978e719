//! The half of CLIP that reads images.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use mixflow::backbones::block::Gelu;
use mixflow::backbones::embed::patchify;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::keys::clip_block_key;
use mixflow::backbones::vit::{LayerNorm, VitBlock, VitBlockConfig};
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Convolution, Linear};
use serde::Deserialize;

use crate::Error;

/// CLIP's vision transformer with its projection.
///
/// # Source
/// Radford et al. 2021 (arXiv 2103.00020), section 2.4; Hugging Face Transformers 5.24.0, `CLIPVisionModelWithProjection`.
#[derive(Module, Debug)]
pub struct ClipVision {
    /// Of the token that stands for the whole image, `[width]`.
    pub class: Param<Tensor<1>>,
    /// Patches to tokens, without bias.
    pub patch: Convolution,
    /// Of the class token, then of a square grid, `[1 + patches, width]`.
    pub position: Param<Tensor<2>>,
    /// Before the transformer.
    pub before: LayerNorm,
    /// The transformer.
    pub blocks: Vec<VitBlock>,
    /// Of the class token after the last block.
    pub norm: LayerNorm,
    /// From the width to that of the space that texts and images share, without bias.
    pub projection: Linear,
}

/// Its shape, by the keys of `vision_config`; what is not named is that of ViT-B/32, as in Transformers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct VisionConfig {
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) image_size: usize,
    pub(super) patch_size: usize,
    hidden_act: Gelu,
    layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Gelu::Quick,
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// The network, frozen; its values are drawn only if none are loaded.
    pub(super) fn init(&self, projected: usize, device: &Device) -> ClipVision {
        let init = Initializer::new(0, device);
        let width = self.hidden_size;
        let block = VitBlockConfig {
            width,
            heads: self.num_attention_heads,
            hidden: self.intermediate_size,
            epsilon: self.layer_norm_eps,
            gelu: self.hidden_act,
            scaled: false,
            causal: false,
        };
        let linear = |inputs, outputs| init.normal_linear(inputs, outputs, 0.02);
        let (side, norm) = (self.patch_size, || LayerNorm::new(width, block.epsilon, &init));
        let patches = (self.image_size / side).pow(2);
        ClipVision {
            class: init.normal([width], 0.02),
            patch: Convolution { weight: init.normal([width, CHANNELS, side, side], 0.02), bias: None },
            position: init.normal([1 + patches, width], 0.02),
            before: norm(),
            blocks: (0..self.num_hidden_layers).map(|_| block.init(&init, linear)).collect(),
            norm: norm(),
            projection: linear(width, projected).without_bias(),
        }
        .no_grad()
    }
}

const CHANNELS: usize = 3;

impl ClipVision {
    /// This network with the weights of a file of a whole CLIP, whose other half is left out.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        const OTHERS: [&str; 4] =
            ["text_model.", "text_projection.weight", "logit_scale", "vision_model.embeddings.position_ids"];
        let own = weights.network(&["vision_model.embeddings.class_embedding"])?.without(&OTHERS);
        Ok(own.into_module(self, official_key)?)
    }

    /// `image_embeds` of Transformers before they are normalised.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]` of the size that it was trained for, preprocessed
    /// - output: `[batch, projected]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let (batch, [width, _, side, _]) = (images.dims()[0], self.patch.weight.val().dims());
        let class = self.class.val().reshape([1, 1, width]).expand([batch, 1, width]);
        let patches = self.patch.of_patches(patchify(images, CHANNELS, side));
        let tokens = Tensor::cat(vec![class, patches], 1) + self.position.val().unsqueeze();
        let tokens = self.blocks.iter().fold(self.before.forward(tokens), |x, block| block.forward(x));
        self.projection.forward(self.norm.forward(tokens.narrow(1, 0, 1)).reshape([batch, width]))
    }
}

/// The name that Transformers gives to the parameter at `path` of a [`ClipVision`].
fn official_key(path: &str) -> String {
    let name = match path.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layers.{}", clip_block_key(rest)),
        Some(("before", rest)) => format!("pre_layrnorm.{rest}"),
        Some(("norm", rest)) => format!("post_layernorm.{rest}"),
        Some(("projection", rest)) => return format!("visual_projection.{rest}"),
        Some(("patch", rest)) => format!("embeddings.patch_embedding.{rest}"),
        _ if path == "class" => "embeddings.class_embedding".into(),
        _ => "embeddings.position_embedding.weight".into(),
    };
    format!("vision_model.{name}")
}
