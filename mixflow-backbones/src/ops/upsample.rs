//! Images of twice the size.

use super::buffer::{contiguous, for_each_part, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// Every pixel becomes a square of four.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - returns: `[batch, channels, 2 height, 2 width]`
pub fn upsample(x: Tensor<4>) -> Tensor<4> {
    if !is_native(&x) {
        return composed(x);
    }
    Tensor::from_dispatch(apply(Upsample, [x.into_dispatch()]))
}

fn composed(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let x: Tensor<6> = x.reshape([batch, channels, height, 1, width, 1]);
    x.expand([batch, channels, height, 2, width, 2]).reshape([batch, channels, 2 * height, 2 * width])
}

#[derive(Clone, Copy, Debug)]
struct Upsample;

impl Kernel<1> for Upsample {
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let mut shape = x.shape();
        let (pixels, width) = (shape[2] * shape[3], shape[3]);
        let x = contiguous(x);
        let mut y = vec![0.0; 4 * values(&x).len()];
        for_each_part(&mut y, 4 * pixels, |channel, y| {
            let x = values(&x)[channel * pixels..][..pixels].chunks_exact(width);
            for (x, y) in x.zip(y.chunks_exact_mut(4 * width)) {
                let (upper, lower) = y.split_at_mut(2 * width);
                upper.chunks_exact_mut(2).zip(x).for_each(|(pair, x)| pair.fill(*x));
                lower.copy_from_slice(upper);
            }
        });
        (shape[2], shape[3]) = (2 * shape[2], 2 * shape[3]);
        tensor(y, shape)
    }

    fn backward(self, [x]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let shape = x.shape();
        let (pixels, width) = (shape[2] * shape[3], shape[3]);
        let grad = contiguous(grad);
        let mut d_x = vec![0.0; shape.num_elements()];
        for_each_part(&mut d_x, pixels, |channel, d_x| {
            let grad = values(&grad)[channel * 4 * pixels..][..4 * pixels].chunks_exact(4 * width);
            for (grad, d_x) in grad.zip(d_x.chunks_exact_mut(width)) {
                let (upper, lower) = grad.split_at(2 * width);
                let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                d_x.iter_mut().zip(pairs).for_each(|(d_x, (a, b))| *d_x = (a[0] + a[1]) + (b[0] + b[1]));
            }
        });
        [Some(tensor(d_x, shape))]
    }

    fn keeps(self, _: usize) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn upsample_is_its_composition() {
        for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 20, 70, 66]] {
            check([shape], |[x]| upsample(x), |[x]| composed(x));
        }
    }
}
