//! Pooling: the largest or the mean value of every window of an image.

use super::buffer::{contiguous, for_each_part, tensor, values};
use super::conv::Window;
use super::kernel::{Kernel, apply, is_native};
use super::simd::vectorized;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Shape, Tensor, module};
use std::ops::Range;

/// Largest value of every window of `size` rows and columns. What lies beyond the edge does not count; the gradient goes
/// to the first of equal values.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - returns: `[batch, channels, (height + padding - size) / stride + 1, ..]`, rounded down
pub fn max_pool2d(x: Tensor<4>, size: [usize; 2], window: Window) -> Tensor<4> {
    pool(x, Pool { size, window, kind: Kind::Maximum })
}

/// Mean of every window of `size` rows and columns. What lies beyond the edge does not count.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - returns: `[batch, channels, (height + padding - size) / stride + 1, ..]`, rounded down
pub fn average_pool2d(x: Tensor<4>, size: [usize; 2], window: Window) -> Tensor<4> {
    pool(x, Pool { size, window, kind: Kind::Mean })
}

fn pool(x: Tensor<4>, pool: Pool) -> Tensor<4> {
    for axis in [0, 1] {
        // A window of padding alone has no largest value and no mean.
        assert!(pool.window.padding[axis].iter().all(|padding| *padding < pool.size[axis]), "pooling of nothing");
    }
    if !is_native(&x) {
        return composed(x, pool);
    }
    Tensor::from_dispatch(apply(pool, [x.into_dispatch()]))
}

fn composed(x: Tensor<4>, Pool { size, window, kind }: Pool) -> Tensor<4> {
    let padding = window.padding.map(|[before, after]| {
        assert_eq!(before, after, "pooling: padding differs between the sides");
        before
    });
    match kind {
        Kind::Maximum => {
            module::max_pool2d(x, MaxPoolOptions::new(size).with_stride(window.stride).with_padding(padding))
        }
        Kind::Mean => {
            let options = AvgPoolOptions::new(size).with_stride(window.stride).with_padding(padding);
            module::avg_pool2d(x, options.with_count_include_pad(false))
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pool {
    size: [usize; 2],
    window: Window,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Maximum,
    Mean,
}

impl Pool {
    fn output(&self, shape: &Shape) -> [usize; 2] {
        [0, 1].map(|axis| {
            let size = shape[2 + axis] + self.window.padding[axis][0] + self.window.padding[axis][1];
            assert!(size >= self.size[axis], "pooling: the window {:?} is larger than the image {shape:?}", self.size);
            (size - self.size[axis]) / self.window.stride[axis] + 1
        })
    }

    /// The part of an axis of `len` pixels that the output at `index` sees.
    fn seen(&self, axis: usize, len: usize, index: usize) -> Range<usize> {
        let start = index * self.window.stride[axis];
        let before = self.window.padding[axis][0];
        start.saturating_sub(before)..(start + self.size[axis]).saturating_sub(before).min(len)
    }
}

impl Kernel<1> for Pool {
    /// Rows of the image are joined first, which vectorises; what remains is one row for each of the output.
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let shape = x.shape();
        let [rows, columns] = self.output(&shape);
        let (height, width) = (shape[2], shape[3]);
        let x = contiguous(x);
        let mut y = vec![0.0; shape[0] * shape[1] * rows * columns];
        for_each_part(&mut y, rows * columns, |channel, y| {
            let x = &values(&x)[channel * height * width..][..height * width];
            let mut joined = vec![0.0; width];
            for (row, y) in y.chunks_exact_mut(columns).enumerate() {
                let seen = self.seen(0, height, row);
                joined.copy_from_slice(&x[seen.start * width..][..width]);
                for row in seen.start + 1..seen.end {
                    let x = &x[row * width..][..width];
                    match self.kind {
                        Kind::Maximum => maximum(&mut joined, x),
                        Kind::Mean => add(&mut joined, x),
                    }
                }
                for (column, y) in y.iter_mut().enumerate() {
                    let across = self.seen(1, width, column);
                    let values = joined[across.clone()].iter().copied();
                    *y = match self.kind {
                        Kind::Maximum => values.fold(f32::NEG_INFINITY, larger),
                        Kind::Mean => values.sum::<f32>() / (seen.len() * across.len()) as f32,
                    };
                }
            }
        });
        tensor(y, [shape[0], shape[1], rows, columns].into())
    }

    fn backward(self, [x]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let shape = x.shape();
        let [rows, columns] = self.output(&shape);
        let (height, width) = (shape[2], shape[3]);
        let (x, grad) = (self.keeps(0).then(|| contiguous(x)), contiguous(grad));
        let mut d_x = vec![0.0; shape.num_elements()];
        for_each_part(&mut d_x, height * width, |channel, d_x| {
            let grad = &values(&grad)[channel * rows * columns..][..rows * columns];
            let x = x.as_ref().map(|x| &values(x)[channel * height * width..][..height * width]);
            for (index, grad) in grad.iter().enumerate() {
                let [down, across] = [self.seen(0, height, index / columns), self.seen(1, width, index % columns)];
                let pixels = down.clone().flat_map(|row| across.clone().map(move |column| row * width + column));
                match x {
                    Some(x) => {
                        let first = pixels.reduce(|a, b| if larger(x[a], x[b]) == x[a] { a } else { b });
                        first.into_iter().for_each(|pixel| d_x[pixel] += grad);
                    }
                    None => {
                        let share = grad / (down.len() * across.len()) as f32;
                        pixels.for_each(|pixel| d_x[pixel] += share);
                    }
                }
            }
        });
        [Some(tensor(d_x, shape))]
    }

    /// Which value was largest is found again in the image; a mean does not depend on it.
    fn keeps(self, _: usize) -> bool {
        matches!(self.kind, Kind::Maximum)
    }
}

/// The larger of two numbers; one that is none wins.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

vectorized! {
    fn maximum(joined: &mut [f32], x: &[f32]) {
        joined.iter_mut().zip(x).for_each(|(joined, x)| *joined = larger(*joined, *x));
    }

    fn add(joined: &mut [f32], x: &[f32]) {
        joined.iter_mut().zip(x).for_each(|(joined, x)| *joined += x);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn pooling_is_its_composition() {
        for (shape, size, window) in [
            ([1, 1, 1, 1], [1, 1], Window::default()),
            ([2, 3, 4, 6], [2, 2], Window::default().every(2)),
            ([2, 3, 7, 9], [3, 3], Window::default().every(2)),
            ([1, 2, 5, 8], [3, 3], Window::padded([1, 1])),
            ([1, 2, 5, 8], [3, 2], Window::padded([2, 1])),
            ([3, 40, 30, 35], [3, 3], Window::padded([1, 1])),
        ] {
            for kind in [Kind::Maximum, Kind::Mean] {
                let settings = Pool { size, window, kind };
                check([shape], |[x]| pool(x, settings), |[x]| composed(x, settings));
            }
        }
    }

    #[test]
    fn what_is_no_number_is_the_largest() {
        let x = Tensor::<4>::from_data([[[[1.0, f32::NAN, 3.0, 4.0]]]], &burn::tensor::Device::default());
        let y = max_pool2d(x, [1, 2], Window { stride: [1, 2], ..Window::default() }).into_data();
        let y = y.as_slice::<f32>().expect("these are f32");
        assert!(y[0].is_nan() && y[1] == 4.0, "{y:?}");
    }
}
