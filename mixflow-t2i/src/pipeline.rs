//! From prompts to images.

use std::fmt;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Condition;
use mixflow::evaluation::{Generator, Visit, Weaker};
use mixflow::numbers::counted;
use mixflow::recipe::Sides;
use mixflow::sampling::Images;
use mixflow::sampling::solver::SampleError;
use mixflow::{Pipeline, StoredPipeline, check_memory, device};

use crate::from_diffusers::from_diffusers;
use crate::{Error, SkipLayers, TextEmbedding, TextEncoder, TextNetworkConfig, TextSampling, Transformer};

/// Everything between prompts and images: a [`Pipeline`] behind a text encoder.
///
/// ```no_run
/// use mixflow_t2i::TextPipeline;
///
/// let pipeline = TextPipeline::from_folder("stable-diffusion-3.5-medium", &Default::default())?;
/// let images = pipeline.images(&["a lighthouse at night", "two foxes under the moon"], 0)?;
/// # Ok::<(), mixflow_t2i::Error>(())
/// ```
pub struct TextPipeline {
    /// Who reads the prompts.
    pub encoder: Box<dyn TextEncoder>,
    /// Who makes images of what is read; its recipe says how.
    pub pipeline: Pipeline<TextNetworkConfig>,
    /// Guidance away from the network without some of its blocks, beside that of the recipe.
    pub skip_layers: Option<SkipLayers>,
    /// What images are led away from, where there is guidance; empty is no prompt in particular.
    pub negative: String,
    /// Height and width of the images in pixels.
    pub size: [usize; 2],
}

impl TextPipeline {
    /// The networks in a folder: of Stable Diffusion 3 or 3.5, FLUX.1 or Z-Image as `diffusers` writes it, or of MiniT2I with FLAN-T5 in
    /// `text_encoder` and `tokenizer`, see [`from_diffusers`](crate::from_diffusers); or what [`Pipeline::of_run`] opens of a
    /// [`TextRecipe`](crate::TextRecipe).
    ///
    /// # Errors
    /// If the folder is none of these, lacks a file, or a file does not fit.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::load(Self::find_in_folder(folder)?, device)
    }

    /// The same, yet to be read: for another [precision](mixflow::recipe::SamplingConfig::precision) than that of its recipe.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder).
    pub fn find_in_folder(folder: impl AsRef<Path>) -> Result<StoredPipeline<TextNetworkConfig>, Error> {
        let folder = folder.as_ref();
        match folder.join("transformer").is_dir() || folder.join("model_index.json").is_file() {
            true => from_diffusers(folder),
            false => Ok(StoredPipeline::of_run(folder)?),
        }
    }

    /// Reads what was found onto a device.
    ///
    /// # Errors
    /// If a file is not there or does not fit, and as [`new`](Self::new).
    pub fn load(stored: StoredPipeline<TextNetworkConfig>, device: &Device) -> Result<Self, Error> {
        // Encoders are small to open: what they lack is said before the network is read.
        let encoder = stored.recipe.network.encoder(device)?;
        Ok(Self::with_encoder(stored.load(device)?, encoder))
    }

    /// A network for text behind the encoder that its recipe names, on the device of the network.
    ///
    /// # Errors
    /// If the encoder lacks something, or says something else than the network takes.
    pub fn new(pipeline: Pipeline<TextNetworkConfig>) -> Result<Self, Error> {
        let encoder = pipeline.recipe.network.encoder(&device::of(&pipeline.network))?;
        Ok(Self::with_encoder(pipeline, encoder))
    }

    /// The same behind another encoder, on whatever device.
    pub fn with_encoder(pipeline: Pipeline<TextNetworkConfig>, encoder: Box<dyn TextEncoder>) -> Self {
        let [_, height, width] = pipeline.image_shape();
        Self { encoder, pipeline, skip_layers: None, negative: String::new(), size: [height, width] }
    }

    /// The same with other settings of the sampler.
    #[must_use]
    pub fn with_sampling(mut self, TextSampling { sampling, skip_layers }: TextSampling) -> Self {
        self.pipeline.recipe.sampling = sampling;
        Self { skip_layers, ..self }
    }

    /// One image a prompt: image `i` starts from the noise of number `first + i`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`draw`](Self::draw).
    pub fn images(&self, prompts: &[&str], first: u64) -> Result<Images, Error> {
        self.check()?;
        Ok(self.draw(&self.encode(prompts)?, first, &mut |_| {})?)
    }

    /// Refuses what [`draw`](Self::draw) would, before a prompt is read.
    ///
    /// # Errors
    /// For a size that the network has no places for, and for blocks that it does not have.
    pub fn check(&self) -> Result<(), mixflow::Error> {
        self.weaker()?;
        self.latent_shape()?;
        Ok(())
    }

    /// What the network is told of prompts: made once, it serves for images of several seeds and sizes.
    ///
    /// # Errors
    /// [`Error::NoPrompts`] for none, and if the encoder cannot be read.
    pub fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        self.encoder.encode_with_negative(prompts, &self.negative)
    }

    /// One image of each prompt that was encoded, on the device of the network, wherever the text is; `visit` sees every state on the way.
    ///
    /// # Errors
    /// As [`Generator::draw`], for a size that the network has no places for, and for blocks that it does not have.
    pub fn draw(&self, text: &TextEmbedding, first: u64, visit: &mut Visit<'_>) -> Result<Images, mixflow::Error> {
        let (text, weaker) = (text.clone().on(&device::of(&self.pipeline.network)), self.weaker()?);
        let generator = Generator { shape: self.latent_shape()?, weaker: weaker.as_ref(), ..self.pipeline.generator() };
        generator.draw(&text, text.batch(), first, visit)
    }

    /// `count` images of the prompts in turn, as blocks that are drawn when they are asked for: image `i` is of prompt `i` modulo
    /// their number and starts from the noise of number `i`. `tell` hears how many are done.
    ///
    /// Prompts are read once where they are as many as a block has images or fewer, at least 64; of more, a block's are in memory.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); the blocks as that and [`draw`](Self::draw), and if their embeddings do not fit memory.
    pub fn image_batches<'a>(
        &'a self,
        prompts: &'a [&'a str],
        count: usize,
        mut tell: impl FnMut(u64) + 'a,
    ) -> Result<impl Iterator<Item = Result<Images, mixflow::Error>> + 'a, Error> {
        let block = prompt_block_size(self.pipeline.recipe.sampling.batch);
        let distinct = &prompts[..count.min(prompts.len())];
        let all = if distinct.len() <= block { Some(self.encode(distinct)?) } else { None };
        let fault = |error: Error| mixflow::Error::Condition(error.into());
        Ok((0..count).step_by(block).map(move |first| {
            let images = first..count.min(first + block);
            let text = match &all {
                Some(all) => {
                    let [_, tokens, width] = all.tokens.dims();
                    let what = || format!("embeddings of {} at a time", counted(images.len() as u64, "prompt"));
                    check_memory(what, &[images.len() as u64, tokens as u64, width as u64, 4])?;
                    let rows: Vec<i64> = images.map(|image| (image % distinct.len()) as i64).collect();
                    all.clone().select(Tensor::from_data(&rows[..], &all.tokens.device()))
                }
                None => {
                    let block: Vec<&str> = images.map(|image| prompts[image % prompts.len()]).collect();
                    self.encode(&block).map_err(fault)?
                }
            };
            self.draw(&text, first as u64, &mut |state| tell(first as u64 + state.done))
        }))
    }

    /// The network without the blocks that are skipped, and how to lead away from it.
    fn weaker(&self) -> Result<Option<Weaker<Transformer>>, SampleError> {
        let Some(skip) = &self.skip_layers else { return Ok(None) };
        let ([_, height, width], grid) = (self.latent_shape()?, self.pipeline.recipe.sampling.sampler.grid);
        let grid = grid.for_latents([height, width]).map_err(|fault| SampleError::Config(fault.to_string()))?;
        skip.weaker(&self.pipeline.network, &grid)
    }

    /// Channels, height and width of the latents of an image of this size, or why there are none.
    fn latent_shape(&self) -> Result<[usize; 3], SampleError> {
        let recipe = &self.pipeline.recipe;
        let config = &recipe.network.transformer;
        let ([channels, side, _], [_, input_size, _]) = (self.pipeline.image_shape(), config.shape());
        let Sides { step, most, .. } = config.sides();
        let [step, most] = [step, most].map(|size| side / input_size * size);
        for (name, size) in ["height", "width"].into_iter().zip(self.size) {
            if !size.is_multiple_of(step) || !(step..=most).contains(&size) {
                let reason = format!("{name} must be a multiple of {step} pixels, at most {most}, found {size}");
                return Err(SampleError::Config(reason));
            }
        }
        let [height, width] = self.size;
        match &recipe.autoencoder {
            Some(autoencoder) => autoencoder
                .latent_shape([channels, height, width])
                .map_err(|invalid| SampleError::Config(invalid.to_string())),
            None => Ok([channels, height, width]),
        }
    }
}

/// Prompts that are read at a time where `at_once` are drawn at once: large encoders are read from their files for each block.
pub(crate) fn prompt_block_size(at_once: usize) -> usize {
    at_once.max(64).next_multiple_of(at_once)
}

/// Without the weights.
impl fmt::Debug for TextPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, skip_layers, negative, size, .. } = self;
        f.debug_struct("TextPipeline")
            .field("pipeline", pipeline)
            .field("skip_layers", skip_layers)
            .field("negative", negative)
            .field("size", size)
            .finish_non_exhaustive()
    }
}
