//! The classifier whose features are compared.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::Convolution;
use crate::init::Initializer;
use crate::ops::{Window, max_pool2d};

/// Channels of the published network in its five depths.
pub const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

/// The smallest side of an image: it is halved four times.
pub const SMALLEST: usize = 16;

/// Convolutions in each depth.
const CONVOLUTIONS: [usize; 5] = [2, 2, 3, 3, 3];

/// VGG16 up to its last convolution.
///
/// # Source
/// Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, column D.
#[derive(Module, Debug)]
pub struct Vgg16 {
    /// The convolutions of each depth, of 3 x 3 pixels.
    pub depths: Vec<Vec<Convolution>>,
}

impl Vgg16 {
    pub(super) fn new(widths: [usize; 5], init: &Initializer) -> Self {
        let mut inputs = 3;
        let depths = CONVOLUTIONS.into_iter().zip(widths).map(|(count, outputs)| {
            let convolution = |_| {
                let inputs = std::mem::replace(&mut inputs, outputs);
                // Kaiming-normal, as torchvision draws it.
                let deviation = (2.0 / (9 * outputs) as f64).sqrt();
                let weight = init.normal([outputs, inputs, 3, 3], deviation);
                Convolution { weight, bias: Some(init.zeros([outputs])) }
            };
            (0..count).map(convolution).collect()
        });
        Self { depths: depths.collect() }
    }

    /// Features after the last convolution of each depth, of which each sees half the pixels of the one before.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - output: `[batch, channels, height / 2ᵏ, width / 2ᵏ]`, k from 0 to 4
    ///
    /// # Panics
    /// If a side is below [`SMALLEST`].
    pub fn forward(&self, mut x: Tensor<4>) -> Vec<Tensor<4>> {
        let [_, _, height, width] = x.dims();
        assert!(height.min(width) >= SMALLEST, "expected sides of at least {SMALLEST}, found {height} x {width}");
        let mut features = Vec::with_capacity(self.depths.len());
        for (depth, convolutions) in self.depths.iter().enumerate() {
            if depth > 0 {
                x = max_pool2d(x, [2, 2], Window::default().every(2));
            }
            x = convolutions.iter().fold(x, |x, convolution| relu(convolution.forward(x)));
            features.push(x.clone());
        }
        features
    }
}
