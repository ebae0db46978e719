//! Images from a network, as many as wanted.
//!
//! An image is a function of the seed, its number and its label, whatever the batch, but for the rounding of matrix
//! products; with an adaptive solver, whose steps are those of a whole batch, within its tolerances. The same images come
//! from a [`Flow`], a [`Sampler`](crate::sampling::Sampler) and [`SeededNoise`].

use burn::tensor::{Device, Tensor};
use mixflow_backbones::{Autoencoder, Backbone, ClassLabels, Condition};

use crate::Error;
use crate::evaluation::metric::Features;
use crate::recipe::{Guide, NetworkSettings, ObjectiveConfig, Recipe, SamplingConfig};
use crate::sampling::solver::{SampleError, SeededNoise};
use crate::sampling::{Flow, Images};

impl Images {
    /// The pixels as feature vectors, clamped to [−1, 1] as an image file would.
    ///
    /// # Errors
    /// If a pixel is not finite.
    pub fn features(&self) -> Result<Features, Error> {
        let [count, channels, height, width] = self.shape;
        let pixels = self.pixels.iter().map(|&pixel| f64::from(pixel.clamp(-1.0, 1.0))).collect();
        Ok(Features::new(count, channels * height * width, pixels)?)
    }
}

/// A network and how to make images with it.
#[derive(Debug)]
pub struct Generator<'a, B> {
    /// The network, without autodiff.
    pub network: &'a B,
    /// What it was trained to say.
    pub objective: &'a ObjectiveConfig,
    /// Solver, times and guidance.
    pub sampling: &'a SamplingConfig,
    /// The label that stands for none: the number of classes.
    pub null: usize,
    /// Channels, height and width of what the network makes.
    pub shape: [usize; 3],
    /// Seed of all noise.
    pub seed: u64,
    /// Factor on the guided velocity, see [`Flow::scaled`]: 1 samples, others are a temperature.
    pub lambda: f64,
    /// What makes images of the network's latents; none where it makes images itself.
    pub autoencoder: Option<&'a dyn Autoencoder>,
    /// The weaker network that [`SamplingConfig::guide`] stands for.
    pub guide: Option<&'a Guide>,
}

/// States of a batch at one time of the grid: time, number of the batch's first image, states.
pub type Visit<'v> = dyn FnMut(f64, usize, &Tensor<4>) + 'v;

impl<N: NetworkSettings> Recipe<N> {
    /// How a network of this recipe makes images, but for what has weights of its own: autoencoder and guide.
    pub fn generator<'a, B>(&'a self, network: &'a B) -> Generator<'a, B> {
        Generator {
            network,
            objective: &self.objective,
            sampling: &self.sampling,
            null: self.network.classes(),
            shape: self.network.shape(),
            seed: self.seed,
            lambda: 1.0,
            autoencoder: None,
            guide: None,
        }
    }
}

impl<B: Backbone<Condition = ClassLabels>> Generator<'_, B> {
    /// One image a label. Image `i` starts from the noise of number `first + i`, so arms with equal seeds share noise.
    ///
    /// # Errors
    /// For labels that are none of the network's classes, numbers of images from 2⁴⁴ on, a state that is not finite, or an
    /// adaptive solver that gives up.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        self.trajectories(labels, first, &mut |_, _, _| {})
    }

    /// As [`images`](Self::images), showing every state.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn trajectories(&self, labels: &[usize], first: u64, visit: &mut Visit<'_>) -> Result<Images, Error> {
        self.check(labels, first)?;
        let device = Device::default();
        let [channels, height, width] = self.shape;
        let mut images = Images { pixels: Vec::new(), shape: [labels.len(), channels, height, width], evaluations: 0 };
        for (batch, labels) in labels.chunks(self.sampling.batch).enumerate() {
            let offset = batch * self.sampling.batch;
            let flow = self.flow(ClassLabels::new(labels, self.null, &device));
            let mut noise = SeededNoise::new(self.seed, first + offset as u64, &device);
            let start = noise.start([labels.len(), channels, height, width]);
            let samples = self.sampling.sampler.trajectory(&flow, start, &mut noise, |t, x| visit(t, offset, x))?;
            images.evaluations = images.evaluations.max(samples.evaluations);
            let made = match self.autoencoder {
                Some(autoencoder) => autoencoder.decode(samples.x),
                None => samples.x,
            };
            images.shape[1..].copy_from_slice(&made.dims()[1..]);
            images.pixels.extend(made.into_data().iter::<f32>());
        }
        Ok(images)
    }

    /// The velocity field of a batch of these labels, guided as the sampling says, and scaled.
    ///
    /// # Panics
    /// If the sampling names a guide and [`guide`](Self::guide) is none.
    pub fn flow(&self, condition: ClassLabels) -> Flow<'_> {
        let ObjectiveConfig { schedule, prediction, .. } = self.objective;
        let flow = |condition| Flow::of(schedule, *prediction, self.network, condition);
        let strong = flow(condition.clone());
        let flow = match (self.sampling.guidance, self.sampling.active_guide(), self.guide) {
            (None, ..) => strong,
            (Some(guidance), None, _) => strong.guided(flow(condition.null()), guidance),
            (Some(guidance), Some(_), Some(guide)) => strong.guided(guide.flow(self.objective, condition), guidance),
            (Some(_), Some(guide), None) => {
                panic!("the sampling names the guide {}, but none was loaded", guide.weights.display())
            }
        };
        flow.scaled(self.lambda)
    }

    fn check(&self, labels: &[usize], first: u64) -> Result<(), SampleError> {
        if let Some(label) = labels.iter().find(|label| **label >= self.null) {
            let last = self.null.saturating_sub(1);
            return Err(SampleError::Config(format!("labels are classes from 0 to {last}, found {label}")));
        }
        if self.sampling.batch == 0 {
            return Err(SampleError::Config("sampling.batch must be at least 1, found 0".into()));
        }
        SeededNoise::check(first, labels.len())
    }
}
