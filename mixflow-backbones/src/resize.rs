//! Images and tables of positions at another size, as PyTorch computes them.

use burn::tensor::{Tensor, TensorData};

use crate::ops;

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A straight line between neighbours.
    Bilinear,
    /// Cubic convolution of four neighbours, a = −0.75.
    Bicubic,
    /// Cubic convolution, a = −0.5, as wide as an output pixel where the image shrinks.
    AntialiasedBicubic,
}

/// Resizes to `size`, height and width. Pixel centres are at half integers; differentiable.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - returns: `[batch, channels, size[0], size[1]]`
///
/// # Source
/// PyTorch, `torch.nn.functional.interpolate` with `align_corners=False`, whose two bicubic kernels differ in `a`
/// (Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4).
pub fn resize(x: Tensor<4>, size: [usize; 2], filter: Filter) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    if [height, width] == size {
        return x;
    }
    let device = x.device();
    let matrix = |from: usize, to: usize| {
        let taps = TensorData::new(taps(from, to, filter), [to, from]);
        Tensor::<2>::from_data(taps, (&device, x.dtype()))
    };
    let (down, across) = (matrix(height, size[0]), matrix(width, size[1]));
    let rows = ops::linear(x, across, None); // [batch, channels, height, size[1]]
    ops::linear(rows.swap_dims(2, 3), down, None).swap_dims(2, 3)
}

/// The weight of every input value in every output value, `[to, from]`.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<f32> {
    let mut taps = vec![0.0; to * from];
    let scale = from as f64 / to as f64;
    for (index, row) in taps.chunks_exact_mut(from).enumerate() {
        let centre = (index as f64 + 0.5) * scale;
        match filter {
            // A value beyond the edge is that at the edge.
            Filter::Bilinear => {
                let place = (centre - 0.5).max(0.0);
                for tap in [place.floor(), place.floor() + 1.0] {
                    row[(tap as usize).min(from - 1)] += (1.0 - (place - tap).abs()) as f32;
                }
            }
            Filter::Bicubic => {
                let place = centre - 0.5;
                for step in -1..=2 {
                    let tap = place.floor() + f64::from(step);
                    row[(tap.max(0.0) as usize).min(from - 1)] += cubic(place - tap, -0.75) as f32;
                }
            }
            // Values beyond the edge do not count.
            Filter::AntialiasedBicubic => {
                let stretch = scale.max(1.0);
                let first = (centre - 2.0 * stretch + 0.5).max(0.0) as usize;
                let end = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
                let weight = |tap: usize| cubic((tap as f64 + 0.5 - centre) / stretch, -0.5);
                let sum: f64 = (first..end).map(weight).sum();
                for (tap, value) in row.iter_mut().enumerate().take(end).skip(first) {
                    *value = (weight(tap) / sum) as f32;
                }
            }
        }
    }
    taps
}

/// Keys' kernel: a piecewise cubic on [−2, 2] that is 1 at 0 and 0 at the other integers.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [Filter; 3] = [Filter::Bilinear, Filter::Bicubic, Filter::AntialiasedBicubic];

    #[test]
    fn weights_sum_to_one() {
        for filter in FILTERS {
            for (from, to) in [(7, 3), (3, 7), (5, 5), (1, 4), (16, 1)] {
                for row in taps(from, to, filter).chunks(from) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{filter:?} {from} to {to}: {row:?}");
                }
            }
        }
    }

    #[test]
    fn straight_lines_stay_straight_away_from_the_edges() {
        for filter in FILTERS {
            for (from, to) in [(24, 9), (24, 40)] {
                let rows = taps(from, to, filter);
                for (index, row) in rows.chunks(from).enumerate().take(2 * to / 3).skip(to / 3) {
                    let value: f64 = row.iter().enumerate().map(|(at, w)| f64::from(*w) * (at as f64 + 0.5)).sum();
                    let expected = (index as f64 + 0.5) * from as f64 / to as f64;
                    // Cubic convolution with a = −0.75 bends a line a little, and so does a kernel that is wider than
                    // the distance of its samples; the others keep it.
                    let exact = filter == Filter::Bilinear || filter == Filter::AntialiasedBicubic && to > from;
                    let tolerance = if exact { 1e-5 } else { 0.05 };
                    assert!((value - expected).abs() < tolerance, "{filter:?} {from} to {to}: {value}, {expected}");
                }
            }
        }
    }
}
