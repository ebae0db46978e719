//! From a project's image to an encoder's input.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::resize::{Filter, resize};

/// What happens to images in [-1, 1] before an encoder sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocessing {
    /// Side to which images are resized: bicubically, without antialias.
    pub size: usize,
    /// What is subtracted and divided by.
    pub normalisation: Normalisation,
}

impl Preprocessing {
    /// RAE resizes, then normalises; REPA does it in the other order, which is the same, because the weights of a
    /// resized pixel sum to one.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [-1, 1]
    /// - output: `[batch, channels, size, size]`
    ///
    /// # Source
    /// RAE `src/stage1/rae.py` at a4d18c4, `encode`; REPA `train.py`, `preprocess_raw_image`.
    pub fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        self.normalisation.apply(resize(images, [self.size; 2], Filter::Bicubic))
    }
}

/// Mean and deviation of the pixels that an encoder was trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Those of ImageNet, for three channels: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225 of pixels in
    /// [0, 1].
    ImageNet,
    /// Pixels stay in [-1, 1], whatever the channels.
    Symmetric,
}

impl Normalisation {
    /// From [-1, 1] to the encoder's scale; same shape.
    pub fn apply(self, images: Tensor<4>) -> Tensor<4> {
        match self.moments(&images) {
            Some([mean, deviation]) => (images - mean) / deviation,
            None => images,
        }
    }

    /// From the encoder's scale to [-1, 1]; same shape.
    pub fn undo(self, images: Tensor<4>) -> Tensor<4> {
        match self.moments(&images) {
            Some([mean, deviation]) => images * deviation + mean,
            None => images,
        }
    }

    /// Mean and deviation of pixels in [-1, 1], each `[1, 3, 1, 1]`.
    fn moments(self, images: &Tensor<4>) -> Option<[Tensor<4>; 2]> {
        let row = |values: [f64; 3]| {
            let device = images.device();
            Tensor::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), (&device, images.dtype()))
        };
        let mean = [0.485, 0.456, 0.406].map(|mean| 2.0 * mean - 1.0);
        let deviation = [0.229, 0.224, 0.225].map(|deviation| 2.0 * deviation);
        (self == Self::ImageNet).then(|| [row(mean), row(deviation)])
    }
}
