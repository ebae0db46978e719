//! Batches: what a loss is taken on, from the examples of a loader.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::Condition;

use crate::data::{Conditioner, Dataset, Error, Examples, HostCondition, Loader, LoaderConfig};

/// Images and what the network is told about them.
#[derive(Clone, Debug)]
pub struct Batch<C> {
    /// `[batch, channels, height, width]`, images or latents, normalised.
    pub images: Tensor<4>,
    /// One row an image.
    pub condition: C,
    /// Training position of the first image; image `i` has position `first + i`. Random numbers are drawn for
    /// positions, so that they depend neither on the size of a batch nor on where a run was resumed.
    pub first: u64,
    /// Encoder features of the clean images, `[batch, tokens, width]`, one tensor for each target encoder; empty unless
    /// an objective aligns.
    pub features: Vec<Tensor<3>>,
    /// How much of the loss at each place counts, in [0, 1]: `[batch, 1, height, width]`; none counts all of it.
    pub mask: Option<Tensor<4>>,
    /// How often the loss of each image counts, `[batch]`; none: once.
    pub weights: Option<Tensor<1>>,
}

impl<C> Batch<C> {
    /// Images whose positions start at `first`, without features, masks and weights.
    pub fn new(images: Tensor<4>, condition: C, first: u64) -> Self {
        Self { images, condition, first, features: vec![], mask: None, weights: None }
    }

    /// The same, of whose loss so much counts at each place.
    #[must_use]
    pub fn with_mask(self, mask: Tensor<4>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// The same, the loss of each of whose images counts so often.
    #[must_use]
    pub fn with_weights(self, weights: Tensor<1>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// Refuses masks and weights, for objectives that compare more than the places of an image one by one.
    ///
    /// # Panics
    /// If there is one.
    pub(super) fn unmasked(self, objective: &str) -> Self {
        assert!(self.mask.is_none(), "{objective} compares whole images: a batch with a mask is not for it");
        assert!(self.weights.is_none(), "{objective} counts images alike: a batch with weights is not for it");
        self
    }

    /// The same with encoder features.
    #[must_use]
    pub fn with_features(self, features: Vec<Tensor<3>>) -> Self {
        Self { features, ..self }
    }
}

impl<C: Condition> Batch<C> {
    /// Some of the examples of a step on a device, with their stored features and `condition`, what the network is told of
    /// these alone.
    ///
    /// # Panics
    /// If `range` is not within them.
    pub fn of(examples: &Examples, range: Range<usize>, condition: HostCondition<C>, device: &Device) -> Self {
        let &Examples { shape: [channels, height, width], first, .. } = examples;
        let tensor = |values: &[f32], each: usize| TensorData::from(&values[range.start * each..range.end * each]);
        let (count, each) = (range.len(), channels * height * width);
        let images = Tensor::<1>::from_data(tensor(&examples.pixels, each), device);
        let features = examples.tokens.iter().zip(&examples.features).map(|(&[tokens, width], values)| {
            Tensor::<1>::from_data(tensor(values, tokens * width), device).reshape([count, tokens, width])
        });
        let first = first + range.start as u64;
        let images = images.reshape([count, channels, height, width]);
        let mask = (!examples.masks.is_empty()).then(|| tensor(&examples.masks, height * width));
        let mask = mask.map(|mask| Tensor::<1>::from_data(mask, device).reshape([count, 1, height, width]));
        let weights = (!examples.weights.is_empty()).then(|| Tensor::from_data(tensor(&examples.weights, 1), device));
        Self { mask, weights, ..Self::new(images, condition(device), first).with_features(features.collect()) }
    }
}

/// The batches of a step before they are on a device: one for each part of an accumulation.
pub struct StepBatches<C> {
    examples: Examples,
    /// Of each part.
    conditions: Vec<HostCondition<C>>,
}

impl<C: Condition> StepBatches<C> {
    /// Whether stored features came with the examples.
    pub fn has_features(&self) -> bool {
        !self.examples.tokens.is_empty()
    }

    /// The parts of each device, as many after one another as [`on`](Self::on) puts there.
    ///
    /// # Panics
    /// Unless the number of devices divides that of the parts.
    pub(crate) fn among(self, devices: &[Device]) -> Vec<impl Iterator<Item = Batch<C>> + Send + use<C>> {
        let Self { examples, conditions } = self;
        let (size, share) = (examples.labels.len() / conditions.len(), conditions.len() / devices.len());
        assert_eq!(share * devices.len(), conditions.len(), "each device has as many parts");
        let (examples, mut conditions) = (Arc::new(examples), conditions.into_iter().enumerate());
        let of_each = devices.iter().map(|device| {
            let (examples, device) = (examples.clone(), device.clone());
            let parts: Vec<_> = conditions.by_ref().take(share).collect();
            parts
                .into_iter()
                .map(move |(part, told)| Batch::of(&examples, part * size..(part + 1) * size, told, &device))
        });
        of_each.collect()
    }

    /// One part after the other, each put on the device when it is asked for.
    pub fn on(self, device: &Device) -> impl Iterator<Item = Batch<C>> + Send + use<C> {
        self.among(std::slice::from_ref(device)).swap_remove(0)
    }
}

/// How many examples and parts.
impl<C> fmt::Debug for StepBatches<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (examples, parts) = (self.examples.labels.len(), self.conditions.len());
        f.debug_struct("StepBatches").field("examples", &examples).field("parts", &parts).finish_non_exhaustive()
    }
}

impl<C: Condition> Loader<StepBatches<C>> {
    /// Batches in as many equal parts a step, which `conditioner` tells a network of; it reads on the loader's threads.
    ///
    /// # Errors
    /// As [`Loader::new`]; those of the conditioner come in the place of their batch.
    ///
    /// # Panics
    /// Unless the number of parts divides that of a batch's examples.
    pub fn in_parts(
        data: Arc<dyn Dataset>,
        config: LoaderConfig,
        parts: usize,
        conditioner: impl Conditioner<C> + 'static,
    ) -> Result<Self, Error> {
        assert!(parts > 0 && config.batch.is_multiple_of(parts), "{} examples in {parts} equal parts", config.batch);
        Self::preparing(data, config, move |examples| {
            let conditions = examples.labels.chunks(config.batch / parts).map(|labels| conditioner.read(labels));
            Ok(StepBatches { conditions: conditions.collect::<Result<_, _>>()?, examples })
        })
    }
}

impl Loader {
    /// The batches of a data set on a device, step by step, with what `conditioner` tells a network of them.
    ///
    /// # Errors
    /// As [`in_parts`](Loader::in_parts).
    pub fn batches<C: Condition, T: Conditioner<C> + 'static>(
        data: Arc<dyn Dataset>,
        config: LoaderConfig,
        conditioner: T,
        device: &Device,
    ) -> Result<impl Iterator<Item = Result<Batch<C>, Error>> + use<C, T>, Error> {
        let device = device.clone();
        let steps = Loader::in_parts(data, config, 1, conditioner)?;
        Ok(steps.map(move |step| step.map(|step| step.on(&device).next().expect("a step has a part"))))
    }
}
