//! Images from a network, as many as wanted.
//!
//! An image is a function of the seed, its number and its label, whatever the batch, but for the rounding of matrix
//! products; with an adaptive solver, whose steps are those of a whole batch, within its tolerances. The same images come
//! from a [`Flow`], a [`Sampler`] and [`SeededNoise`].

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::{Autoencoder, Backbone, Condition, Precision};
use mixflow_schedules::TimeGrid;

use crate::data::Conditioner;
use crate::evaluation::metric::Features;
use crate::recipe::{Guide, NetworkSettings, ObjectiveConfig, Recipe, SamplingConfig};
use crate::sampling::correction::Correction;
use crate::sampling::solver::{SampleError, SeededNoise};
use crate::sampling::{Flow, Guidance, Images, Sampler, SkipLayers};
use crate::spread::{at_once, spread};
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
    /// Solver, times, guidance and correction.
    pub sampling: &'a SamplingConfig,
    /// Channels, height and width of what the network makes.
    pub shape: [usize; 3],
    /// Seed of all noise.
    pub seed: u64,
    /// What makes images of the network's latents; none where it makes images itself.
    pub autoencoder: Option<&'a dyn Autoencoder>,
    /// The weaker network that [`SamplingConfig::guide`] stands for.
    pub guide: Option<&'a Guide>,
    /// The label that guidance leads away from in the place of none, where the recipe has no guide.
    pub negative: Option<usize>,
    /// A network to be led away from besides, see [`Flow::guided_also`].
    pub weaker: Option<&'a Weaker<B>>,
    /// Devices beside the network's that draw some of the batches: of equal devices, the same images bit for bit.
    pub beside: &'a [Device],
}

/// A weaker network of the same kind that is told the same, such as the network without some of its blocks.
#[derive(Clone, Debug)]
pub struct Weaker<B> {
    /// The network.
    pub network: B,
    /// How far, and when, it is led away from.
    pub guidance: Guidance,
}

impl SkipLayers {
    /// What is led away from on `grid`: `network` without the blocks; none where it holds for no step.
    ///
    /// # Errors
    /// As [`guidance`](Self::guidance), and for blocks that the network does not have.
    pub fn weaker<B: Backbone>(&self, network: &B, grid: &TimeGrid) -> Result<Option<Weaker<B>>, SampleError> {
        let network = network.without_blocks(&self.blocks);
        let network = network.map_err(|invalid| SampleError::Config(invalid.within("skip_layers").to_string()))?;
        Ok(self.guidance(grid)?.map(|guidance| Weaker { network, guidance }))
    }
}

/// What a trajectory is at one time of the grid.
#[derive(Clone, Copy, Debug)]
pub struct Visited<'v> {
    /// The time, that of the label.
    pub t: f64,
    /// Which of these images is the first one of the batch, from 0 on.
    pub first: usize,
    /// States of the batch: as many images as it has, channels, height, width.
    pub x: &'v Tensor<4>,
    /// Images that are done, all batches together: so many parts of each as it has gone of the time.
    pub done: u64,
}

/// Sees the states of every batch. Those of a batch come in order, several batches at a time where several devices draw.
pub type Visit<'v> = dyn FnMut(Visited<'_>) + 'v;

/// Images, a batch at a time, in their order.
pub type Batches<'b> = dyn Iterator<Item = Result<Images, Error>> + 'b;

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
            autoencoder: None,
            guide: None,
            negative: None,
            weaker: None,
            beside: &[],
        }
    }
}

/// The networks on one of the devices, in the precision of the sampling.
struct Replica<B> {
    network: B,
    weaker: Option<Weaker<B>>,
    guide: Option<Guide>,
    autoencoder: Option<Box<dyn Autoencoder>>,
}

/// A network in a precision; what is rounded is all that is kept. An adapter is added to the weights first, or stays beside those
/// that are stored rounded, which would take twice the memory with it in them.
fn round<B: Backbone>(network: &B, precision: Precision) -> Result<B, SampleError> {
    let alone = |network: B| if Precision::is_stored_low(&network) { network } else { network.materialize() };
    let known = precision.is_supported(&device::of(network)).then(|| alone(network.clone()).in_precision(precision));
    let reason = || format!("this network, or its device, does not compute in {precision}, sampling.precision");
    known.flatten().map(alone).ok_or_else(|| SampleError::Config(reason()))
}

impl<B: Backbone> Generator<'_, B> {
    /// One image a label. Image `i` starts from the noise of number `first + i`, so arms with equal seeds share noise.
    ///
    /// # Errors
    /// For labels that the conditioner does not know, numbers of images from 2⁴⁴ on, a state that is not finite, or an
    /// adaptive solver that gives up.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        self.trajectories(labels, first, &mut |_| {})
    }

    /// As [`images`](Self::images), showing every state.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn trajectories(&self, labels: &[usize], first: u64, visit: &mut Visit<'_>) -> Result<Images, Error> {
        self.batches(labels, first, visit, |batches| self.joined(labels.len(), batches))
    }

    /// As [`trajectories`](Self::trajectories), a batch at a time: `take` gets them as they are made, so that no more of them
    /// are held than it keeps.
    ///
    /// # Errors
    /// As [`images`](Self::images), and those of `take`.
    pub fn batches<T, E: From<Error>>(
        &self,
        labels: &[usize],
        first: u64,
        visit: &mut Visit<'_>,
        take: impl FnOnce(&mut Batches<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.spread(
            labels.len(),
            first,
            visit,
            |rows| &labels[rows],
            |this, labels, device| this.flow(labels, device),
            take,
        )
    }

    /// As [`trajectories`](Self::trajectories), of a condition on the device of the network with `count` rows, one an image,
    /// whatever the conditioner knows.
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
        let device = &device::of(self.network);
        let rows =
            |rows: Range<usize>| condition.clone().select(Tensor::arange(rows.start as i64..rows.end as i64, device));
        self.spread(
            count,
            first,
            visit,
            rows,
            |this, condition, device| this.flow_of(condition.on(device)),
            |batches| self.joined(count, batches),
        )
    }

    /// Batches as one.
    fn joined(&self, count: usize, batches: &mut Batches<'_>) -> Result<Images, Error> {
        let [channels, height, width] = self.shape;
        let (shape, rounding) = ([count, channels, height, width], self.sampling.bytes);
        let mut all = Images { shape, rounding, ..Images::default() };
        for images in batches {
            let images = images?;
            all.shape[1..].copy_from_slice(&images.shape[1..]);
            all.evaluations = all.evaluations.max(images.evaluations);
            all.pixels.extend(images.pixels);
        }
        Ok(all)
    }

    /// A network that is told the scale of guidance of the sampling, if that says one.
    fn with_guidance_scale(&self, network: &B) -> Result<B, SampleError> {
        let Some(scale) = self.sampling.distilled_guidance else { return Ok(network.clone()) };
        let reason =
            "sampling.distilled_guidance is for networks that are told a scale of guidance, and this one is not";
        network.with_guidance(scale).ok_or_else(|| SampleError::Config(reason.into()))
    }

    /// The networks on each of the devices, the own one first; of the CPU alone, as many as draw so many batches at once.
    fn replicas(&self, batches: usize) -> Result<Vec<Replica<B>>, SampleError> {
        let own = device::of(self.network);
        let on = |device: &Device| {
            let networks =
                |network: &B| round(&self.with_guidance_scale(network)?.to_device(device), self.sampling.precision);
            let weaker = self.weaker.map(|Weaker { network, guidance }| {
                Ok::<_, SampleError>(Weaker { network: networks(network)?, guidance: *guidance })
            });
            let guide = self.guide.map(|guide| {
                let network = round(&guide.network.clone().to_device(device), self.sampling.precision)?;
                Ok::<_, SampleError>(Guide { network, ..guide.clone() })
            });
            Ok(Replica {
                network: networks(self.network)?,
                weaker: weaker.transpose()?,
                guide: guide.transpose()?,
                autoencoder: self.autoencoder.map(|autoencoder| autoencoder.to_device(device)),
            })
        };
        match self.beside {
            [] => std::iter::repeat_n(&own, at_once(self.network, batches)).map(on).collect(),
            beside => std::iter::once(&own).chain(beside).map(on).collect(),
        }
    }

    /// Images of the flows of so many rows, batch by batch: `conditions` gives what the network is told of the rows of a
    /// batch.
    fn spread<C: Send, T, E: From<Error>>(
        &self,
        count: usize,
        first: u64,
        visit: &mut Visit<'_>,
        conditions: impl Fn(Range<usize>) -> C,
        flow: impl for<'g> Fn(&'g Generator<'g, B>, C, &Device) -> Result<Flow<'g>, Error> + Sync,
        take: impl FnOnce(&mut Batches<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.sampling.batch == 0 {
            return Err(Error::from(SampleError::Config("sampling.batch must be at least 1, found 0".into())).into());
        }
        SeededNoise::check(first, count).map_err(Error::from)?;
        let replicas = self.replicas(count.div_ceil(self.sampling.batch)).map_err(Error::from)?;
        let Generator { conditioner, objective, sampling, shape, seed, negative, .. } = *self;
        let rows = |offset| offset..count.min(offset + sampling.batch);
        let pieces = (0..count).step_by(sampling.batch).map(|offset| (rows(offset), conditions(rows(offset))));
        let draw =
            |replica: &Replica<B>, (rows, condition): (Range<usize>, C), progress: &mut dyn FnMut((f64, Tensor<4>))| {
                let Replica { network, weaker, guide, autoencoder } = replica;
                let (weaker, guide, autoencoder) = (weaker.as_ref(), guide.as_ref(), autoencoder.as_deref());
                let beside = &[];
                let this = Generator {
                    network,
                    conditioner,
                    objective,
                    sampling,
                    shape,
                    seed,
                    autoencoder,
                    guide,
                    negative,
                    weaker,
                    beside,
                };
                this.batch(rows, first, |device| flow(&this, condition, device), &mut |t, x| progress((t, x.clone())))
            };
        let times = self.grid()?.times();
        let (start, end) = (times[0], times[times.len() - 1]);
        let mut reached = vec![0; count.div_ceil(sampling.batch)];
        let on_event = |number: usize, (t, x): (f64, Tensor<4>)| {
            reached[number] = ((t - start) / (end - start) * x.dims()[0] as f64) as u64;
            visit(Visited { t, first: number * sampling.batch, x: &x, done: reached.iter().sum() });
        };
        spread(replicas, pieces, draw, on_event, |mut batches| take(&mut batches))
    }

    /// The times to stop at, for latents of this size.
    fn grid(&self) -> Result<TimeGrid, Error> {
        let [_, height, width] = self.shape;
        let grid = self.sampling.sampler.grid.for_latents([height, width]);
        grid.map_err(|fault| SampleError::Config(fault.to_string()).into())
    }

    /// Images of some rows at once, of which the first one is of number `first`.
    fn batch<'f>(
        &self,
        rows: Range<usize>,
        first: u64,
        flow: impl FnOnce(&Device) -> Result<Flow<'f>, Error>,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Images, Error> {
        let device = &device::of(self.network);
        let [channels, height, width] = self.shape;
        let mut noise = SeededNoise::new(self.seed, first + rows.start as u64, device);
        let start = noise.start([rows.len(), channels, height, width]);
        let sampler = Sampler { solver: self.sampling.sampler.solver.clone(), grid: self.grid()? };
        let samples = sampler.trajectory(&flow(device)?, start, &mut noise, visit)?;
        let made = match (self.autoencoder, self.sampling.tiles) {
            (Some(autoencoder), Some(tiles)) => autoencoder.decode_in(samples.x, tiles),
            (Some(autoencoder), None) => autoencoder.decode(samples.x),
            (None, _) => samples.x,
        };
        let (shape, evaluations, rounding) = (made.dims(), samples.evaluations, self.sampling.bytes);
        Ok(Images { pixels: made.into_data().iter::<f32>().collect(), shape, evaluations, rounding })
    }

    /// The velocity field of a batch of these labels, guided and corrected as the sampling says.
    ///
    /// # Errors
    /// As [`Conditioner::read`], and if the sampling names a guide and [`guide`](Self::guide) is none.
    pub fn flow(&self, labels: &[usize], device: &Device) -> Result<Flow<'_>, Error> {
        let condition = self.conditioner.conditions(labels, device)?;
        let away = match self.negative {
            Some(label) => self.conditioner.conditions(&vec![label; labels.len()], device)?,
            None => condition.clone().null(),
        };
        self.guided(condition, away, |guide| guide.flow(self.objective, labels, device))
    }

    /// The same of a condition with a row for each image.
    ///
    /// # Errors
    /// If the sampling names a guide, which is told labels alone.
    pub fn flow_of(&self, condition: B::Condition) -> Result<Flow<'_>, Error> {
        let away = condition.clone().null();
        self.guided(condition, away, |_| {
            let reason = "a guide is told labels, and these images are of conditions without: leave out sampling.guide";
            Err(SampleError::Config(reason.into()).into())
        })
    }

    fn guided<'s>(
        &'s self,
        condition: B::Condition,
        away: B::Condition,
        guide: impl FnOnce(&'s Guide) -> Result<Flow<'s>, Error>,
    ) -> Result<Flow<'s>, Error> {
        let ObjectiveConfig { schedule, prediction, floor, learned_variance, .. } = self.objective;
        let flow = |network, condition| {
            let flow = Flow::of(schedule, *prediction, network, condition).floored(*floor);
            if *learned_variance { flow } else { flow.without_variance() }
        };
        let strong = flow(self.network, condition.clone());
        let guided = match (self.sampling.guidance, self.sampling.active_guide(), self.guide) {
            (None, ..) => strong,
            (Some(guidance), None, _) => strong.guided(flow(self.network, away), guidance),
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
        Ok(match &self.sampling.correction {
            Some(correction) => correction.correct(guided),
            None => guided,
        })
    }
}
