//! The configuration of an autoencoder of `diffusers`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::KlAutoencoderConfig;
use crate::Error;
use crate::diffusers::read_config;

/// `config.json` of `AutoencoderKL`, of `diffusers` 0.42; what is not named has that class's default.
#[derive(Deserialize)]
struct Config {
    in_channels: Option<usize>,
    latent_channels: usize,
    block_out_channels: Vec<usize>,
    layers_per_block: Option<usize>,
    norm_num_groups: Option<usize>,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    use_quant_conv: Option<bool>,
}

impl KlAutoencoderConfig {
    /// The autoencoder that the `config.json` of an `AutoencoderKL` describes.
    ///
    /// # Errors
    /// If the file cannot be read or describes something else.
    pub fn from_diffusers(file: &Path) -> Result<Self, Error> {
        let config: Config = read_config(file, "AutoencoderKL")?;
        let autoencoder = Self {
            image_channels: config.in_channels.unwrap_or(3),
            latent_channels: config.latent_channels,
            widths: config.block_out_channels,
            depth: config.layers_per_block.unwrap_or(1),
            groups: config.norm_num_groups.unwrap_or(32),
            quant_conv: config.use_quant_conv.unwrap_or(true),
            scale: config.scaling_factor.unwrap_or(0.18215),
            shift: config.shift_factor.unwrap_or(0.0),
        };
        autoencoder.check().map_err(|reason| Error::format(file, format!("cannot be used: {reason}")))?;
        Ok(autoencoder)
    }

    /// This autoencoder's `config.json`.
    pub fn to_diffusers(&self) -> Value {
        let blocks = |kind: &str| vec![kind.to_owned(); self.widths.len()];
        json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "in_channels": self.image_channels,
            "out_channels": self.image_channels,
            "latent_channels": self.latent_channels,
            "block_out_channels": self.widths,
            "down_block_types": blocks("DownEncoderBlock2D"),
            "up_block_types": blocks("UpDecoderBlock2D"),
            "layers_per_block": self.depth,
            "norm_num_groups": self.groups,
            "scaling_factor": self.scale,
            "shift_factor": self.shift,
            "use_quant_conv": self.quant_conv,
            "use_post_quant_conv": self.quant_conv,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of the published repositories, without what does not matter here.
    const SD: &str = r#"{"_class_name": "AutoencoderKL", "_diffusers_version": "0.4.2", "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512], "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
        "norm_num_groups": 32, "out_channels": 3, "sample_size": 256}"#;
    const SD3: &str = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "in_channels": 3,
        "latent_channels": 16, "latents_mean": null, "layers_per_block": 2, "norm_num_groups": 32,
        "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_post_quant_conv": false, "use_quant_conv": false}"#;

    fn read(text: &str) -> Result<KlAutoencoderConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        KlAutoencoderConfig::from_diffusers(&file)
    }

    #[test]
    fn published_configurations_are_those_that_are_known() {
        assert_eq!(read(SD).unwrap(), KlAutoencoderConfig::stable_diffusion());
        assert_eq!(read(SD3).unwrap(), KlAutoencoderConfig::stable_diffusion_3());
    }

    #[test]
    fn others_are_refused() {
        for (text, complaint) in [
            ("[]", "is no configuration"),
            (r#"{"model_type": "bert"}"#, "is no configuration"),
            (SD.replace("AutoencoderKL", "VQModel").as_str(), "describes a VQModel"),
            (SD.replace("32,", "0,").as_str(), "groups must be"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
