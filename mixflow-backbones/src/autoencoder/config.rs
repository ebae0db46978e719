//! The published autoencoders, and any other.

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Shape of a [`KlAutoencoder`](super::KlAutoencoder) and normalisation of its latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlAutoencoderConfig {
    /// Channels of the image.
    pub image_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels at every level, finest first; each level halves the sides.
    pub widths: Vec<usize>,
    /// Residual blocks of a level; the decoder has one more.
    pub depth: usize,
    /// Groups of a normalisation; divides every width.
    pub groups: usize,
    /// Whether convolutions one pixel wide stand between networks and latents.
    pub quant_conv: bool,
    /// What latents are multiplied with, after the shift.
    pub scale: f64,
    /// What is subtracted from latents.
    #[serde(default)]
    pub shift: f64,
}

impl KlAutoencoderConfig {
    /// That of Stable Diffusion, SiT and REPA: 4 channels, an eighth of the sides, 84 million parameters.
    ///
    /// # Source
    /// Rombach et al. 2022 (arXiv 2112.10752); `CompVis/stable-diffusion`, `v1-inference.yaml`.
    pub fn stable_diffusion() -> Self {
        Self {
            image_channels: 3,
            latent_channels: 4,
            widths: vec![128, 256, 512, 512],
            depth: 2,
            groups: 32,
            quant_conv: true,
            scale: 0.18215,
            shift: 0.0,
        }
    }

    /// That of Stable Diffusion 3: 16 channels.
    ///
    /// # Source
    /// Esser et al. 2024 (arXiv 2403.03206); `Stability-AI/sd3.5` at fbf8f48, `sd3_impls.py`.
    pub fn stable_diffusion_3() -> Self {
        Self { latent_channels: 16, quant_conv: false, scale: 1.5305, shift: 0.0609, ..Self::stable_diffusion() }
    }

    /// That of FLUX.1, the same network with other weights.
    ///
    /// # Source
    /// `configs` of `black-forest-labs/flux` at 802fb47, `src/flux/util.py`.
    pub fn flux_1() -> Self {
        Self { scale: 0.3611, shift: 0.1159, ..Self::stable_diffusion_3() }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless_positive(&[
            ("image_channels", self.image_channels),
            ("latent_channels", self.latent_channels),
            ("depth", self.depth),
            ("groups", self.groups),
            ("widths", self.widths.len()),
        ])?;
        // 2^16 pixels a latent: beyond that, sizes overflow before they mean anything.
        if self.widths.len() > 17 {
            return Err(Invalid::new("widths", format!("must be at most 17, found {}", self.widths.len())));
        }
        if let Some(width) = self.widths.iter().find(|&&width| width == 0 || !width.is_multiple_of(self.groups)) {
            let reason = format!("must be divisible by groups, found {width} and {}", self.groups);
            return Err(Invalid::new("widths", reason));
        }
        const LARGEST: usize = 1 << 16;
        let sizes = [
            ("widths", self.widths.iter().copied().max().unwrap_or(0)),
            ("image_channels", self.image_channels),
            ("latent_channels", self.latent_channels),
            ("depth", self.depth),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| *size > LARGEST) {
            return Err(Invalid::new(key, format!("must be at most {LARGEST}, found {size}")));
        }
        if !(self.scale.is_finite() && self.scale > 0.0 && self.shift.is_finite()) {
            let reason = format!("must be positive and shift finite, found {} and {}", self.scale, self.shift);
            return Err(Invalid::new("scale", reason));
        }
        Ok(())
    }

    /// Widths of the finest and the coarsest level.
    pub(super) fn ends(&self) -> [usize; 2] {
        [self.widths[0], self.widths[self.widths.len() - 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let config = KlAutoencoderConfig::stable_diffusion();
        assert_eq!(config.check(), Ok(()));
        for (fault, expected) in [
            (KlAutoencoderConfig { depth: 0, ..config.clone() }, "depth must be"),
            (KlAutoencoderConfig { widths: vec![], ..config.clone() }, "widths must be at least 1"),
            (KlAutoencoderConfig { widths: vec![32; 18], ..config.clone() }, "widths must be at most 17"),
            (KlAutoencoderConfig { widths: vec![128, 100], ..config.clone() }, "widths must be divisible"),
            (KlAutoencoderConfig { widths: vec![1 << 20], ..config.clone() }, "widths must be at most 65536"),
            (KlAutoencoderConfig { scale: f64::NAN, ..config.clone() }, "scale must be positive"),
        ] {
            let found = fault.check().unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
