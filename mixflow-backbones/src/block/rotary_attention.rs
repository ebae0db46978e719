//! Multi-head self-attention with rotary positions.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::block::{HeadNorm, NormKind};
use crate::embed::RotaryTable;
use crate::init::{Initializer, LinearLaw};
use crate::{Linear, ops};

/// Self-attention whose queries and keys are normalised, if wanted, and rotated, if a table is given.
#[derive(Module, Debug)]
pub struct RotaryAttention {
    /// `width` to `3 * width`: queries, keys, values, each `[heads, width / heads]`.
    pub qkv: Linear,
    /// Of queries.
    pub q_norm: Option<HeadNorm>,
    /// Of keys.
    pub k_norm: Option<HeadNorm>,
    /// `width` to `width`
    pub proj: Linear,
    heads: usize,
}

impl RotaryAttention {
    /// `norm` is the normalisation of queries and keys, where there is one.
    pub fn new(width: usize, heads: usize, norm: Option<NormKind>, law: LinearLaw, init: &Initializer) -> Self {
        let norm = || norm.map(|kind| HeadNorm::new(width / heads, kind, init));
        Self {
            qkv: law.linear(width, 3 * width, init),
            q_norm: norm(),
            k_norm: norm(),
            proj: law.linear(width, width, init),
            heads,
        }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>, places: Option<&RotaryTable>) -> Tensor<3> {
        let qkv = HeadNorm::queries_and_keys(&self.q_norm, &self.k_norm, self.qkv.forward(x), self.heads);
        let qkv = match places {
            Some(table) => table.rotate(qkv, self.heads),
            None => qkv,
        };
        self.proj.forward(ops::attention(qkv, self.heads))
    }
}
