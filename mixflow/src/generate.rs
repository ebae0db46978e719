//! Images from a network, as many as wanted, the same whatever the batch (but for the rounding of matrix products).

use burn::tensor::{Device, Tensor};
use mixflow_backbones::{Autoencoder, Backbone, ClassLabels, Condition};
use mixflow_schedules::Prediction;

use crate::flow::Flow;
use crate::metric::Features;
use crate::random::Stream;
use crate::recipe::{Guide, ObjectiveConfig, SamplingConfig};
use crate::{Error, flow_matching};

/// Generated images.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `[count, channels, height, width]`, in [−1, 1] unless the network leaves it.
    pub pixels: Vec<f32>,
    /// Their shape.
    pub shape: [usize; 4],
    /// Network evaluations for each image; a guided step counts both networks.
    pub evaluations: usize,
}

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
    /// Factor on the velocity: 1 samples, others are a temperature.
    pub lambda: f64,
    /// What makes images of the network's latents; none where it makes images itself.
    pub autoencoder: Option<&'a dyn Autoencoder>,
    /// The weaker network that [`SamplingConfig::guide`] stands for.
    pub guide: Option<&'a Guide>,
}

/// States of a batch at one time of the grid: time, number of the batch's first image, states.
pub type Visit<'v> = dyn FnMut(f64, usize, &Tensor<4>) + 'v;

impl<B: Backbone<Condition = ClassLabels>> Generator<'_, B> {
    /// One image a label. Image `i` starts from the noise of number `first + i`, so arms with equal seeds share noise.
    ///
    /// # Errors
    /// If a state is not finite, or an adaptive solver gives up.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        self.trajectories(labels, first, &mut |_, _, _| {})
    }

    /// As [`images`](Self::images), showing every state.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn trajectories(&self, labels: &[usize], first: u64, visit: &mut Visit<'_>) -> Result<Images, Error> {
        let device = Device::default();
        let [channels, height, width] = self.shape;
        let mut images = Images { pixels: Vec::new(), shape: [labels.len(), channels, height, width], evaluations: 0 };
        for (batch, labels) in labels.chunks(self.sampling.batch).enumerate() {
            let offset = batch * self.sampling.batch;
            let start = first + offset as u64;
            let shape = [labels.len(), channels, height, width];
            let noise = flow_matching::noise(self.seed, Stream::Sample, start, shape, &device);
            let condition = ClassLabels::new(labels, self.null, &device);
            let flow = self.flow(condition);
            let mut source = |step: usize, shape: [usize; 4]| self.solver_noise(step, start, shape, &device);
            let samples = self.sampling.sampler.trajectory(&flow, noise, &mut source, |t, x| visit(t, offset, x))?;
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

    /// The velocity field of a batch of these labels, guided as the sampling says.
    ///
    /// # Panics
    /// If the sampling names a guide and [`guide`](Self::guide) is none.
    pub fn flow(&self, condition: ClassLabels) -> Flow<'_> {
        let strong = self.flow_of(self.network, condition.clone());
        let flow = match (self.sampling.guidance, self.sampling.active_guide(), self.guide) {
            (None, ..) => strong,
            (Some(guidance), None, _) => strong.guided(self.flow_of(self.network, condition.null()), guidance),
            (Some(guidance), Some(_), Some(guide)) => strong.guided(self.flow_of(&guide.network, condition), guidance),
            (Some(_), Some(guide), None) => {
                panic!("the sampling names the guide {}, but none was loaded", guide.weights.display())
            }
        };
        if self.lambda == 1.0 {
            return flow;
        }
        let lambda = self.lambda;
        Flow::labelled(&self.objective.schedule, Prediction::Velocity, move |x, t| flow.velocity(x, t) * lambda)
    }

    fn flow_of<'a, N: Backbone<Condition = ClassLabels>>(&'a self, network: &'a N, labels: ClassLabels) -> Flow<'a> {
        Flow::new(&self.objective.schedule, self.objective.prediction, move |x: Tensor<4>, time| {
            let times = Tensor::full([x.dims()[0]], time, &x.device());
            network.forward(x, times, labels.clone())
        })
    }

    /// Noise of a stochastic step: one stream an image and step.
    fn solver_noise(&self, step: usize, first: u64, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let image = |i: usize| {
            // Grids have at most 2^17 steps, so that images and steps never share a position.
            let position = (first + i as u64) << 20 | step as u64;
            flow_matching::noise(self.seed, Stream::Solver, position, [1, shape[1], shape[2], shape[3]], device)
        };
        Tensor::cat((0..shape[0]).map(image).collect(), 0)
    }
}

/// As many labels as wanted, every class equally often.
pub fn balanced_labels(count: usize, classes: usize) -> Vec<usize> {
    (0..count).map(|i| i % classes.max(1)).collect()
}
