//! The frozen part.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::DiscriminatorConfig;
use crate::block::Gelu;
use crate::embed::PatchEmbedding;
use crate::encoder::Normalisation;
use crate::init::Initializer;
use crate::resize::{Filter, resize};
use crate::sizes::demand;
use crate::vit::{VitBlock, VitBlockConfig};
use crate::weights::Weights;
use crate::{Error, Linear};

/// A vision transformer that DINO has trained, under the names of its published file.
///
/// # Source
/// Caron et al. 2021 (arXiv 2104.14294); RAE `src/disc/dinodisc.py` at a4d18c4, `FrozenDINONoDrop`, whose perceptrons
/// have the tanh form of GELU.
#[derive(Module, Debug)]
pub struct Dino {
    /// `[1, 1, width]`
    pub cls_token: Param<Tensor<3>>,
    /// `[1, 1 + positions, width]`
    pub pos_embed: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbedding,
    /// The transformer.
    pub blocks: Vec<VitBlock<Linear>>,
    input_size: usize,
    #[module(skip)]
    taps: Vec<usize>,
}

/// Added to the variance in every normalisation.
const EPSILON: f64 = 1e-6;

impl DiscriminatorConfig {
    /// The frozen part with random weights, drawn when first read: [`Dino::load`] published ones.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn features(&self, seed: u64, device: &Device) -> Dino {
        demand(self.check());
        Dino::new(self, &Initializer::new(seed, device))
    }
}

impl Dino {
    fn new(config: &DiscriminatorConfig, init: &Initializer) -> Self {
        let DiscriminatorConfig { input_size, patch, width, depth, heads, hidden, ref taps, .. } = *config;
        let gelu = Gelu::Tanh;
        let block = VitBlockConfig { width, heads, hidden, epsilon: EPSILON, gelu, scaled: false, causal: false };
        Self {
            cls_token: init.normal([1, 1, width], 0.02),
            pos_embed: init.normal([1, 1 + (input_size / patch).pow(2), width], 0.02),
            patch_embed: PatchEmbedding::new(3, patch, width, init),
            blocks: (0..depth).map(|_| block.init(init, |i, o| init.xavier_linear(i, o))).collect(),
            input_size,
            taps: taps.clone(),
        }
    }

    /// The tokens of the patches after the last block, then after each tapped one.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, in [-1, 1], resized bilinearly
    /// - output: `[batch, tokens, width]` each
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<3>> {
        let images = Normalisation::ImageNet.apply(resize(images, [self.input_size; 2], Filter::Bilinear));
        let [batch, ..] = images.dims();
        let class = self.cls_token.val();
        let [.., width] = class.dims();
        let tokens = Tensor::cat(vec![class.expand([batch, 1, width]), self.patch_embed.forward(images)], 1);
        let mut x = tokens + self.pos_embed.val();
        let patches = |x: &Tensor<3>| x.clone().slice_dim(1, 1..);
        let mut tapped = Vec::with_capacity(1 + self.taps.len());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if self.taps.contains(&index) {
                tapped.push(patches(&x));
            }
        }
        tapped.insert(0, patches(&x));
        tapped
    }

    /// These features with the weights of DINO's published file (`dino_deitsmall8_pretrain.pth`), whose last
    /// normalisation is left out.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let weights = weights.network(&["patch_embed.proj.weight"])?.without(&["norm.weight", "norm.bias"]);
        weights.into_module(self, str::to_string)
    }

    /// Its weights under the published names.
    pub fn weights(&self) -> Weights {
        Weights::of(self, str::to_string)
    }
}
