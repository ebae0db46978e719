//! Batches: what a loss is taken on, from the examples of a loader.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::ClassLabels;

use crate::data::{Error, Examples, Loader};

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
}

impl<C> Batch<C> {
    /// Images whose positions start at `first`, without features.
    pub fn new(images: Tensor<4>, condition: C, first: u64) -> Self {
        Self { images, condition, first, features: vec![] }
    }

    /// The same with encoder features.
    #[must_use]
    pub fn with_features(self, features: Vec<Tensor<3>>) -> Self {
        Self { features, ..self }
    }
}

impl Batch<ClassLabels> {
    /// Some of the examples of a step on a device, with their stored features.
    ///
    /// # Panics
    /// If `range` is not within them.
    pub fn of(examples: &Examples, range: Range<usize>, device: &Device) -> Self {
        let &Examples { shape: [channels, height, width], classes, first, .. } = examples;
        let tensor = |values: &[f32], each: usize| TensorData::from(&values[range.start * each..range.end * each]);
        let (count, each) = (range.len(), channels * height * width);
        let images = Tensor::<1>::from_data(tensor(&examples.pixels, each), device);
        let condition = ClassLabels::new(&examples.labels[range.clone()], classes, device);
        let features = examples.tokens.iter().zip(&examples.features).map(|(&[tokens, width], values)| {
            Tensor::<1>::from_data(tensor(values, tokens * width), device).reshape([count, tokens, width])
        });
        let first = first + range.start as u64;
        Self::new(images.reshape([count, channels, height, width]), condition, first).with_features(features.collect())
    }
}

impl Loader {
    /// The batches of all classes and stored features on a device, step by step.
    pub fn batches(self, device: &Device) -> impl Iterator<Item = Result<Batch<ClassLabels>, Error>> + use<> {
        let device = device.clone();
        self.map(move |examples| examples.map(|examples| Batch::of(&examples, 0..examples.labels.len(), &device)))
    }
}
