//! All pairs of rows of two sets, in parallel and with the same result on any number of threads.

use std::ops::Range;

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::Features;

/// Rows of `a` that share one matrix product with `b`. Fixed, so that no sum depends on the number of threads.
const TILE: usize = 64;

/// For each row `i` of `a`: `reduce(i, products)` with `products[j] = a_i · b_j`.
pub(super) fn for_each_row<R: Send>(a: &Features, b: &Features, reduce: impl Fn(usize, &[f64]) -> R + Sync) -> Vec<R> {
    let starts: Vec<_> = (0..a.rows()).step_by(TILE).collect();
    starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let products = products(a, start..a.rows().min(start + TILE), b);
            let columns = products.as_slice().chunks_exact(b.rows()).enumerate();
            columns.map(|(at, column)| reduce(start + at, column)).collect::<Vec<R>>()
        })
        .collect()
}

/// The products of some rows of `a`, a column each, with all of `b`.
fn products(a: &Features, rows: Range<usize>, b: &Features) -> DMatrix<f64> {
    let width = a.columns();
    // Rows of features are columns of these matrices. The few are transposed: nalgebra's product of small matrices reads
    // views with a stride between rows as if they had none.
    let few = DMatrixView::from_slice(&a.values()[rows.start * width..rows.end * width], width, rows.len());
    let all = DMatrixView::from_slice(b.values(), width, b.rows());
    (few.transpose() * all).transpose()
}

/// `x·y`.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    sum(x, y, |x, y| x * y)
}

/// Eight running sums: a single one is a chain of dependent additions that no compiler may reorder.
pub(super) fn sum(x: &[f64], y: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (x_lanes, x_rest) = x.as_chunks::<8>();
    let (y_lanes, y_rest) = y.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in x_lanes.iter().zip(y_lanes) {
        for lane in 0..8 {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f64>() + rest
}
