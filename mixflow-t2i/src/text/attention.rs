//! Attention with numbers added to its scores.

use burn::tensor::{Tensor, activation::softmax};

/// `softmax(q kᵀ + bias) v` for every head, unscaled.
///
/// # Shapes
/// - qkv: queries, keys and values, each `[batch, tokens, heads d]`
/// - bias: `[1, 1 or heads, tokens, tokens]`, of a query (row) for a key (column)
/// - returns: `[batch, tokens, heads d]`
pub(super) fn attention(qkv: [Tensor<3>; 3], heads: usize, bias: Tensor<4>) -> Tensor<3> {
    let [batch, tokens, width] = qkv[0].dims();
    let [q, k, v] = qkv.map(|x| x.reshape([batch, tokens, heads, width / heads]).swap_dims(1, 2)); // [batch, heads, tokens, d]
    let scores = q.matmul(k.swap_dims(2, 3)) + bias; // [batch, heads, tokens, tokens]
    softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([batch, tokens, width])
}
