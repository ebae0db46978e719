//! The published sizes, and any other.

use serde::{Deserialize, Serialize};

use super::{Normalisation, Preprocessing};
use crate::Invalid;
use crate::block::Gelu;
use crate::sizes::{countable, heads_fit, patch_values};
use crate::vit::VitBlockConfig;

/// Shape of an [`Encoder`](super::Encoder).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// The family.
    pub architecture: Architecture,
    /// Channels of an image.
    pub channels: usize,
    /// Side to which images are resized; divisible by `patch`.
    pub input_size: usize,
    /// Side of the images that the table of positions was trained for.
    pub table_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Width of a token; divisible by four and by `heads`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
    /// Tokens that belong to no patch; DINOv2 alone has any.
    #[serde(default)]
    pub registers: usize,
    /// How pixels are normalised.
    pub normalisation: Normalisation,
    /// Whether the last normalisation keeps its learned scale and shift: REPA keeps them, RAE drops them.
    #[serde(default)]
    pub learned_norm: bool,
}

/// The families of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Oquab et al. 2023 (arXiv 2304.07193); registers: Darcet et al. 2023 (arXiv 2309.16588).
    Dinov2,
    /// Tschannen et al. 2025 (arXiv 2502.14786).
    Siglip2,
    /// He et al. 2021 (arXiv 2111.06377).
    Mae,
}

impl EncoderConfig {
    /// DINOv2-B with four registers at 224 px, RAE's encoder for 256 px: 86.6 million parameters.
    pub fn dinov2_base() -> Self {
        Self { registers: 4, ..Self::base(Architecture::Dinov2, 14, 224, 518, Normalisation::ImageNet) }
    }

    /// DINOv2-B without registers, as REPA aligns with it for images of `image_size` px: one token for 16 x 16 of their
    /// pixels, as SiT has at patch 2, with the learned last normalisation.
    ///
    /// # Source
    /// Yu et al. 2024 (arXiv 2410.06940); REPA `train.py` at 67f7145, `preprocess_raw_image`, at 256 and 512 px.
    pub fn dinov2_base_for_repa(image_size: usize) -> Self {
        Self { registers: 0, input_size: 14 * (image_size / 16), learned_norm: true, ..Self::dinov2_base() }
    }

    /// The image half of SigLIP2-B at 256 px: 92.9 million parameters.
    pub fn siglip2_base() -> Self {
        Self::base(Architecture::Siglip2, 16, 256, 256, Normalisation::Symmetric)
    }

    /// The encoder of ViT-MAE-B, used at 256 px and trained at 224: 85.8 million parameters.
    pub fn mae_base() -> Self {
        Self::base(Architecture::Mae, 16, 256, 224, Normalisation::ImageNet)
    }

    fn base(
        architecture: Architecture,
        patch: usize,
        input_size: usize,
        table_size: usize,
        normalisation: Normalisation,
    ) -> Self {
        Self {
            architecture,
            channels: 3,
            input_size,
            table_size,
            patch,
            width: 768,
            depth: 12,
            heads: 12,
            hidden: 3072,
            registers: 0,
            normalisation,
            learned_norm: false,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { channels, input_size, table_size, patch, width, heads, .. } = *self;
        Invalid::unless_positive(&[
            ("channels", channels),
            ("input_size", input_size),
            ("table_size", table_size),
            ("patch", patch),
            ("width", width),
            ("depth", self.depth),
            ("heads", heads),
            ("hidden", self.hidden),
        ])?;
        if !input_size.is_multiple_of(patch) || table_size < patch {
            let reason = format!(
                "must be divisible by patch and table_size not below it, found {input_size}, {table_size} and {patch}"
            );
            return Err(Invalid::new("input_size", reason));
        }
        heads_fit(width, heads)?;
        if self.registers > 0 && self.architecture != Architecture::Dinov2 {
            return Err(Invalid::new("registers", format!("must be 0 but for dinov2, found {}", self.registers)));
        }
        if self.normalisation == Normalisation::ImageNet && channels != 3 {
            return Err(Invalid::new(
                "channels",
                format!("must be 3 for the image-net normalisation, found {channels}"),
            ));
        }
        let widths = [width as f64, self.hidden as f64, patch_values(channels, patch)];
        countable(self.depth, self.grid().max(self.table_side()), self.registers, &widths)
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        let patches = self.grid().pow(2);
        let extra = match self.architecture {
            Architecture::Dinov2 => 1 + self.registers,
            Architecture::Mae => 1,
            Architecture::Siglip2 => 0,
        };
        let embedding = (patches * self.width * self.channels * self.patch * self.patch) as u64;
        self.depth as u64 * self.block().multiply_adds(patches + extra) + embedding
    }

    /// Patches along a side of an image.
    pub fn grid(&self) -> usize {
        self.input_size / self.patch
    }

    pub(super) fn preprocessing(&self) -> Preprocessing {
        Preprocessing { size: self.input_size, normalisation: self.normalisation }
    }

    pub(super) fn table_side(&self) -> usize {
        self.table_size / self.patch
    }

    /// Hugging Face's configurations: epsilon 1e-6, but 1e-12 in MAE; SigLIP alone has the tanh form of GELU.
    pub(super) fn block(&self) -> VitBlockConfig {
        VitBlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            epsilon: if self.architecture == Architecture::Mae { 1e-12 } else { 1e-6 },
            gelu: if self.architecture == Architecture::Siglip2 { Gelu::Tanh } else { Gelu::Exact },
            scaled: self.architecture == Architecture::Dinov2,
            causal: false,
        }
    }
}
