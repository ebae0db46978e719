//! What a device makes of single operations.

use burn::tensor::{Device, Tensor};

use super::subject::noise;
use crate::train::Tensors;

/// Products of `[rows, inner]` and `[inner, columns]`, as small networks have them and larger: kernels are chosen by size.
pub(super) fn products(device: &Device) -> Tensors {
    let sizes = [[64, 64, 64], [64, 64, 256], [256, 128, 64], [512, 512, 512]];
    let product = |[rows, inner, columns]: [usize; 3]| {
        let (a, b) = (noise([1, 1, rows, inner], 0, device), noise([1, 1, inner, columns], 1, device));
        (format!("{rows} x {inner} x {columns}"), a.matmul(b).into_data())
    };
    sizes.map(product).into()
}

/// Of normal numbers; sine and cosine also of angles up to some thousand, as the time of DiT has them.
pub(super) fn functions(device: &Device) -> Tensors {
    let x: Tensor<4> = noise([1, 1, 64, 64], 0, device);
    let (large, positive) = (x.clone() * 1000.0, x.clone().abs() + 1e-3);
    [
        ("exp", x.clone().exp()),
        ("tanh", x.clone().tanh()),
        ("erf", x.clone().erf()),
        ("sin", x.clone().sin()),
        ("cos", x.cos()),
        ("sin of 1000", large.clone().sin()),
        ("cos of 1000", large.cos()),
        ("log", positive.clone().log()),
        ("sqrt", positive.sqrt()),
    ]
    .map(|(name, values)| (name.into(), values.into_data()))
    .into()
}
