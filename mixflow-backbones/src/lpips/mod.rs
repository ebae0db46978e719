//! The learned perceptual distance between images (LPIPS), as decoders are trained with.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use mixflow_backbones::lpips::Lpips;
//!
//! let device = Device::default();
//! let lpips = Lpips::with_widths([4, 4, 8, 8, 8], 0, &device);
//! let (grey, white) = (Tensor::zeros([2, 3, 32, 32], &device), Tensor::ones([2, 3, 32, 32], &device));
//! assert_eq!(lpips.forward(grey, white).dims(), [2]);
//! ```

mod load;
mod vgg;

pub use load::official_key;
pub use vgg::{SMALLEST, Vgg16, WIDTHS};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::init::Initializer;

/// How different two images look: the weighted difference of their features in five depths of a classifier.
///
/// # Source
/// Zhang et al. 2018 (arXiv 1801.03924), section 3; the package `lpips` 0.1.4 with `net="vgg"`, version 0.1, which is what
/// RAE (`src/disc/lpips.py` at a4d18c4) and taming-transformers train with.
#[derive(Module, Debug)]
pub struct Lpips {
    /// The classifier, without its classes.
    pub vgg: Vgg16,
    /// Of each depth.
    pub heads: Vec<LpipsHead>,
}

/// How much each feature of one depth counts.
#[derive(Module, Debug)]
pub struct LpipsHead {
    /// `[1, channels, 1, 1]`, at least 0 in the published files.
    pub weight: Param<Tensor<4>>,
}

/// Mean and deviation of each colour, of pixels in [-1, 1].
const SHIFT: [f64; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f64; 3] = [0.458, 0.448, 0.450];

/// Added to the length of a pixel's features.
const EPSILON: f64 = 1e-10;

impl Lpips {
    /// The published shape with random weights, drawn when first read: [`load`](Self::load) published ones.
    pub fn new(device: &Device) -> Self {
        Self::with_widths(WIDTHS, 0, device)
    }

    /// As many channels in each depth as given, for trials without published weights.
    pub fn with_widths(widths: [usize; 5], seed: u64, device: &Device) -> Self {
        let init = Initializer::new(seed, device);
        let vgg = Vgg16::new(widths, &init);
        let head = |width: usize| LpipsHead { weight: init.frozen([1, width, 1, 1], vec![1.0 / width as f32; width]) };
        Self { vgg, heads: widths.map(head).into() }
    }

    /// Distances, at least 0 with published weights; differentiable in both images.
    ///
    /// # Shapes
    /// - a, b: `[batch, 3, height, width]`, in [-1, 1], sides at least [`SMALLEST`]
    /// - output: `[batch]`
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        let [batch, ..] = a.dims();
        let (a, b) = (self.vgg.forward(scale(a)), self.vgg.forward(scale(b)));
        let depths = a.into_iter().zip(b).zip(&self.heads).map(|((a, b), head)| {
            let difference = (unit(a) - unit(b)).square() * head.weight.val(); // [batch, channels, rows, columns]
            difference.sum_dim(1).flatten::<2>(1, 3).mean_dim(1).reshape([batch])
        });
        depths.reduce(|sum, depth| sum + depth).expect("there are five depths")
    }
}

fn scale(images: Tensor<4>) -> Tensor<4> {
    let device = images.device();
    let row = |values: [f64; 3]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), (&device, images.dtype()))
    };
    let (shift, scale) = (row(SHIFT), row(SCALE));
    (images - shift) / scale
}

/// The features of every pixel at length one.
fn unit(features: Tensor<4>) -> Tensor<4> {
    // The root has no slope at zero, where all features of a pixel are silent: the bound makes it flat there.
    let length = features.clone().square().sum_dim(1).clamp_min(1e-30).sqrt();
    features / (length + EPSILON)
}
