//! From prompts to images.

use std::fmt;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use mixflow::backbones::autoencoder::KlAutoencoder;
use mixflow::backbones::json::explain;
use mixflow::backbones::weights::Weights;
use mixflow::recipe::{AutoencoderConfig, is_for_text};
use mixflow::sampling::Images;
use mixflow::schedules::{Prediction, Schedule};
use mixflow::train::StoredNetwork;
use serde_json::Value;

use crate::text::TextEncoders;
use crate::{Error, TextEmbedding, TextEncoder, TextRecipe, TextSampling, TextToImage};

/// Everything between prompts and images.
///
/// ```no_run
/// use mixflow_t2i::TextPipeline;
///
/// # fn main() -> Result<(), mixflow_t2i::Error> {
/// let pipeline = TextPipeline::from_folder("stable-diffusion-3.5-medium")?;
/// let images = pipeline.images(&["a lighthouse at night", "two foxes under the moon"], 0)?;
/// # Ok(())
/// # }
/// ```
pub struct TextPipeline {
    /// Who reads the prompts.
    pub encoder: Box<dyn TextEncoder>,
    /// Who makes images of what is read.
    pub text_to_image: TextToImage,
    /// What images are led away from, where there is guidance; empty is no prompt in particular.
    pub negative: String,
    /// Height and width of the images in pixels.
    pub size: [usize; 2],
}

impl TextPipeline {
    /// The networks in a folder: of Stable Diffusion 3 or 3.5 as `diffusers` writes it, see [`TextEncoders::from_folder`] and
    /// [`TextToImage::from_folder`]; or a run of a [`TextRecipe`], its checkpoint, or weights with the recipe beside them.
    ///
    /// # Errors
    /// If the folder is none of these, lacks a file, or a file does not fit.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        if folder.join("transformer").is_dir() || folder.join("model_index.json").is_file() {
            // Encoders are small to open: what they lack is said before the network is read.
            let encoder = Box::new(TextEncoders::from_folder(folder, &Device::default())?);
            let text_to_image = TextToImage::from_folder(folder)?;
            let side = text_to_image.default_side();
            return Ok(Self { encoder, text_to_image, negative: String::new(), size: [side, side] });
        }
        of_run(folder)
    }

    /// One image a prompt: image `i` starts from the noise of number `first + i`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`TextToImage::images`].
    pub fn images(&self, prompts: &[&str], first: u64) -> Result<Images, Error> {
        Ok(self.text_to_image.images(&self.encode(prompts)?, self.size, first)?)
    }

    /// What the network is told of prompts: made once, it serves for images of several seeds and sizes.
    ///
    /// # Errors
    /// [`Error::NoPrompts`] for none, and if the encoder cannot be read.
    pub fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        self.encoder.encode_against(prompts, &self.negative)
    }
}

/// The network of a run with its recipe.
fn of_run(path: &Path) -> Result<TextPipeline, Error> {
    let stored = StoredNetwork::find(path)?;
    let fault = |path: &Path, reason: String| {
        Error::from(mixflow::Error::Recipe { origin: path.display().to_string(), reason })
    };
    let Some(file) = stored.recipe_file() else {
        return Err(fault(path, "lies beside no recipe.json or config.json that says what network it is".into()));
    };
    let text = fs::read_to_string(&file).map_err(Error::reading(&file))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| fault(&file, format!("not JSON: {}", explain(&error))))?;
    if !is_for_text(&value) {
        return Err(fault(&file, "is the recipe of a network for class labels, not for text".into()));
    }
    let recipe = TextRecipe::parse_value(value).map_err(|reason| fault(&file, reason))?;
    let recipe = match file.parent() {
        Some(folder) if file.ends_with("config.json") => recipe.beside(folder),
        _ => recipe,
    };
    text_to_image(&recipe, &stored).map_err(|reason| match reason {
        Reason::Recipe(reason) => fault(&file, reason),
        Reason::Other(error) => *error,
    })
}

/// What is wrong: with the recipe, or with something else.
enum Reason {
    Recipe(String),
    Other(Box<Error>),
}

impl<E: Into<Error>> From<E> for Reason {
    fn from(error: E) -> Self {
        Self::Other(Box::new(error.into()))
    }
}

fn text_to_image(recipe: &TextRecipe, stored: &StoredNetwork) -> Result<TextPipeline, Reason> {
    let (objective, sampling) = (&recipe.objective, &recipe.sampling);
    // The path of Stable Diffusion 3, from data to noise in a straight line.
    let halfway = objective.schedule.at(0.25);
    if objective.prediction != Prediction::Velocity
        || [halfway.time, halfway.alpha, halfway.sigma] != [0.75, 0.25, 0.75]
    {
        return Err(Reason::Recipe(
            "images of prompts are made on the path of Stable Diffusion 3 only: a velocity, and \
             {\"kind\": \"linear\", \"reversed\": true}"
                .into(),
        ));
    }
    if sampling.active_guide().is_some() {
        return Err(Reason::Recipe(
            "images of prompts are led away from another prompt, not from a weaker network: leave out sampling.guide"
                .into(),
        ));
    }
    let device = Device::default();
    let autoencoder: Option<KlAutoencoder> = match &recipe.autoencoder {
        None => None,
        Some(AutoencoderConfig::Kl { network, weights }) => {
            Some(network.init(0, &device).load(Weights::read(weights)?)?)
        }
        Some(_) => return Err(Reason::Recipe("images of prompts are made by a kl autoencoder or by none".into())),
    };
    let network = recipe.load(stored, &device)?;
    let sampling = TextSampling {
        sampler: sampling.sampler.clone(),
        guidance: sampling.guidance,
        skip_layers: None,
        batch: sampling.batch,
    };
    let text_to_image = TextToImage { network, autoencoder, sampling, seed: recipe.seed };
    let side = text_to_image.default_side();
    let encoder = recipe.network.text.open()?;
    Ok(TextPipeline { encoder, text_to_image, negative: String::new(), size: [side, side] })
}

/// Without the weights.
impl fmt::Debug for TextPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text_to_image, negative, size, .. } = self;
        f.debug_struct("TextPipeline")
            .field("sampling", &text_to_image.sampling)
            .field("negative", negative)
            .field("size", size)
            .finish_non_exhaustive()
    }
}
