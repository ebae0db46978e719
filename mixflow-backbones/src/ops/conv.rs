//! Convolution of images.

use super::buffer::{contiguous, is_large, tensor, values};
use super::gemm::{Matrix, Threads, multiply};
use super::kernel::{Kernel, apply, is_native};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor, module, ops::ConvOptions};
use rayon::prelude::*;
use std::ops::Range;

/// Where a convolution looks: the step between neighbouring outputs, and the zeros around the image.
///
/// The default is step 1 without zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Step down and to the right.
    pub stride: [usize; 2],
    /// Rows of zeros above and below, columns of zeros left and right.
    pub padding: [[usize; 2]; 2],
}

impl Default for Window {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [[0, 0], [0, 0]] }
    }
}

impl Window {
    /// Step 1, with `rows` of zeros above and below and `columns` left and right.
    pub const fn padded([rows, columns]: [usize; 2]) -> Self {
        Self { stride: [1, 1], padding: [[rows, rows], [columns, columns]] }
    }

    /// The same zeros with a step of `stride` in both directions.
    pub const fn every(self, stride: usize) -> Self {
        Self { stride: [stride, stride], ..self }
    }
}

/// Cross-correlation of an image with a kernel, as every framework calls convolution.
///
/// The CPU kernel is a matrix product of the weight with the patches of a few rows of the image at a time.
///
/// # Shapes
/// - x: `[batch, inputs, height, width]`
/// - weight: `[outputs, inputs, rows, columns]`
/// - bias: `[outputs]`
/// - returns: `[batch, outputs, (height + zeros - rows) / stride + 1, ..]`, rounded down
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, window: Window) -> Tensor<4> {
    let [outputs, inputs, ..] = weight.dims();
    assert_eq!(x.dims()[1], inputs, "conv2d: x {:?} does not fit weight {:?}", x.dims(), weight.dims());
    if !is_native(&x) {
        return composed(x, weight, bias, window);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            assert_eq!(bias.dims(), [outputs], "conv2d: bias does not fit {outputs} outputs");
            apply(Convolution { window }, [x, weight, bias.into_dispatch()])
        }
        None => apply(Convolution { window }, [x, weight]),
    })
}

fn composed(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, window: Window) -> Tensor<4> {
    let padding = window.padding.map(|[before, after]| (before, after));
    module::conv2d(x, weight, bias, ConvOptions::new_with_padding(window.stride, padding, [1, 1], 1))
}

#[derive(Clone, Copy, Debug)]
struct Convolution {
    window: Window,
}

impl Kernel<3> for Convolution {
    fn forward(self, [x, weight, bias]: [FlexTensor; 3]) -> FlexTensor {
        forward(x, weight, Some(bias), self.window)
    }

    fn backward(self, [x, weight, _]: [FlexTensor; 3], grad: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let grad = contiguous(grad);
        let bias = wanted[2].then(|| sum_channels(&grad));
        let [x, weight] = backward(x, weight, &grad, [wanted[0], wanted[1]], self.window);
        [x, weight, bias]
    }

    fn keeps(self, index: usize) -> bool {
        index != 2
    }
}

impl Kernel<2> for Convolution {
    fn forward(self, [x, weight]: [FlexTensor; 2]) -> FlexTensor {
        forward(x, weight, None, self.window)
    }

    fn backward(self, [x, weight]: [FlexTensor; 2], grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        backward(x, weight, &contiguous(grad), wanted, self.window)
    }
}

/// Values of the patches that are written out at a time: 1 MiB, the cache next to a core.
const PATCHES: usize = 256 * 1024;

/// Sizes of a convolution of one image.
#[derive(Clone, Copy)]
struct Geometry {
    batch: usize,
    inputs: usize,
    outputs: usize,
    image: [usize; 2],
    kernel: [usize; 2],
    output: [usize; 2],
    window: Window,
}

impl Geometry {
    fn new(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Self {
        let (x, weight) = (x.shape(), weight.shape());
        let (image, kernel) = ([x[2], x[3]], [weight[2], weight[3]]);
        let output = [0, 1].map(|axis| {
            let size = image[axis] + window.padding[axis][0] + window.padding[axis][1];
            assert!(size >= kernel[axis], "conv2d: the kernel {kernel:?} is larger than the padded image {image:?}");
            (size - kernel[axis]) / window.stride[axis] + 1
        });
        Self { batch: x[0], inputs: x[1], outputs: weight[0], image, kernel, output, window }
    }

    /// Pixels of an image.
    fn area(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Pixels of an output.
    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of a patch: a row of the weight.
    fn patch(&self) -> usize {
        self.inputs * self.kernel[0] * self.kernel[1]
    }

    /// Whether a patch is a pixel, so that the image is the matrix of its patches.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.window == Window::default()
    }

    /// Ranges of output pixels whose patches are held at a time.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (pixels, len) = (self.pixels(), (PATCHES / self.patch()).max(1).next_multiple_of(64));
        (0..pixels).step_by(len).map(move |start| start..(start + len).min(pixels))
    }

    /// The tiles of all images with their places in `y`, `[batch, outputs, pixels]`.
    fn tasks<'a>(&self, y: &'a mut [f32]) -> Vec<Task<'a>> {
        let images = y.chunks_mut(self.outputs * self.pixels()).enumerate();
        let tasks = images.flat_map(|(image, y)| {
            let mut tasks: Vec<_> = self.tiles().map(|tile| Task { image, tile, rows: vec![] }).collect();
            for mut row in y.chunks_mut(self.pixels()) {
                for task in &mut tasks {
                    let (part, rest) = row.split_at_mut(task.tile.len());
                    task.rows.push(part);
                    row = rest;
                }
            }
            tasks
        });
        tasks.collect()
    }

    /// Calls `f(x, y, threads)` for every image, `len` values in `y`. Small images get a thread each; one of the others
    /// gets all of them.
    fn for_each_image(
        &self,
        x: &[f32],
        y: &mut [f32],
        len: usize,
        f: impl Fn(&[f32], &mut [f32], Threads) + Sync + Send,
    ) {
        let images = |index: usize| &x[index * x.len() / self.batch..(index + 1) * x.len() / self.batch];
        let small = self.pixels() * self.patch() <= 2 * PATCHES;
        if small && self.batch > 1 && is_large(self.batch * self.outputs * self.pixels()) {
            y.par_chunks_mut(len).enumerate().for_each(|(index, y)| f(images(index), y, Threads::One));
        } else {
            y.chunks_mut(len).enumerate().for_each(|(index, y)| f(images(index), y, Threads::All));
        }
    }

    /// The patches of these output pixels of an image, `[patch, pixels]`.
    fn patches<'a>(
        &self,
        x: &'a [f32],
        tile: &Range<usize>,
        scratch: &'a mut Vec<f32>,
        threads: Threads,
    ) -> Matrix<'a> {
        if self.is_pointwise() {
            return Matrix { values: &x[tile.start..], strides: [self.pixels(), 1] };
        }
        scratch.resize(self.patch() * tile.len(), 0.0);
        for_each_chunk(scratch, tile.len(), threads, |row, patches| {
            let tap = row % (self.kernel[0] * self.kernel[1]);
            let x = &x[row / (self.kernel[0] * self.kernel[1]) * self.area()..][..self.area()];
            self.for_each_run(tile, tap, |run| {
                let patches = &mut patches[run.pixels.clone()];
                patches[..run.before].fill(0.0);
                let (inside, after) = patches[run.before..].split_at_mut(run.inside);
                after.fill(0.0);
                match self.window.stride[1] {
                    1 => inside.copy_from_slice(&x[run.start..][..inside.len()]),
                    stride => inside.iter_mut().zip(x[run.start..].iter().step_by(stride)).for_each(|(p, x)| *p = *x),
                }
            });
        });
        Matrix::rows(scratch, tile.len())
    }

    /// Adds the gradients of patches to that of the image they are from: the transpose of [`patches`](Self::patches).
    fn add_patches(&self, patches: &[f32], tile: &Range<usize>, x: &mut [f32], threads: Threads) {
        let taps = self.kernel[0] * self.kernel[1];
        for_each_chunk(x, self.area(), threads, |channel, x| {
            for tap in 0..taps {
                let patches = &patches[(channel * taps + tap) * tile.len()..][..tile.len()];
                self.for_each_run(tile, tap, |run| {
                    let inside = &patches[run.pixels.clone()][run.before..][..run.inside];
                    let x = x[run.start..].iter_mut().step_by(self.window.stride[1]);
                    x.zip(inside).for_each(|(x, p)| *x += p);
                });
            }
        });
    }

    /// Calls `f` for the part of every row of outputs that lies in `tile`, as `tap` of the kernel sees it.
    fn for_each_run(&self, tile: &Range<usize>, tap: usize, mut f: impl FnMut(Run)) {
        let [[above, _], [left, _]] = self.window.padding;
        let [down, right] = self.window.stride;
        let [height, width] = self.image;
        let (row, column) = (tap / self.kernel[1], tap % self.kernel[1]);
        let length = self.output[1];
        let mut pixel = tile.start;
        while pixel < tile.end {
            let (y, x) = (pixel / length, pixel % length);
            let end = (pixel - x + length).min(tile.end);
            let columns = x..x + end - pixel;
            // Outputs whose column of the image, `x right + column - left`, is inside `0..width`.
            let first = left.saturating_sub(column).div_ceil(right).clamp(columns.start, columns.end);
            let last = (width + left).saturating_sub(column).div_ceil(right).clamp(first, columns.end);
            let image_row = (y * down + row).checked_sub(above).filter(|&row| row < height);
            let pixels = pixel - tile.start..end - tile.start;
            f(match image_row {
                Some(image_row) if last > first => {
                    let start = image_row * width + first * right + column - left;
                    Run { pixels, before: first - columns.start, inside: last - first, start }
                }
                _ => Run { before: pixels.len(), pixels, inside: 0, start: 0 },
            });
            pixel = end;
        }
    }
}

/// A tile of the output of one image.
struct Task<'a> {
    image: usize,
    tile: Range<usize>,
    /// Where the tile is, for every channel.
    rows: Vec<&'a mut [f32]>,
}

/// Output pixels in a row, what they see of the image, and where that is.
struct Run {
    /// Place in the tile.
    pixels: Range<usize>,
    /// Pixels that see zeros left of the image.
    before: usize,
    /// Pixels that see the image, after those; what remains sees zeros right of it.
    inside: usize,
    /// The place in the image that the first of them sees.
    start: usize,
}

fn for_each_chunk(values: &mut [f32], len: usize, threads: Threads, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    match threads {
        Threads::All if is_large(values.len()) => {
            values.par_chunks_mut(len).enumerate().for_each(|(index, chunk)| f(index, chunk));
        }
        _ => values.chunks_mut(len).enumerate().for_each(|(index, chunk)| f(index, chunk)),
    }
}

fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, window: Window) -> FlexTensor {
    let geometry = Geometry::new(&x, &weight, window);
    let (x, weight) = (contiguous(x), contiguous(weight));
    let Geometry { batch, outputs, output: [height, width], .. } = geometry;
    let (patch, pixels) = (geometry.patch(), geometry.pixels());
    let bias = bias.map(contiguous);
    let mut y = vec![0.0; batch * outputs * pixels];
    let run = |(patches, block): &mut (Vec<f32>, Vec<f32>), task: Task<'_>| {
        let image = &values(&x)[task.image * geometry.inputs * geometry.area()..][..geometry.inputs * geometry.area()];
        let len = task.tile.len();
        let patches = geometry.patches(image, &task.tile, patches, Threads::One);
        block.resize(outputs * len, 0.0);
        if let Some(bias) = &bias {
            block.chunks_exact_mut(len).zip(values(bias)).for_each(|(row, bias)| row.fill(*bias));
        }
        let weight = Matrix::rows(values(&weight), patch);
        multiply([outputs, patch, len], 1.0, weight, patches, block, len, bias.is_some(), Threads::One);
        task.rows.into_iter().zip(block.chunks_exact(len)).for_each(|(row, values)| row.copy_from_slice(values));
    };
    let tasks = geometry.tasks(&mut y);
    // One region for the whole operation: a pool that wakes for every tile is slow on a machine that others use too.
    if is_large(batch * outputs * pixels * patch / 64) {
        tasks.into_par_iter().for_each_init(Default::default, run);
    } else {
        let mut scratch = Default::default();
        tasks.into_iter().for_each(|task| run(&mut scratch, task));
    }
    tensor(y, [batch, outputs, height, width].into())
}

fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: &FlexTensor,
    wanted: [bool; 2],
    window: Window,
) -> [Option<FlexTensor>; 2] {
    let geometry = Geometry::new(&x, &weight, window);
    let d_x = wanted[0].then(|| backward_image(geometry, x.shape(), weight.clone(), grad));
    let d_weight = wanted[1].then(|| backward_weight(geometry, x, weight.shape(), grad));
    [d_x, d_weight]
}

/// `Wᵀ g`, put back where the patches were.
fn backward_image(geometry: Geometry, shape: Shape, weight: FlexTensor, grad: &FlexTensor) -> FlexTensor {
    let weight = contiguous(weight);
    let (outputs, patch, pixels) = (geometry.outputs, geometry.patch(), geometry.pixels());
    let mut d_x = vec![0.0; shape.num_elements()];
    geometry.for_each_image(values(grad), &mut d_x, geometry.inputs * geometry.area(), |grad, d_x, threads| {
        let mut scratch = vec![];
        for tile in geometry.tiles() {
            let weight = Matrix::rows(values(&weight), patch).transposed();
            let grad = Matrix { values: &grad[tile.start..], strides: [pixels, 1] };
            let dims = [patch, outputs, tile.len()];
            if geometry.is_pointwise() {
                multiply(dims, 1.0, weight, grad, d_x, pixels, false, threads);
                continue;
            }
            scratch.resize(patch * tile.len(), 0.0);
            multiply(dims, 1.0, weight, grad, &mut scratch, tile.len(), false, threads);
            geometry.add_patches(&scratch, &tile, d_x, threads);
        }
    });
    tensor(d_x, shape)
}

/// `g pᵀ`, summed over images and tiles in order.
fn backward_weight(geometry: Geometry, x: FlexTensor, shape: Shape, grad: &FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let (outputs, patch, pixels) = (geometry.outputs, geometry.patch(), geometry.pixels());
    let mut d_weight = vec![0.0; outputs * patch];
    let mut scratch = vec![];
    let images = values(&x).chunks_exact(geometry.inputs * geometry.area());
    for (x, grad) in images.zip(values(grad).chunks_exact(outputs * pixels)) {
        for tile in geometry.tiles() {
            let patches = geometry.patches(x, &tile, &mut scratch, Threads::All).transposed();
            let grad = Matrix { values: &grad[tile.start..], strides: [pixels, 1] };
            let dims = [outputs, tile.len(), patch];
            multiply(dims, 1.0, grad, patches, &mut d_weight, patch, true, Threads::All);
        }
    }
    tensor(d_weight, shape)
}

/// Sums `[batch, channels, height, width]` to `[channels]`.
fn sum_channels(grad: &FlexTensor) -> FlexTensor {
    let shape = grad.shape();
    let [channels, pixels] = [shape[1], shape[2] * shape[3]];
    let mut sums = vec![0.0; channels];
    for image in values(grad).chunks_exact(channels * pixels) {
        for (total, channel) in sums.iter_mut().zip(image.chunks_exact(pixels)) {
            *total += super::simd::sum(pixels, |index| channel[index]);
        }
    }
    tensor(sums, [channels].into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn conv2d_is_its_composition() {
        let asymmetric = Window { stride: [2, 2], padding: [[0, 1], [0, 1]] };
        let lopsided = Window { stride: [1, 3], padding: [[2, 0], [1, 4]] };
        for (batch, [inputs, outputs], image, kernel, window) in [
            (1, [1, 1], [1, 1], [1, 1], Window::default()),
            (2, [3, 5], [4, 6], [1, 1], Window::default()),
            (2, [3, 5], [5, 7], [1, 1], Window::default().every(2)),
            (1, [4, 6], [7, 5], [3, 3], Window::padded([1, 1])),
            (2, [3, 4], [8, 10], [3, 3], asymmetric),
            (2, [2, 3], [5, 9], [1, 7], Window::padded([0, 3])),
            (1, [2, 3], [9, 4], [7, 1], Window::padded([3, 0])),
            (1, [2, 2], [2, 2], [3, 5], Window::padded([4, 6])),
            (1, [3, 2], [6, 11], [2, 4], lopsided),
            (30, [2, 24], [10, 10], [3, 3], Window::padded([1, 1])), // an image a thread
            (1, [64, 2], [40, 40], [3, 3], Window::padded([1, 1])),  // several tiles
        ] {
            let shapes =
                [[batch, inputs, image[0], image[1]], [outputs, inputs, kernel[0], kernel[1]], [1, 1, 1, outputs]];
            check(
                shapes,
                |[x, weight, bias]| conv2d(x, weight, Some(bias.flatten(0, 3)), window),
                |[x, weight, bias]| composed(x, weight, Some(bias.flatten(0, 3)), window),
            );
            check(
                [shapes[0], shapes[1]],
                |[x, weight]| conv2d(x, weight, None, window),
                |[x, weight]| composed(x, weight, None, window),
            );
        }
    }
}
