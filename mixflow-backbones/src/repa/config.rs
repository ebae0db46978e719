//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Projector, Repa};
use crate::block::{AdaLnBlock, NormKind};
use crate::init::Initializer;
use crate::sit::SitConfig;
use crate::sizes::{countable, demand, parameters};
use crate::{Activations, Invalid};

/// Shape of a [`Repa`].
///
/// The published code lists SiT-S too but cannot run it: its last layer is 768 wide behind tokens of 384.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepaConfig {
    /// Side of the square latent or image: 32 for 256 px behind an eightfold autoencoder, 64 for 512 px.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Width of a token; divisible by four and by `heads`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
    /// Number of classes; the null label is this number, as the published samplers take it for granted of ImageNet.
    pub classes: usize,
    /// Whether the label table has a row for no class (networks trained with label dropout).
    #[serde(default = "crate::json::yes")]
    pub null_class: bool,
    /// Blocks before the projectors, from 1 to `depth`.
    pub encoder_depth: usize,
    /// Widths of the features that tokens are projected to, one a target encoder: 768 for DINOv2-B.
    pub projectors: Vec<usize>,
    /// Hidden width of the projectors.
    #[serde(default = "published_projector_hidden")]
    pub projector_hidden: usize,
    /// Whether queries and keys are normalised within their heads.
    #[serde(default)]
    pub qk_norm: bool,
}

fn published_projector_hidden() -> usize {
    2048
}

impl RepaConfig {
    /// SiT-B: 138 million parameters at patch 2.
    pub fn base(patch: usize) -> Self {
        Self::published(SitConfig::base(patch), 4)
    }

    /// SiT-L: 466 million parameters at patch 2.
    pub fn large(patch: usize) -> Self {
        Self::published(SitConfig::large(patch), 8)
    }

    /// SiT-XL: 683 million parameters at patch 2.
    pub fn extra_large(patch: usize) -> Self {
        Self::published(SitConfig::extra_large(patch), 8)
    }

    /// ImageNet at 256 px, aligned with DINOv2-B.
    fn published(sit: SitConfig, encoder_depth: usize) -> Self {
        let SitConfig { input_size, patch, channels, width, depth, heads, hidden, classes, null_class, learn_sigma: _ } =
            sit;
        Self {
            input_size,
            patch,
            channels,
            width,
            depth,
            heads,
            hidden,
            classes,
            null_class,
            encoder_depth,
            projectors: vec![768],
            projector_hidden: published_projector_hidden(),
            qk_norm: false,
        }
    }

    /// The network without its projectors.
    fn sit(&self) -> SitConfig {
        SitConfig {
            input_size: self.input_size,
            patch: self.patch,
            channels: self.channels,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            hidden: self.hidden,
            classes: self.classes,
            null_class: self.null_class,
            learn_sigma: false,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        self.sit().check()?;
        let Self { depth, encoder_depth, .. } = *self;
        if !(1..=depth).contains(&encoder_depth) {
            let reason = format!("must be from 1 to depth, {depth}, found {encoder_depth}");
            return Err(Invalid::new("encoder_depth", reason));
        }
        if self.projectors.is_empty() || self.projectors.contains(&0) {
            let reason = format!("must be one width or several, none of them 0, found {:?}", self.projectors);
            return Err(Invalid::new("projectors", reason));
        }
        Invalid::unless_positive(&[("projector_hidden", self.projector_hidden)])?;
        let projector = |&features: &usize| features as f64 + self.projector_hidden as f64;
        let projectors = self.projectors.iter().map(projector).sum::<f64>();
        countable(depth, self.side(), 0, &[self.width as f64, projectors])
    }

    /// Multiplications with addition of one image's forward pass when sampling: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        self.sit().multiply_adds()
    }

    /// What the projectors add to [`multiply_adds`](Self::multiply_adds) in training.
    pub fn projector_multiply_adds(&self) -> u64 {
        let Self { width, projector_hidden: hidden, .. } = *self;
        let tokens = self.side().pow(2);
        let token: usize = self.projectors.iter().map(|features| hidden * (width + hidden + features)).sum();
        (tokens * token) as u64
    }

    /// Number of parameters, the frozen position table included; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        parameters([self.depth], |[depth], init| Self { depth, ..self.clone() }.build(init).num_params())
    }

    /// Channels, height and width of its images.
    pub fn shape(&self) -> [usize; 3] {
        self.sit().shape()
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Repa {
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    fn build(&self, init: &Initializer) -> Repa {
        let mut sit = self.sit().build(init);
        if self.qk_norm {
            let normalised =
                |block: AdaLnBlock| AdaLnBlock { attn: block.attn.with_qk_norm(NormKind::Layer, init), ..block };
            sit.blocks = sit.blocks.into_iter().map(normalised).collect();
        }
        let projector = |&features: &usize| Projector::new(self.width, self.projector_hidden, features, init);
        Repa { sit, projectors: self.projectors.iter().map(projector).collect(), encoder_depth: self.encoder_depth }
    }

    /// Tokens along a side.
    pub(crate) fn side(&self) -> usize {
        self.input_size / self.patch
    }

    /// Of its blocks.
    pub(crate) fn activations(&self) -> Activations {
        Activations::of_blocks(self.depth, [self.side().pow(2), 1, self.width, self.hidden])
    }
}
