//! What the files of a CLIP say of its two halves and of the images that it takes.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::vision::VisionConfig;
use crate::Error;
use crate::text::{ClipConfig, config};

/// `config.json` of a `CLIPModel`.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) text: ClipConfig,
    pub(super) vision: VisionConfig,
}

#[derive(Deserialize)]
struct File {
    text_config: Map<String, Value>,
    vision_config: VisionConfig,
    #[serde(default = "projected")]
    projection_dim: usize,
}

fn projected() -> usize {
    512
}

impl Config {
    /// # Errors
    /// If it cannot be read, or is not that of a whole CLIP: the key is named.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let File { text_config, vision_config: vision, projection_dim } = config::read(path)?;
        // What Transformers takes where the file is silent; both halves are projected to the same width.
        let Value::Object(mut text) = json!({
            "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
            "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "eos_token_id": 49407
        }) else {
            unreachable!("it is an object")
        };
        text.extend(text_config);
        text.insert("projection_dim".into(), projection_dim.into());
        let text = serde_json::from_value::<ClipConfig>(Value::Object(text));
        let text = text.map_err(|error| Error::config(path, format!("text_config: {error}")))?.checked(path)?;
        let sizes = [
            ("vision_config.hidden_size", vision.hidden_size),
            ("vision_config.intermediate_size", vision.intermediate_size),
            ("vision_config.num_attention_heads", vision.num_attention_heads),
        ];
        config::sizes(path, config::WIDEST, &sizes)?;
        let counts = [
            ("vision_config.num_hidden_layers", vision.num_hidden_layers),
            ("vision_config.image_size", vision.image_size),
            ("vision_config.patch_size", vision.patch_size),
        ];
        config::sizes(path, config::MOST_BLOCKS, &counts)?;
        let VisionConfig { hidden_size, num_attention_heads, image_size, patch_size, .. } = vision;
        for (what, whole, part) in [
            ("hidden_size by num_attention_heads", hidden_size, num_attention_heads),
            ("image_size by patch_size", image_size, patch_size),
        ] {
            if !whole.is_multiple_of(part) {
                return Err(Error::config(
                    path,
                    format!("vision_config: {what} must be whole, found {whole} by {part}"),
                ));
            }
        }
        Ok(Self { text, vision })
    }
}

/// `preprocessor_config.json` of a `CLIPImageProcessor`, by the keys that change the numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Preprocessing {
    do_resize: bool,
    do_center_crop: bool,
    do_rescale: bool,
    do_normalize: bool,
    rescale_factor: f64,
    size: Side,
    crop_size: Side,
    pub(super) image_mean: [f32; 3],
    pub(super) image_std: [f32; 3],
    resample: u8,
}

/// A side in pixels, as the versions of Transformers write it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Side {
    Number(usize),
    Shortest { shortest_edge: usize },
    Both { height: usize, width: usize },
}

/// Pillow's number for bicubic.
const BICUBIC: u8 = 3;

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            do_resize: true,
            do_center_crop: true,
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            size: Side::Shortest { shortest_edge: 224 },
            crop_size: Side::Number(224),
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            resample: BICUBIC,
        }
    }
}

/// `processor_config.json`, in which Transformers 5 has it.
#[derive(Deserialize)]
struct Processor {
    image_processor: Preprocessing,
}

impl Preprocessing {
    /// # Errors
    /// If it cannot be read, or does anything else than to cut images bicubically to their shorter side of `image_size` pixels and
    /// to normalise them.
    pub(super) fn of_folder(folder: &Path, image_size: usize) -> Result<Self, Error> {
        let [own, common] = ["preprocessor_config.json", "processor_config.json"].map(|name| folder.join(name));
        match !own.is_file() && common.is_file() {
            true => config::read::<Processor>(&common)?.image_processor.checked(&common, image_size),
            false => config::read::<Self>(&own)?.checked(&own, image_size),
        }
    }

    fn checked(self, path: &Path, image_size: usize) -> Result<Self, Error> {
        let read = self;
        let all = [read.do_resize, read.do_center_crop, read.do_rescale, read.do_normalize] == [true; 4];
        if !all || (read.rescale_factor * 255.0 - 1.0).abs() > 1e-6 {
            let reason = "expected images to be resized, cut, divided by 255 and normalised, as CLIP was trained, found a step left \
                          out";
            return Err(Error::config(path, reason));
        }
        let cut = match (read.size, read.crop_size) {
            (Side::Number(short) | Side::Shortest { shortest_edge: short }, Side::Number(crop)) => [short, crop, crop],
            (Side::Number(short) | Side::Shortest { shortest_edge: short }, Side::Both { height, width }) => {
                [short, height, width]
            }
            _ => [0; 3],
        };
        match cut == [image_size; 3] && read.resample == BICUBIC {
            true => Ok(read),
            false => {
                let reason = format!(
                    "expected bicubic resizing (resample 3) of the shorter side to {image_size} pixels and its centre, as the \
                     network has, found {:?}, {:?} and resample {}",
                    read.size, read.crop_size, read.resample
                );
                Err(Error::config(path, reason))
            }
        }
    }
}
