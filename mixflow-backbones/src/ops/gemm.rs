//! Matrix products of strided `f32` matrices, by the `gemm` crate.

use ::gemm::Parallelism;

/// Multiplications from which a product is shared by all threads: about 50 µs of one core.
const LARGE: usize = 1 << 21;

/// A matrix inside a slice: its first element at the start, `strides` apart between rows and between columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows that follow each other.
    pub(super) fn rows(values: &'a [f32], columns: usize) -> Self {
        Self { values, strides: [columns, 1] }
    }

    pub(super) fn transposed(self) -> Self {
        Self { strides: [self.strides[1], self.strides[0]], ..self }
    }
}

/// How many threads a product may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    One,
    All,
}

/// `output = keep output + scale a b` with `output` `[m, n]` in rows, `stride` apart, and `a: [m, k]`, `b: [k, n]`.
/// `keep` is false to overwrite the output.
#[allow(unsafe_code, reason = "the gemm crate takes pointers")]
#[allow(clippy::too_many_arguments, reason = "the arguments of a BLAS product")]
pub(super) fn multiply(
    [m, k, n]: [usize; 3],
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    output: &mut [f32],
    stride: usize,
    keep: bool,
    threads: Threads,
) {
    let end = |[rows, columns]: [usize; 2], [down, right]: [usize; 2]| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * down + (columns - 1) * right + 1 }
    };
    assert!(end([m, k], a.strides) <= a.values.len(), "matrix [{m}, {k}] exceeds its slice");
    assert!(end([k, n], b.strides) <= b.values.len(), "matrix [{k}, {n}] exceeds its slice");
    assert!(end([m, n], [stride, 1]) <= output.len() && stride >= n, "matrix [{m}, {n}] exceeds its slice");
    let parallelism = match threads {
        Threads::All if m * k * n >= LARGE => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    // SAFETY: by the assertions every element the product touches lies in its slice, `output` is not aliased because it
    // is borrowed mutably, and its rows do not overlap.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            stride as isize,
            keep,
            a.values.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.values.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
