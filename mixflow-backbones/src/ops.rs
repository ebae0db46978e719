//! Composed placeholders until the single operations are merged.
#![allow(missing_docs, reason = "replaced by the ops module")]
use burn::tensor::{Tensor, activation};

pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut dims = x.dims();
    let rows: usize = dims[..D - 1].iter().product();
    let y = x.reshape([rows, dims[D - 1]]).matmul(weight.clone().transpose());
    let y = match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    };
    dims[D - 1] = weight.dims()[0];
    y.reshape(dims)
}
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let u = (x.clone() + x.clone().powi_scalar(3) * 0.044715) * 1.595769121605731;
    x * activation::sigmoid(u)
}
pub fn layer_norm(x: Tensor<3>, eps: f64) -> Tensor<3> {
    let (var, mean) = x.clone().var_mean_bias(2);
    (x - mean) / (var + eps).sqrt()
}
pub fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>, eps: f64) -> Tensor<3> {
    layer_norm(x, eps) * (scale.unsqueeze_dim(1) + 1.0) + shift.unsqueeze_dim(1)
}
pub fn gated_residual(x: Tensor<3>, y: Tensor<3>, gate: Tensor<2>) -> Tensor<3> {
    x + y * gate.unsqueeze_dim(1)
}
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [b, n, w] = qkv.dims();
    let d = w / 3 / heads;
    let qkv = qkv.reshape([b, n, 3, heads, d]).permute([2, 0, 3, 1, 4]);
    let part = |i: usize| qkv.clone().slice([i..i + 1]).reshape([b, heads, n, d]);
    let p = activation::softmax(part(0).matmul(part(1).transpose()) / (d as f64).sqrt(), 3);
    p.matmul(part(2)).swap_dims(1, 2).reshape([b, n, heads * d])
}
