//! Tensors of Burn as kernels are given them.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor, bf16, f16};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::super::native::Native;

/// Rows or numbers whose sum one unit takes before Burn adds what units found.
pub(super) const CHUNK: usize = 64;

/// The storage of a tensor without gradients, in the order of its axes.
pub(super) fn storage<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    into_contiguous(Cube::primitive(tensor))
}

/// The inverse of [`storage`].
pub(super) fn tensor<const D: usize>(storage: CubeTensor) -> Tensor<D> {
    Cube::tensor(storage)
}

/// Storage to write to, beside another.
pub(super) fn empty(beside: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape.into(), dtype)
}

/// Storage to write to, of the shape and type of another.
pub(super) fn like(other: &CubeTensor) -> CubeTensor {
    empty(other, other.shape(), other.dtype)
}

/// A type as kernels are told it.
pub(super) fn element(dtype: DType) -> ElemType {
    match dtype {
        DType::F32 => f32::elem_type_native(),
        DType::F16 => f16::elem_type_native(),
        DType::BF16 => bf16::elem_type_native(),
        other => panic!("kernels compute with floating point numbers of 16 or 32 bits, not {other:?}"),
    }
}

/// A unit for each of `count` numbers.
pub(super) fn each(beside: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&beside.client, count);
    (calculate_cube_count_elemwise(&beside.client, count, dim), dim)
}

/// A cube for each of `rows` of `width` numbers, and how many units a cube has: a power of two.
pub(super) fn each_row(beside: &CubeTensor, rows: usize, width: usize) -> (CubeCount, CubeDim, usize) {
    let most = beside.client.properties().hardware.max_units_per_cube.clamp(1, 256) as usize;
    let units = (1 << most.ilog2()).min(width.next_power_of_two());
    let dim = CubeDim::new_1d(units as u32);
    (calculate_cube_count_elemwise(&beside.client, rows * units, dim), dim, units)
}
