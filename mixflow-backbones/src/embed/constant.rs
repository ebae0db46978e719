//! Tensors that are computed and not stored.

use std::fmt;
use std::sync::{Arc, LazyLock};

use burn::tensor::{Device, Tensor, TensorData};

type Values = LazyLock<Vec<f32>, Box<dyn FnOnce() -> Vec<f32> + Send>>;

/// A table that no file has: computed once, when it is first wanted, for a network and all its copies.
#[derive(Clone)]
pub struct Constant<const D: usize> {
    shape: [usize; D],
    values: Arc<Values>,
}

impl<const D: usize> Constant<D> {
    /// The values of a tensor of this shape.
    pub fn new(shape: [usize; D], values: impl FnOnce() -> Vec<f32> + Send + 'static) -> Self {
        Self { shape, values: Arc::new(LazyLock::new(Box::new(values))) }
    }

    /// Its shape.
    pub fn shape(&self) -> [usize; D] {
        self.shape
    }

    /// On a device, without gradients.
    pub fn on(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(LazyLock::force(&self.values).clone(), self.shape), device)
    }
}

impl<const D: usize> fmt::Debug for Constant<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constant").field("shape", &self.shape).finish_non_exhaustive()
    }
}
