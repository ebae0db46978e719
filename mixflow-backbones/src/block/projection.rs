//! Tokens to queries, keys and values.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::ops::Recomputed;

/// What makes queries, keys and values for [`Attention`](super::Attention): `[batch, tokens, heads d]` each.
pub trait Projection: Module {
    /// From layers of `linear`, which is given the numbers of inputs and outputs.
    fn new(width: usize, linear: impl Fn(usize, usize) -> Linear) -> Self;

    /// All three, one behind the other: `[batch, tokens, 3 heads d]`.
    fn packed(&self, x: Recomputed) -> Recomputed;

    /// Each for itself.
    fn apart(&self, x: Tensor<3>) -> [Tensor<3>; 3];

    /// Whether keys and values have fewer heads than queries; they cannot be packed then.
    fn is_grouped(&self) -> bool {
        false
    }
}

/// One layer, whose rows are those of queries, then keys, then values.
impl Projection for Linear {
    fn new(width: usize, linear: impl Fn(usize, usize) -> Self) -> Self {
        linear(width, 3 * width)
    }

    fn packed(&self, x: Recomputed) -> Recomputed {
        self.forward_of(x)
    }

    fn apart(&self, x: Tensor<3>) -> [Tensor<3>; 3] {
        let all = self.forward(x);
        let width = all.dims()[2] / 3;
        [0, 1, 2].map(|part| all.clone().narrow(2, part * width, width))
    }
}

/// A layer for each.
///
/// Keys and values may have fewer heads than queries: each serves as many of theirs as follow each other.
///
/// # Source
/// Ainslie et al. 2023 (arXiv 2305.13245), section 2.2.
#[derive(Module, Debug)]
pub struct SplitProjection {
    /// `width` to `heads d`
    pub query: Linear,
    /// As the queries.
    pub key: Linear,
    /// As the keys.
    pub value: Linear,
}

impl Projection for SplitProjection {
    fn new(width: usize, linear: impl Fn(usize, usize) -> Linear) -> Self {
        Self { query: linear(width, width), key: linear(width, width), value: linear(width, width) }
    }

    fn packed(&self, x: Recomputed) -> Recomputed {
        Linear::forward_all([&self.query, &self.key, &self.value], x)
    }

    fn apart(&self, x: Tensor<3>) -> [Tensor<3>; 3] {
        [self.query.forward(x.clone()), self.key.forward(x.clone()), self.value.forward(x)]
    }

    fn is_grouped(&self) -> bool {
        self.query.weight.lazy_shape() != self.key.weight.lazy_shape()
    }
}
