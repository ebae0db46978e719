//! All pairs of rows of two sets, in parallel and with the same result on any number of threads.

use rayon::prelude::*;

use super::Features;

/// Rows of `a` that share one pass over `b`, so that `b` is read from memory once for all of them.
const TILE: usize = 16;

/// For each row `i` of `a`: `reduce(i, values)` with `values[j] = pair(a_i, b_j)`.
pub(super) fn for_each_row<R: Send>(
    a: &Features,
    b: &Features,
    pair: impl Fn(&[f64], &[f64]) -> f64 + Sync,
    reduce: impl Fn(usize, &mut [f64]) -> R + Sync,
) -> Vec<R> {
    let tiles: Vec<_> = (0..a.rows()).step_by(TILE).map(|start| start..a.rows().min(start + TILE)).collect();
    let count = b.rows();
    tiles
        .into_par_iter()
        .flat_map_iter(|tile| {
            let mut values = vec![0.0; tile.len() * count];
            for (j, row) in b.iter().enumerate() {
                for (at, i) in tile.clone().enumerate() {
                    values[at * count + j] = pair(a.row(i), row);
                }
            }
            let reduce = &reduce;
            tile.enumerate().map(move |(at, i)| reduce(i, &mut values[at * count..][..count]))
        })
        .collect()
}

/// `x·y`.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    sum(x, y, |x, y| x * y)
}

/// `|x − y|²`, from the differences: exactly zero for equal rows, where `|x|² − 2 x·y + |y|²` leaves rounding noise.
pub(super) fn squared_distance(x: &[f64], y: &[f64]) -> f64 {
    sum(x, y, |x, y| (x - y) * (x - y))
}

/// Eight running sums: a single one is a chain of dependent additions that no compiler may reorder.
fn sum(x: &[f64], y: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
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
