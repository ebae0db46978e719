//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::init::Initializer;
use crate::ops;

/// Self-attention with one projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    /// `width` to `3 * width`: queries, keys, values, each `[heads, width / heads]`.
    pub qkv: Linear,
    /// `width` to `width`
    pub proj: Linear,
    heads: usize,
}

impl Attention {
    /// Xavier-uniform weights, zero biases.
    pub fn new(width: usize, heads: usize, init: &Initializer) -> Self {
        Self { qkv: init.xavier_linear(width, 3 * width), proj: init.xavier_linear(width, width), heads }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.proj.forward(ops::attention(self.qkv.forward(x), self.heads))
    }
}
