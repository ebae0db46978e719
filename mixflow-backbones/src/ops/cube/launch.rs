//! Tensors of Burn as kernels are given them.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor, bf16, f16};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{calculate_cube_count_elemwise, ir::VectorSize};

use super::super::native::Native;

/// Rows or numbers whose sum one unit takes before Burn adds what units found.
pub(super) const CHUNK: usize = 64;
/// Most units of a cube.
pub(super) const UNITS: usize = 256;

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

/// Numbers that a unit reads and writes at once where rows have `width`: as many as the device likes best of those that divide it.
pub(super) fn lanes(beside: &CubeTensor, width: usize) -> VectorSize {
    let mut sizes = beside.client.io_optimized_vector_sizes(beside.dtype.size());
    sizes.find(|lanes| width.is_multiple_of(*lanes)).unwrap_or(1)
}

/// A unit for each of `count` vectors.
pub(super) fn each(beside: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&beside.client, count);
    (calculate_cube_count_elemwise(&beside.client, count, dim), dim)
}

/// Units for each of `rows` of so many vectors, and their number, a power of two: a cube has one or several whole rows.
pub(super) fn each_row(beside: &CubeTensor, rows: usize, vectors: usize) -> (CubeCount, CubeDim, usize) {
    let most = beside.client.properties().hardware.max_units_per_cube.clamp(1, UNITS as u32) as usize;
    let most = 1 << most.ilog2();
    let units = most.min(vectors.next_power_of_two());
    let dim = CubeDim::new_2d(units as u32, (most / units) as u32);
    (calculate_cube_count_elemwise(&beside.client, rows * units, dim), dim, units)
}
