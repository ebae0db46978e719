//! CLIP score: how well images show what they are told.

mod config;
mod vision;

pub use vision::ClipVision;

use std::fmt;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::data::{RgbImage, short_side_crop};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::text::{ClipTextModel, EncoderFiles, Truncation};
use config::{Config, Preprocessing};

/// Images and texts that the networks see at a time.
const BATCH: usize = 16;

/// A whole CLIP, which tells how near an image is to a text.
///
/// # Source
/// Hessel et al. 2021, `CLIPScore` (arXiv 2104.08718), equation 1; preprocessing and networks are those of Hugging Face
/// Transformers 5.24.0, `CLIPModel` and `CLIPImageProcessor` with Pillow 12.3.0.
#[derive(Debug)]
pub struct ClipScore {
    stored: EncoderFiles<Config>,
    text: ClipTextModel,
    vision: ClipVision,
    preprocessing: Preprocessing,
    device: Device,
}

/// The mean of what [`ClipScore`] says of images and their captions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClipScores {
    /// How many images.
    pub images: usize,
    /// The mean cosine between an image and its caption.
    pub cosine: f64,
    /// `100 cosine`, or 0 where that is below: the CLIP score of `torchmetrics`, which cuts long captions without an end.
    pub clip_score: f64,
    /// Standard error of `clip_score`; none of a single image.
    pub standard_error: Option<f64>,
    /// The mean of `2.5 max(cosine, 0)`: CLIP-S of Hessel et al., whose captions begin with "A photo depicts" where theirs do.
    pub clip_s: f64,
}

impl ClipScore {
    /// That of a folder of Transformers, such as `openai/clip-vit-large-patch14`: `config.json`, weights, vocabulary and
    /// `preprocessor_config.json`, or `processor_config.json`.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another network.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let mut stored = EncoderFiles::open(folder, ".", ".", Config::read, |config| config.text.vocab_size)?;
        let positions = stored.config.text.max_position_embeddings;
        if stored.tokenizer.length() > positions {
            stored = stored.with_length(positions)?;
        }
        let Config { text, vision } = &stored.config;
        let preprocessing = Preprocessing::of_folder(folder, vision.image_size)?;
        Ok(Self {
            text: text.init(device).load(stored.weights.clone())?,
            vision: vision.init(text.projection_dim, device).load(stored.weights.clone())?,
            preprocessing,
            device: device.clone(),
            stored,
        })
    }

    /// Images as the network takes them: the shorter side resized bicubically, the centre cut, pixels normalised.
    ///
    /// # Shapes
    /// - output: `[images, 3, side, side]`
    pub fn preprocess(&self, images: &[RgbImage]) -> Tensor<4> {
        let (side, Preprocessing { image_mean, image_std, .. }) =
            (self.stored.config.vision.image_size, &self.preprocessing);
        let numbers = |image: &RgbImage| {
            let cut = short_side_crop(image, side as u32).into_raw();
            let channel = |channel: usize| {
                let values = cut.iter().skip(channel).step_by(3);
                let scaled = values.map(|value| (f32::from(*value) / 255.0 - image_mean[channel]) / image_std[channel]);
                scaled.collect::<Vec<f32>>()
            };
            [0, 1, 2].map(channel).concat()
        };
        let numbers = images.iter().flat_map(numbers).collect();
        Tensor::from_data(TensorData::new(numbers, [images.len(), 3, side, side]), &self.device)
    }

    /// SHA-256 of the names and contents of its files.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn identity(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.stored.digest(&mut digest)?;
        Ok(hex::encode(digest.finalize()))
    }

    /// What CLIP says of images: rows of length 1, `[images, projected]`.
    pub fn of_images(&self, images: &[RgbImage]) -> Tensor<2> {
        let of = |images: &[RgbImage]| self.vision.forward(self.preprocess(images));
        normalised(Tensor::cat(images.chunks(BATCH).map(of).collect(), 0))
    }

    /// What CLIP says of texts, of which it reads as much as fits: rows of length 1, `[texts, projected]`.
    ///
    /// # Errors
    /// If the vocabulary cannot express one.
    pub fn of_texts(&self, texts: &[&str]) -> Result<Tensor<2>, Error> {
        let of = |texts: &[&str]| {
            let [ids, _] = self.stored.tokenize(texts, &self.device)?;
            Ok::<_, Error>(self.text.forward(ids).projected)
        };
        Ok(normalised(Tensor::cat(texts.chunks(BATCH).map(of).collect::<Result<_, _>>()?, 0)))
    }

    /// What of texts it does not read.
    ///
    /// # Errors
    /// As [`of_texts`](Self::of_texts).
    pub fn truncations(&self, texts: &[&str]) -> Result<Vec<Truncation>, Error> {
        self.stored.truncations("CLIP", texts)
    }

    /// The cosine between each image and its caption.
    ///
    /// # Errors
    /// As [`of_texts`](Self::of_texts), and those of the images; `tell` hears how many are done.
    pub fn cosines<E: From<Error>>(
        &self,
        captioned: impl IntoIterator<Item = Result<(RgbImage, String), E>>,
        mut tell: impl FnMut(usize),
    ) -> Result<Vec<f64>, E> {
        let (mut cosines, mut captioned) = (vec![], captioned.into_iter());
        loop {
            let block = captioned.by_ref().take(BATCH).collect::<Result<Vec<_>, E>>()?;
            if block.is_empty() {
                return Ok(cosines);
            }
            let (images, texts): (Vec<_>, Vec<_>) = block.into_iter().unzip();
            let texts = self.of_texts(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
            cosines.extend((self.of_images(&images) * texts).sum_dim(1).into_data().iter::<f64>());
            tell(cosines.len());
        }
    }
}

impl ClipScores {
    /// Of cosines, of which there is one at least.
    pub fn of(cosines: &[f64]) -> Self {
        let count = cosines.len() as f64;
        let cosine = cosines.iter().sum::<f64>() / count;
        let squares = cosines.iter().map(|one| (one - cosine).powi(2)).sum::<f64>();
        let standard_error = (cosines.len() > 1).then(|| 100.0 * (squares / (count - 1.0) / count).sqrt());
        let clip_s = 2.5 * cosines.iter().map(|cosine| cosine.max(0.0)).sum::<f64>() / count;
        Self { images: cosines.len(), cosine, clip_score: (100.0 * cosine).max(0.0), standard_error, clip_s }
    }
}

impl fmt::Display for ClipScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, cosine, clip_score, standard_error, clip_s } = self;
        let error = standard_error.map_or_else(String::new, |error| format!(" ± {error:.2}"));
        write!(
            f,
            "CLIP score {clip_score:.2}{error} (100 cosine, as torchmetrics), CLIP-S {clip_s:.4} (2.5 max(cosine, 0), without \
             \"A photo depicts\"), mean cosine {cosine:.4}, images {images}"
        )
    }
}

/// Rows of length 1.
fn normalised(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length
}
