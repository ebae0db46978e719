//! Images from a network, as many as wanted.
//!
//! An image is a function of the seed, its number and its label, whatever the batch, but for the rounding of matrix
//! products; with an adaptive solver, whose steps are those of a whole batch, within its tolerances. The same images come
//! from a [`Flow`], a [`Sampler`](crate::sampling::Sampler) and [`SeededNoise`].

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::{Autoencoder, Backbone, Condition, Precision};

use crate::data::Conditioner;
use crate::evaluation::metric::Features;
use crate::recipe::{Guide, NetworkSettings, ObjectiveConfig, Recipe, SamplingConfig};
use crate::sampling::solver::{SampleError, SeededNoise};
use crate::sampling::{Flow, Guidance, Images};
use crate::{Error, device};

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
pub struct Generator<'a, B: Backbone> {
    /// The network, without autodiff; images are made on its device.
    pub network: &'a B,
    /// What it is told of labels.
    pub conditioner: &'a dyn Conditioner<B::Condition>,
    /// What it was trained to say.
    pub objective: &'a ObjectiveConfig,
    /// Solver, times and guidance.
    pub sampling: &'a SamplingConfig,
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
    /// A network to be led away from besides, see [`Flow::guided_also`].
    pub weaker: Option<&'a Weaker<B>>,
}

/// A weaker network of the same kind that is told the same, such as the network without some of its blocks.
#[derive(Clone, Debug)]
pub struct Weaker<B> {
    /// The network.
    pub network: B,
    /// How far, and when, it is led away from.
    pub guidance: Guidance,
}

/// States of a batch at one time of the grid: time, number of the batch's first image, states.
pub type Visit<'v> = dyn FnMut(f64, usize, &Tensor<4>) + 'v;

impl<N: NetworkSettings> Recipe<N> {
    /// How a network of this recipe makes images, but for what has weights of its own: autoencoder and guide.
    pub fn generator<'a, B: Backbone>(
        &'a self,
        network: &'a B,
        conditioner: &'a dyn Conditioner<B::Condition>,
    ) -> Generator<'a, B> {
        Generator {
            network,
            conditioner,
            objective: &self.objective,
            sampling: &self.sampling,
            shape: self.network.shape(),
            seed: self.seed,
            lambda: 1.0,
            autoencoder: None,
            guide: None,
            weaker: None,
        }
    }
}

/// A network, the weaker one beside it, and the guide.
type Rounded<B> = (B, Option<Weaker<B>>, Option<Guide>);

/// A network in a precision; what is rounded is all that is kept.
fn round<B: Backbone>(network: &B, precision: Precision) -> Result<B, SampleError> {
    let known = precision.is_supported(&device::of(network)).then(|| network.in_precision(precision)).flatten();
    let reason = || format!("this network, or its device, does not compute in {precision}, sampling.precision");
    known.map(Module::materialize).ok_or_else(|| SampleError::Config(reason()))
}

impl<B: Backbone> Generator<'_, B> {
    /// One image a label. Image `i` starts from the noise of number `first + i`, so arms with equal seeds share noise.
    ///
    /// # Errors
    /// For labels that the conditioner does not know, numbers of images from 2⁴⁴ on, a state that is not finite, or an
    /// adaptive solver that gives up.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        self.trajectories(labels, first, &mut |_, _, _| {})
    }

    /// As [`images`](Self::images), showing every state.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn trajectories(&self, labels: &[usize], first: u64, visit: &mut Visit<'_>) -> Result<Images, Error> {
        let (network, weaker, guide) = &self.rounded()?;
        let this = Generator { network, weaker: weaker.as_ref(), guide: guide.as_ref(), ..*self };
        this.batches(labels.len(), first, visit, |rows, device| this.flow(&labels[rows], device))
    }

    /// The same of a condition on the device of the network with `count` rows, one an image, whatever the conditioner knows.
    ///
    /// # Errors
    /// As [`images`](Self::images) but for labels, and if the sampling names a guide, which is told labels alone.
    pub fn draw(
        &self,
        condition: &B::Condition,
        count: usize,
        first: u64,
        visit: &mut Visit<'_>,
    ) -> Result<Images, Error> {
        let (network, weaker, guide) = &self.rounded()?;
        let this = Generator { network, weaker: weaker.as_ref(), guide: guide.as_ref(), ..*self };
        this.batches(count, first, visit, |Range { start, end }, device| {
            this.flow_of(condition.clone().select(Tensor::arange(start as i64..end as i64, device)))
        })
    }

    /// The network, the weaker one and the guide in the precision of the sampling.
    fn rounded(&self) -> Result<Rounded<B>, SampleError> {
        let precision = self.sampling.precision;
        let guide = self
            .guide
            .map(|guide| Ok::<_, SampleError>(Guide { network: round(&guide.network, precision)?, ..guide.clone() }));
        let weaker = self.weaker.map(|weaker| {
            Ok::<_, SampleError>(Weaker { network: round(&weaker.network, precision)?, guidance: weaker.guidance })
        });
        Ok((round(self.network, precision)?, weaker.transpose()?, guide.transpose()?))
    }

    /// Images of the flows of so many rows, batch by batch.
    fn batches<'f>(
        &self,
        count: usize,
        first: u64,
        visit: &mut Visit<'_>,
        flow: impl Fn(Range<usize>, &Device) -> Result<Flow<'f>, Error>,
    ) -> Result<Images, Error> {
        let device = &device::of(self.network);
        if self.sampling.batch == 0 {
            return Err(SampleError::Config("sampling.batch must be at least 1, found 0".into()).into());
        }
        SeededNoise::check(first, count)?;
        let [channels, height, width] = self.shape;
        let mut images = Images { pixels: Vec::new(), shape: [count, channels, height, width], evaluations: 0 };
        for offset in (0..count).step_by(self.sampling.batch) {
            let rows = offset..count.min(offset + self.sampling.batch);
            let mut noise = SeededNoise::new(self.seed, first + offset as u64, device);
            let start = noise.start([rows.len(), channels, height, width]);
            let flow = flow(rows, device)?;
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
    /// # Errors
    /// As [`Conditioner::read`], and if the sampling names a guide and [`guide`](Self::guide) is none.
    pub fn flow(&self, labels: &[usize], device: &Device) -> Result<Flow<'_>, Error> {
        let condition = self.conditioner.conditions(labels, device)?;
        self.guided(condition, |guide| guide.flow(self.objective, labels, device))
    }

    /// The same of a condition with a row for each image.
    ///
    /// # Errors
    /// If the sampling names a guide, which is told labels alone.
    pub fn flow_of(&self, condition: B::Condition) -> Result<Flow<'_>, Error> {
        self.guided(condition, |_| {
            let reason = "a guide is told labels, and these images are of conditions without: leave out sampling.guide";
            Err(SampleError::Config(reason.into()).into())
        })
    }

    fn guided<'s>(
        &'s self,
        condition: B::Condition,
        guide: impl FnOnce(&'s Guide) -> Result<Flow<'s>, Error>,
    ) -> Result<Flow<'s>, Error> {
        let ObjectiveConfig { schedule, prediction, learned_variance, .. } = self.objective;
        let flow = |network, condition| match learned_variance {
            true => Flow::of(schedule, *prediction, network, condition),
            false => Flow::without_variance(schedule, *prediction, network, condition),
        };
        let strong = flow(self.network, condition.clone());
        let guided = match (self.sampling.guidance, self.sampling.active_guide(), self.guide) {
            (None, ..) => strong,
            (Some(guidance), None, _) => strong.guided(flow(self.network, condition.clone().null()), guidance),
            (Some(guidance), Some(_), Some(weak)) => strong.guided(guide(weak)?, guidance),
            (Some(_), Some(guide), None) => {
                let reason = format!("the recipe names the guide {}, but none was loaded", guide.weights.display());
                return Err(SampleError::Config(reason).into());
            }
        };
        let guided = match self.weaker {
            Some(weaker) => guided.guided_also(flow(&weaker.network, condition), weaker.guidance),
            None => guided,
        };
        Ok(guided.scaled(self.lambda))
    }
}
