//! Images to tokens and back.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Convolution;
use crate::init::Initializer;

/// One linear map of every `patch x patch` square: a convolution whose stride is its kernel.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// The convolution, `[width, channels, patch, patch]`, under the name that published checkpoints give it.
    pub proj: Convolution,
}

impl PatchEmbedding {
    /// Xavier-uniform on the flattened kernel, zero bias.
    pub fn new(channels: usize, patch: usize, width: usize, init: &Initializer) -> Self {
        let weight = init.xavier([width, channels, patch, patch]);
        Self { proj: Convolution { weight, bias: Some(init.zeros([width])) } }
    }

    /// # Shapes
    /// - x: `[batch, channels, rows * patch, columns * patch]`
    /// - output: `[batch, rows * columns, width]`, row-major
    pub fn forward(&self, x: Tensor<4>) -> Tensor<3> {
        let [_, channels, patch, _] = self.proj.weight.lazy_shape().dims();
        self.proj.of_patches(patchify(x, channels, patch))
    }

    /// As [`forward`](Self::forward), of a square image of so many tokens.
    ///
    /// # Panics
    /// If the image is another: a rectangle of as many tokens would be given the places of the square.
    pub fn of_square(&self, x: Tensor<4>, tokens: usize) -> Tensor<3> {
        let ([_, _, height, width], patch) = (x.dims(), self.proj.weight.lazy_shape()[2]);
        let side = tokens.isqrt() * patch;
        assert!(
            [height, width] == [side, side],
            "the image is {height} x {width}, the network was made for {side} x {side}"
        );
        self.forward(x)
    }
}

/// The patches of an image.
///
/// # Shapes
/// - x: `[batch, channels, rows * patch, columns * patch]`
/// - output: `[batch, rows * columns, channels * patch * patch]`, row-major, as the kernels of a [`Convolution`] are
pub fn patchify(x: Tensor<4>, channels: usize, patch: usize) -> Tensor<3> {
    let [batch, found, height, length] = x.dims();
    assert!(
        found == channels && height % patch == 0 && length % patch == 0,
        "image is [{found}, {height}, {length}], the network takes {channels} channels and sides divisible by {patch}"
    );
    let [rows, columns] = [height / patch, length / patch];
    x.reshape([batch, channels, rows, patch, columns, patch]).permute([0, 2, 4, 1, 3, 5]).reshape([
        batch,
        rows * columns,
        channels * patch * patch,
    ])
}

/// The patches of an image with the channel fastest: what [`unpatchify`] puts back in place.
///
/// # Shapes
/// - x: `[batch, channels, rows * patch, columns * patch]`
/// - output: `[batch, rows * columns, patch * patch * channels]`, row-major
pub fn patchify_pixels(x: Tensor<4>, channels: usize, patch: usize) -> Tensor<3> {
    let planes = patchify(x, channels, patch);
    let [batch, tokens, values] = planes.dims();
    planes.reshape([batch, tokens, channels, patch * patch]).swap_dims(2, 3).reshape([batch, tokens, values])
}

/// Puts predicted patches back in place.
///
/// # Shapes
/// - tokens: `[batch, rows * columns, patch * patch * channels]`, channel fastest
/// - output: `[batch, channels, rows * patch, columns * patch]`
pub fn unpatchify(tokens: Tensor<3>, [rows, columns]: [usize; 2], patch: usize) -> Tensor<4> {
    let [batch, _, values] = tokens.dims();
    let channels = values / (patch * patch);
    tokens.reshape([batch, rows, columns, patch, patch, channels]).permute([0, 5, 1, 3, 2, 4]).reshape([
        batch,
        channels,
        rows * patch,
        columns * patch,
    ])
}

/// Puts patches back in place, the inverse of [`patchify`].
///
/// # Shapes
/// - tokens: `[batch, rows * columns, channels * patch * patch]`, row-major, column of a patch fastest
/// - output: `[batch, channels, rows * patch, columns * patch]`
pub fn unpatchify_planes(tokens: Tensor<3>, [rows, columns]: [usize; 2], patch: usize) -> Tensor<4> {
    let [batch, _, values] = tokens.dims();
    let channels = values / (patch * patch);
    tokens.reshape([batch, rows, columns, channels, patch, patch]).permute([0, 3, 1, 4, 2, 5]).reshape([
        batch,
        channels,
        rows * patch,
        columns * patch,
    ])
}
