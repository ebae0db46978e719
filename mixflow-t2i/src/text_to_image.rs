//! Images of prompts.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use mixflow::Error;
use mixflow::backbones::Condition;
use mixflow::backbones::autoencoder::{Autoencoder, KlAutoencoder};
use mixflow::evaluation::Visit;
use mixflow::sampling::solver::{NoiseSource, SampleError, SeededNoise};
use mixflow::sampling::{Flow, Guidance, Images, Samples};
use mixflow::schedules::{Linear, Prediction, Reversed};

use crate::{MmDit, TextEmbedding, TextSampling, folder};

/// Stable Diffusion 3 or 3.5 behind its text encoders: from what they say of prompts to images.
///
/// ```no_run
/// use mixflow_t2i::{TextEmbedding, TextSampling, TextToImage};
///
/// # fn draw(text: TextEmbedding) -> Result<(), mixflow::Error> {
/// let mut pipeline = TextToImage::from_folder("stable-diffusion-3.5-medium")?;
/// pipeline.sampling = TextSampling::stable_diffusion_3_5_medium();
/// let images = pipeline.images(&text, [1024, 1024], 0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextToImage {
    /// The network, without autodiff.
    pub network: MmDit,
    /// What makes images of its latents; none where it draws pixels.
    pub autoencoder: Option<KlAutoencoder>,
    /// Solver, times, guidance and size of a batch.
    pub sampling: TextSampling,
    /// Seed of all noise.
    pub seed: u64,
}

impl TextToImage {
    /// The networks of a folder that `diffusers` has written, such as a download of `stabilityai/stable-diffusion-3.5-medium`:
    /// `transformer` and `vae` with their weights in one file or in shards, and the shift of `scheduler`. Sampling is
    /// [`TextSampling::diffusers`], the seed 0; both can be changed.
    ///
    /// # Errors
    /// If a file is missing or describes something else, or weights do not fit.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let (network, autoencoder, shift) = folder::read(folder.as_ref(), &Device::default())?;
        Ok(Self { network, autoencoder: Some(autoencoder), sampling: TextSampling::diffusers(shift)?, seed: 0 })
    }

    /// One image a prompt, of `height` and `width` pixels. Image `i` starts from the noise of number `first + i`, whatever
    /// the size of a batch.
    ///
    /// # Errors
    /// For a size that the network has no places for, numbers of images from 2⁴⁴ on, settings that make no sense, and if a
    /// state is not finite.
    pub fn images(&self, text: &TextEmbedding, size: [usize; 2], first: u64) -> Result<Images, Error> {
        self.images_with(text, size, first, &mut |_, _, _| {})
    }

    /// As [`images`](Self::images); `visit` sees every state on the way, with its time and the number of its first image.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn images_with(
        &self,
        text: &TextEmbedding,
        size: [usize; 2],
        first: u64,
        visit: &mut Visit<'_>,
    ) -> Result<Images, Error> {
        let latents = self.latents(size)?;
        let device = text.tokens.device();
        let (prompts, batch) = (text.batch(), self.sampling.batch);
        if batch == 0 {
            return Err(SampleError::Config("batch must be at least 1, found 0".into()).into());
        }
        SeededNoise::check(first, prompts)?;
        let mut images = Images { pixels: vec![], shape: [prompts, latents[0], size[0], size[1]], evaluations: 0 };
        for start in (0..prompts).step_by(batch) {
            let end = (start + batch).min(prompts);
            let rows = Tensor::<1, Int>::arange(start as i64..end as i64, &device);
            let mut noise = SeededNoise::new(self.seed, first + start as u64, &device);
            let [channels, height, width] = latents;
            let x = noise.start([end - start, channels, height, width]);
            let samples = self.trajectory(&text.clone().select(rows), x, &mut noise, |t, x| visit(t, start, x))?;
            images.evaluations = images.evaluations.max(samples.evaluations);
            let made = match &self.autoencoder {
                Some(autoencoder) => autoencoder.decode(samples.x),
                None => samples.x,
            };
            images.shape[1..].copy_from_slice(&made.dims()[1..]);
            images.pixels.extend(made.into_data().iter::<f32>());
        }
        Ok(images)
    }

    /// Carries `noise`, drawn from `N(0, I)`, to latents, showing `visit` every time of the grid with its state.
    ///
    /// # Shapes
    /// - noise: `[batch, channels, height, width]`, one a prompt
    ///
    /// # Errors
    /// For settings that make no sense, and if a state is not finite.
    pub fn trajectory(
        &self,
        text: &TextEmbedding,
        noise: Tensor<4>,
        source: &mut dyn NoiseSource,
        visit: impl FnMut(f64, &Tensor<4>),
    ) -> Result<Samples, Error> {
        let skipped = self.skipped()?;
        let mut flow = flow(&self.network, text.clone());
        if let Some(guidance) = self.sampling.guidance {
            flow = flow.guided(self::flow(&self.network, text.clone().null()), guidance);
        }
        if let Some((network, guidance)) = &skipped {
            flow = flow.guided_also(self::flow(network, text.clone()), *guidance);
        }
        Ok(self.sampling.sampler.trajectory(&flow, noise, source, visit)?)
    }

    /// Pixels along an edge of an image per value along an edge of what the network draws: 8 for the published ones.
    pub fn factor(&self) -> usize {
        self.autoencoder.as_ref().map_or(1, KlAutoencoder::factor)
    }

    /// Height and width, in pixels, of the images that the network is made for.
    pub fn default_side(&self) -> usize {
        self.factor() * self.network.input_size()
    }

    /// The network without the blocks that the sampling skips, and how to lead away from it.
    fn skipped(&self) -> Result<Option<(MmDit, Guidance)>, SampleError> {
        let Some(skip) = &self.sampling.skip_layers else { return Ok(None) };
        let depth = self.network.transformer_blocks.len();
        if let Some(block) = skip.blocks.iter().find(|&&block| block >= depth) {
            return Err(SampleError::Config(format!("skip_layers.blocks must be 0 to {}, found {block}", depth - 1)));
        }
        let guidance = skip.guidance(&self.sampling.sampler.grid)?;
        Ok(guidance.map(|guidance| (self.network.without_blocks(&skip.blocks), guidance)))
    }

    /// Channels, height and width of the latents of an image of this size, or why there are none.
    fn latents(&self, [height, width]: [usize; 2]) -> Result<[usize; 3], SampleError> {
        let step = self.factor() * self.network.patch();
        let most = step * self.network.table();
        for (name, size) in [("height", height), ("width", width)] {
            if size == 0 || !size.is_multiple_of(step) || size > most {
                return Err(SampleError::Config(format!(
                    "{name} must be a multiple of {step} pixels, at most {most}, found {size}"
                )));
            }
        }
        let factor = self.factor();
        Ok([self.network.channels(), height / factor, width / factor])
    }
}

/// What the network says under these prompts.
fn flow(network: &MmDit, text: TextEmbedding) -> Flow<'_> {
    Flow::of(&Reversed(Linear), Prediction::Velocity, network, text)
}
