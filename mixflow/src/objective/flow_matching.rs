//! Flow matching, for any path, law of times, kind of prediction and backbone.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::{Backbone, Condition};
use mixflow_schedules::{
    Coefficients, Linear, Prediction, Schedule, Timestep, TimestepSampler, Uniform, Weighting, noise_scale,
};
use serde::{Deserialize, Serialize};

use crate::objective::dropout::drop_conditions;
use crate::objective::{Batch, EncoderDropout, Loss, Objective, Perturbation};
use crate::random::{self, Stream};

/// Where on a curved path the target is taken. On a straight path both are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// At the label `t`, as the authors' released code does.
    #[default]
    Label,
    /// At the input's time `m`, as the paper's equation says.
    Input,
}

/// Regression of velocity, noise, data or score on interpolations of data and noise.
///
/// Plain flow matching and MixFlow differ in the law of times alone:
///
/// ```
/// use mixflow::FlowMatching;
/// use mixflow::schedules::{Linear, MixFlow};
///
/// let plain = FlowMatching::new(Linear);
/// let mixflow = FlowMatching::new(Linear).timesteps(MixFlow::new(0.8));
/// ```
///
/// # Source
/// Lipman et al. 2022 (arXiv 2210.02747); Ma et al. 2024 (arXiv 2401.08740), equations 5 and 6; with
/// [`MixFlow`](mixflow_schedules::MixFlow), Li et al. 2025 (arXiv 2512.19311).
#[derive(Clone, Copy, Debug)]
pub struct FlowMatching<S = Linear, T = Uniform> {
    /// The path.
    pub schedule: S,
    /// The law of the label's and the input's time.
    pub timesteps: T,
    /// What the network outputs.
    pub prediction: Prediction,
    /// Where the target is taken on curved paths.
    pub target: Target,
    /// Weight of an example's loss, for noise, score and data networks.
    pub weighting: Weighting,
    /// The least share of noise, `σ` of that at the path's start, that predictions of data are divided by where they are weighted
    /// or read as velocities; in [0, 1). 0 is exact.
    pub floor: f64,
    /// Probability that an example's condition is replaced by the null condition, in [0, 1].
    pub condition_dropout: f64,
    /// The same of what each of several encoders says, by itself.
    pub encoder_dropout: EncoderDropout,
    /// More noise in the input.
    pub perturbation: Option<Perturbation>,
}

impl<S: Schedule> FlowMatching<S> {
    /// A velocity network, uniform times, no dropped conditions.
    pub fn new(schedule: S) -> Self {
        Self {
            schedule,
            timesteps: Uniform,
            prediction: Prediction::Velocity,
            target: Target::Label,
            weighting: Weighting::None,
            floor: 0.0,
            condition_dropout: 0.0,
            encoder_dropout: EncoderDropout::default(),
            perturbation: None,
        }
    }
}

impl<S: Schedule, T: TimestepSampler> FlowMatching<S, T> {
    /// The same with another law of times.
    pub fn timesteps<U: TimestepSampler>(self, timesteps: U) -> FlowMatching<S, U> {
        FlowMatching {
            schedule: self.schedule,
            timesteps,
            prediction: self.prediction,
            target: self.target,
            weighting: self.weighting,
            floor: self.floor,
            condition_dropout: self.condition_dropout,
            encoder_dropout: self.encoder_dropout,
            perturbation: self.perturbation,
        }
    }

    /// Noises images at their times `m` and takes the targets: the part that needs no network.
    ///
    /// # Shapes
    /// - images and noise: `[batch, channels, height, width]`; times: `batch`
    pub fn noised(&self, images: Tensor<4>, noise: Tensor<4>, times: &[Timestep]) -> Noised {
        self.noised_apart(images, [noise.clone(), noise], times)
    }

    /// The same with one noise for the input and another one for the target.
    pub fn noised_apart(&self, images: Tensor<4>, noise: [Tensor<4>; 2], times: &[Timestep]) -> Noised {
        let [noise, of_target] = noise;
        let place = (&images.device(), images.dtype());
        let at = |time: fn(&Timestep) -> f64| times.iter().map(|t| self.schedule.at(time(t))).collect::<Vec<_>>();
        let (labels, inputs) = (at(|t| t.t), at(|t| t.m));
        let targets = match self.target {
            Target::Label => &labels,
            Target::Input => &inputs,
        };
        let column = |values: &[Coefficients], value: &dyn Fn(&Coefficients) -> f64| {
            let values: Vec<f64> = values.iter().map(value).collect();
            Tensor::<1>::from_data(values.as_slice(), place).reshape([-1, 1, 1, 1])
        };
        // A score network is compared after multiplication by σ, where its target is −ε: finite at the end of the path.
        let score = self.prediction == Prediction::Score;
        let floor = self.floor * noise_scale(&self.schedule);
        let goal = |c: &Coefficients| if score { [0.0, -1.0] } else { self.prediction.coordinates(c) };
        Noised {
            x: images.clone() * column(&inputs, &|c| c.alpha) + noise * column(&inputs, &|c| c.sigma),
            time: column(&labels, &|c| c.time).reshape([-1]),
            target: images * column(targets, &|c| goal(c)[0]) + of_target * column(targets, &|c| goal(c)[1]),
            output_scale: score.then(|| column(targets, &|c| c.sigma)),
            weight: (self.weighting != Weighting::None)
                .then(|| column(targets, &|c| self.weighting.at(self.prediction, c, floor)).reshape([-1])),
            mask: None,
        }
    }

    /// Loss of every example at given times and noise, `[batch]`.
    pub fn losses<B: Backbone>(
        &self,
        backbone: &B,
        images: Tensor<4>,
        condition: B::Condition,
        noise: Tensor<4>,
        times: &[Timestep],
    ) -> Tensor<1> {
        let noised = self.noised(images, noise, times);
        let output = backbone.forward(noised.x.clone(), noised.time.clone(), condition);
        noised.losses(output)
    }

    /// The times of so many examples, the first one at this position.
    pub fn times(&self, count: usize, first: u64, seed: u64) -> Vec<Timestep> {
        let draw = |position| self.timesteps.sample(&mut random::rng(seed, Stream::Times, position));
        (first..).take(count).map(draw).collect()
    }

    /// Everything random about the loss of a batch: draws times, noises the images and drops conditions.
    pub fn draw<C: Condition>(&self, images: Tensor<4>, condition: C, first: u64, seed: u64) -> (Noised, C) {
        let shape = images.dims();
        let device = images.device();
        let times = self.times(shape[0], first, seed);
        let drawn = |stream| noise(seed, stream, first, shape, &device);
        let own = drawn(Stream::Noise);
        let noise = match self.perturbation {
            None => [own.clone(), own],
            Some(perturbation) => perturbation.of(own, drawn(Stream::Perturbation), &times),
        };
        let positions: Vec<u64> = (first..).take(shape[0]).collect();
        let condition = self.encoder_dropout.drop(condition, &positions, seed, &device);
        let condition = drop_conditions(condition, self.condition_dropout, positions.into_iter(), seed, &device);
        (self.noised_apart(images, noise, &times), condition)
    }
}

/// What [`FlowMatching`] feeds the network and compares it with.
#[derive(Clone, Debug)]
pub struct Noised {
    /// Input of the network, at the times `m`: `[batch, channels, height, width]`.
    pub x: Tensor<4>,
    /// Label of the network, `[batch]`, in its own convention.
    pub time: Tensor<1>,
    /// What the network should say; for a score network `σ` times that.
    pub target: Tensor<4>,
    /// Factor of the network's output before the comparison, `[batch, 1, 1, 1]`: `σ` of a score network.
    pub output_scale: Option<Tensor<4>>,
    /// Weight of every example, `[batch]`.
    pub weight: Option<Tensor<1>>,
    /// Weight of every place, `[batch, 1, height, width]`; none counts all in full.
    pub mask: Option<Tensor<4>>,
}

impl Noised {
    /// Loss of every example whose network says `output`, `[batch]`: the mean over its channels and places, those that the mask
    /// takes out among them. So a place counts as much whatever the size of the mask, and what is left out adds nothing.
    ///
    /// # Source
    /// `apply_masked_loss` of kohya-ss/sd-scripts, as `SimpleTuner` and `OneTrainer` by default; the latter divides by the mean of
    /// the mask if it is asked to, which gives a place the more weight the less there is of its image.
    pub fn losses(self, output: Tensor<4>) -> Tensor<1> {
        let output = match self.output_scale {
            Some(scale) => output * scale,
            None => output,
        };
        let squares = (output - self.target).square();
        let squares = match self.mask {
            Some(mask) => squares * mask,
            None => squares,
        };
        let losses = squares.flatten::<2>(1, 3).mean_dim(1).reshape([-1]);
        match self.weight {
            Some(weight) => losses * weight,
            None => losses,
        }
    }
}

impl<B: Backbone, S: Schedule, T: TimestepSampler> Objective<B> for FlowMatching<S, T> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let (noised, condition) = self.draw(batch.images, batch.condition, batch.first, seed);
        let noised = Noised { mask: batch.mask, ..noised };
        let output = backbone.forward(noised.x.clone(), noised.time.clone(), condition);
        let losses = noised.losses(output);
        let losses = match batch.weights {
            Some(weights) => losses * weights,
            None => losses,
        };
        losses.mean().into()
    }

    fn weighs(&self) -> bool {
        true
    }
}

/// Standard normal noise, one stream an image: image `i` is that of position `first + i`, whatever the batch.
pub fn noise(seed: u64, stream: Stream, first: u64, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let size: usize = shape[1..].iter().product();
    let mut values = vec![0.0; shape[0] * size];
    for (values, position) in values.chunks_mut(size.max(1)).zip(first..) {
        random::normal(&mut random::rng(seed, stream, position), values);
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}
