//! Self-attention with separate projections.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::ops;

/// Multi-head self-attention whose queries, keys and values are stored apart.
#[derive(Module, Debug)]
pub struct VitAttention {
    /// `width` to `width`, `[heads, width / heads]`
    pub query: Linear,
    /// As the queries.
    pub key: Linear,
    /// As the queries.
    pub value: Linear,
    /// `width` to `width`
    pub output: Linear,
    heads: usize,
}

impl VitAttention {
    /// Four layers from `linear`, which is called in the order query, key, value, output.
    pub fn new(heads: usize, linear: impl Fn() -> Linear) -> Self {
        Self { query: linear(), key: linear(), value: linear(), output: linear(), heads }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = Linear::forward_all([&self.query, &self.key, &self.value], x); // [batch, tokens, 3 width]
        self.output.forward(ops::attention(qkv, self.heads))
    }
}
