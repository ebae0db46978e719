//! The Inception network that FID is computed on.
//!
//! It is the graph of 2015 with 1008 classes, not the network of later papers, and differs from torchvision's of the
//! same name: average pools do not count padding, and the last block pools by maximum. Any other network gives numbers
//! that are not FID.

mod block;
mod load;
mod resize;
mod unit;

pub use block::{BlockA, BlockB, BlockC, BlockD, BlockE, Pool};
pub use load::{PUBLISHED_SHA256, official_key};
pub use resize::{Resize, SIDE};
pub use unit::{BatchNorm, Unit};

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use self::unit::max_pool;
use crate::init::Initializer;
use crate::{Linear, ops};

/// Inception v3 as FID knows it, for inference.
///
/// # Source
/// Szegedy et al. 2015 (arXiv 1512.00567); the TensorFlow graph `inception-2015-12-05` as openai/guided-diffusion 22e0df8
/// (`evaluations/evaluator.py`) runs it, under the names of pytorch-fid 0.3.0 (`inception.py`).
#[derive(Module, Debug)]
pub struct Inception {
    /// 299 to 149 pixels.
    pub conv2d_1a_3x3: Unit,
    /// To 147.
    pub conv2d_2a_3x3: Unit,
    /// Keeps 147.
    pub conv2d_2b_3x3: Unit,
    /// After the pool: keeps 73.
    pub conv2d_3b_1x1: Unit,
    /// To 71.
    pub conv2d_4a_3x3: Unit,
    /// `[256, 35, 35]`
    pub mixed_5b: BlockA,
    /// `[288, 35, 35]`
    pub mixed_5c: BlockA,
    /// `[288, 35, 35]`
    pub mixed_5d: BlockA,
    /// `[768, 17, 17]`
    pub mixed_6a: BlockB,
    /// `[768, 17, 17]`
    pub mixed_6b: BlockC,
    /// `[768, 17, 17]`
    pub mixed_6c: BlockC,
    /// `[768, 17, 17]`; its first channels are the spatial features.
    pub mixed_6d: BlockC,
    /// `[768, 17, 17]`
    pub mixed_6e: BlockC,
    /// `[1280, 8, 8]`
    pub mixed_7a: BlockD,
    /// `[2048, 8, 8]`
    pub mixed_7b: BlockE,
    /// `[2048, 8, 8]`
    pub mixed_7c: BlockE,
    /// 2048 features to 1008 classes.
    pub fc: Linear,
}

/// What an image excites in the network.
#[derive(Clone, Debug)]
pub struct InceptionActivations {
    /// After the first pool, the second one, `mixed_6e` and `mixed_7c`: `[batch, channels, side, side]` with 64, 192, 768
    /// and 2048 channels.
    pub maps: [Tensor<4>; 4],
    /// `[batch, 7, 17, 17]`: what sFID reads.
    pub spatial: Tensor<4>,
}

impl InceptionActivations {
    /// Means of the four maps, `[batch, channels]`. The last one, of 2048 channels, is what FID reads.
    pub fn means(&self) -> [Tensor<2>; 4] {
        self.maps.clone().map(|map| {
            let [batch, channels, ..] = map.dims();
            map.flatten::<3>(2, 3).mean_dim(2).reshape([batch, channels])
        })
    }

    /// The 2048 features of FID, `[batch, 2048]`.
    pub fn pool(&self) -> Tensor<2> {
        let [_, _, _, pool] = self.means();
        pool
    }
}

/// Channels of `Mixed_6d.branch1x1` that sFID reads (guided-diffusion's evaluator, 22e0df8).
const SPATIAL_CHANNELS: usize = 7;

impl Inception {
    /// Multiplications with an addition that the features of one image take.
    pub const MULTIPLY_ADDS: f64 = 5_711_168_096.0;

    /// A network of random weights, drawn when first read: load published ones.
    pub fn new(device: &Device) -> Self {
        let init = &Initializer::new(0, device);
        let unit = |channels, kernel, stride, padding| Unit::new(channels, kernel, stride, padding, init);
        Self {
            conv2d_1a_3x3: unit([3, 32], [3, 3], 2, [0, 0]),
            conv2d_2a_3x3: unit([32, 32], [3, 3], 1, [0, 0]),
            conv2d_2b_3x3: unit([32, 64], [3, 3], 1, [1, 1]),
            conv2d_3b_1x1: unit([64, 80], [1, 1], 1, [0, 0]),
            conv2d_4a_3x3: unit([80, 192], [3, 3], 1, [0, 0]),
            mixed_5b: BlockA::new(192, 32, init),
            mixed_5c: BlockA::new(256, 64, init),
            mixed_5d: BlockA::new(288, 64, init),
            mixed_6a: BlockB::new(288, init),
            mixed_6b: BlockC::new(128, init),
            mixed_6c: BlockC::new(160, init),
            mixed_6d: BlockC::new(160, init),
            mixed_6e: BlockC::new(192, init),
            mixed_7a: BlockD::new(init),
            mixed_7b: BlockE::new(1280, Pool::Average, init),
            mixed_7c: BlockE::new(2048, Pool::Maximum, init),
            fc: init.xavier_linear(2048, 1008),
        }
    }

    /// # Shapes
    /// - x: `[batch, 3, 299, 299]` as a [`Resize`] gives it
    ///
    /// # Panics
    /// If the image has another shape.
    pub fn forward(&self, x: Tensor<4>) -> InceptionActivations {
        let [batch, channels, height, width] = x.dims();
        assert!(
            [channels, height, width] == [3, SIDE, SIDE],
            "expected images [3, {SIDE}, {SIDE}], found [{channels}, {height}, {width}]"
        );
        let x = self.conv2d_2a_3x3.forward(self.conv2d_1a_3x3.forward(x));
        let first = max_pool(self.conv2d_2b_3x3.forward(x), 2, 0); // [batch, 64, 73, 73]
        let x = self.conv2d_4a_3x3.forward(self.conv2d_3b_1x1.forward(first.clone()));
        let second = max_pool(x, 2, 0); // [batch, 192, 35, 35]
        let x = self.mixed_5b.forward(second.clone());
        let x = self.mixed_5d.forward(self.mixed_5c.forward(x));
        let x = self.mixed_6b.forward(self.mixed_6a.forward(x));
        let x = self.mixed_6d.forward(self.mixed_6c.forward(x));
        // The block's output begins with its branch1x1.
        let spatial = x.clone().slice([0..batch, 0..SPATIAL_CHANNELS]);
        let third = self.mixed_6e.forward(x); // [batch, 768, 17, 17]
        let x = self.mixed_7b.forward(self.mixed_7a.forward(third.clone()));
        let last = self.mixed_7c.forward(x); // [batch, 2048, 8, 8]
        InceptionActivations { maps: [first, second, third, last], spatial }
    }

    /// `pool Wᵀ`, without bias: the logits that the Inception Score of guided-diffusion reads. With `fc.bias` added they
    /// are those of the classifier.
    ///
    /// # Shapes
    /// - pool: `[batch, 2048]`
    /// - output: `[batch, 1008]`
    pub fn unbiased_logits(&self, pool: Tensor<2>) -> Tensor<2> {
        ops::linear(pool, self.fc.weight.val(), None)
    }

    /// Class probabilities of [`unbiased_logits`](Self::unbiased_logits), `[batch, 1008]`.
    pub fn probabilities(&self, pool: Tensor<2>) -> Tensor<2> {
        softmax(self.unbiased_logits(pool), 1)
    }
}
