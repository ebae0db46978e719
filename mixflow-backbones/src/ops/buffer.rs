//! Flat `f32` storage of tensors on the CPU, and loops over it on all threads.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use rayon::prelude::*;

/// Values a task works on at a time: small enough for the cache next to the core, large enough to be worth a task.
pub(super) const TASK: usize = 16 * 1024;

/// The tensor in row-major order, its storage not longer than the tensor.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

/// The values of a [`contiguous`] tensor.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

/// The tensor that owns these values.
pub(super) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    assert_eq!(values.len(), shape.num_elements(), "values and shape {shape:?} differ in number");
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

/// Values in a task of whole rows.
pub(super) fn task_len(row: usize) -> usize {
    (TASK / row.max(1)).max(1) * row.max(1)
}

/// Whether a loop over this many values is worth more than one thread.
pub(super) fn is_large(values: usize) -> bool {
    values > 4 * TASK
}

/// Calls `f(index, part)` for the parts of `output`, each `len` values long, on all threads if there is much to do.
pub(super) fn for_each_part(output: &mut [f32], len: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if is_large(output.len()) {
        output.par_chunks_mut(len).enumerate().for_each(|(index, part)| f(index, part));
    } else {
        output.chunks_mut(len).enumerate().for_each(|(index, part)| f(index, part));
    }
}

/// Calls `f(example, values, sums)` for every example, with its `len` values and its `sum_len` sums.
pub(super) fn for_each_example(
    values: &mut [f32],
    len: usize,
    sums: &mut [f32],
    sum_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync + Send,
) {
    if is_large(values.len()) {
        let examples = values.par_chunks_mut(len).zip(sums.par_chunks_mut(sum_len)).enumerate();
        examples.for_each(|(index, (values, sums))| f(index, values, sums));
    } else {
        let examples = values.chunks_mut(len).zip(sums.chunks_mut(sum_len)).enumerate();
        examples.for_each(|(index, (values, sums))| f(index, values, sums));
    }
}

/// Sums the rows of a matrix with `columns` columns, in an order that depends on its shape only.
pub(super) fn sum_rows(matrix: &[f32], columns: usize) -> Vec<f32> {
    let add = |part: &[f32]| {
        let mut sum = vec![0.0; columns];
        super::simd::add_rows(&mut sum, part);
        sum
    };
    let len = 4 * task_len(columns);
    let parts: Vec<Vec<f32>> = if is_large(matrix.len()) {
        matrix.par_chunks(len).map(add).collect()
    } else {
        matrix.chunks(len).map(add).collect()
    };
    let mut sum = vec![0.0; columns];
    parts.iter().for_each(|part| super::simd::add_rows(&mut sum, part));
    sum
}
