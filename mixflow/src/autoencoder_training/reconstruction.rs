//! The first loss: every pixel where it was.

use burn::tensor::Tensor;

/// The mean absolute difference of pixels in [0, 1], of images in [-1, 1]: `[1]`.
///
/// # Source
/// RAE `src/train_stage1.py` at a4d18c4, `rec_loss`.
pub fn reconstruction(found: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
    (found - images).abs().mean() / 2.0 // pixels in [-1, 1] differ twice as much as in [0, 1]
}
