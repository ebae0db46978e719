//! Dropout whose draws are a function of where a number stands.

use super::buffer::{TASK, contiguous, for_each_part};
use super::kernel::{Kernel, apply, is_native};
use super::simd::vectorized;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

/// Which numbers are dropped: a function of seeds, of a row's position in the training and of the number's place in the
/// row, so that it is the same however rows are put together and on whatever device.
#[derive(Module, Copy, Debug, PartialEq)]
pub struct Dropped {
    /// The share that is dropped, in [0, 1), to within 2⁻²⁴.
    pub rate: f64,
    /// Its halves are mixed with places in a row, and with positions.
    pub seed: u64,
    /// The position of the first row, to its lowest 32 bits; each further row has the next one.
    pub first: u32,
}

/// `x` with some numbers replaced by zeros, and the others divided by the share of those that stay.
///
/// Nothing is kept for the backward pass on the CPU; elsewhere it is what is multiplied with.
///
/// # Shapes
/// - x: `[rows, ..]`
/// - returns: as x
///
/// # Source
/// Srivastava et al. 2014 (JMLR 15), section 4, scaled in training as PyTorch does.
pub fn dropout<const D: usize>(x: Tensor<D>, dropped: Dropped) -> Tensor<D> {
    if !is_native(&x) {
        return composed(x, dropped);
    }
    Tensor::from_dispatch(apply(dropped, [x.into_dispatch()]))
}

impl Dropped {
    fn seeds(self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// Numbers are dropped whose highest 24 bits are below this.
    fn least(self) -> u32 {
        (self.rate * f64::from(1 << 24)) as u32
    }

    fn factor(self) -> f64 {
        1.0 / (1.0 - self.rate)
    }
}

fn composed<const D: usize>(x: Tensor<D>, dropped: Dropped) -> Tensor<D> {
    let shape = x.dims();
    let (rows, len) = (shape[0], shape[1..].iter().product::<usize>());
    let ([place_seed, position_seed], device) = (dropped.seeds(), x.device().inner());
    let mixed = |count: usize, first: u32, seed: u32| {
        mix_all(counted(count, first, &device).bitwise_xor_scalar(seed.cast_signed()))
    };
    let places = mixed(len, 0, place_seed).unsqueeze_dim::<2>(0).expand([rows, len]);
    let positions = mixed(rows, dropped.first, position_seed).unsqueeze_dim::<2>(1).expand([rows, len]);
    let stays = high_bits(mix_all(places.bitwise_xor(positions)), 8).greater_equal_elem(dropped.least());
    let factors = stays.float().cast(x.dtype()).mul_scalar(dropped.factor()).reshape(shape);
    match x.is_autodiff() {
        true => x * Tensor::from_inner(factors),
        false => x * factors,
    }
}

/// `first`, `first + 1`, … in 32 bits.
fn counted(count: usize, first: u32, device: &Device) -> Tensor<1, Int> {
    let first = i64::from(first.cast_signed());
    Tensor::arange(0..count as i64, (device, DType::I32)).add_scalar(first)
}

/// [`mix`] in signed numbers, whose products and sums wrap around.
fn mix_all<const D: usize>(x: Tensor<D, Int>) -> Tensor<D, Int> {
    let folded = |x: Tensor<D, Int>, bits: u32| x.clone().bitwise_xor(high_bits(x, bits));
    let x = folded(x, 16).mul_scalar(FACTORS[0].cast_signed());
    folded(folded(x, 15).mul_scalar(FACTORS[1].cast_signed()), 16)
}

/// `x >> bits` of numbers without a sign.
fn high_bits<const D: usize>(x: Tensor<D, Int>, bits: u32) -> Tensor<D, Int> {
    x.bitwise_right_shift_scalar(bits as i32).bitwise_and_scalar((u32::MAX >> bits).cast_signed())
}

const FACTORS: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// A bijection of 32 bits in which each bit of `x` decides about half of the others.
///
/// # Source
/// C. Wellons, *Prospecting for Hash Functions* (2018), `lowbias32`.
#[inline(always)]
const fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(FACTORS[0]);
    let x = (x ^ (x >> 15)).wrapping_mul(FACTORS[1]);
    x ^ (x >> 16)
}

impl Kernel<1> for Dropped {
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let (mut x, [place_seed, position_seed]) = (contiguous(x), self.seeds());
        let len = x.shape().num_elements() / x.shape()[0].max(1);
        for_each_part(x.storage_mut::<f32>(), TASK, |index, mut part| {
            let mut at = index * TASK;
            while !part.is_empty() {
                let (row, place) = (at / len, at % len);
                let (now, later) = part.split_at_mut(part.len().min(len - place));
                at += now.len();
                let position = mix(self.first.wrapping_add(row as u32) ^ position_seed);
                drop_some(now, place as u32, place_seed, position, self.least(), self.factor() as f32);
                part = later;
            }
        });
        x
    }

    fn backward(self, _: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.forward([grad]))]
    }

    fn keeps(self, _: usize) -> bool {
        false
    }
}

vectorized! {
    fn drop_some(x: &mut [f32], first: u32, seed: u32, position: u32, least: u32, factor: f32) {
        for (x, place) in x.iter_mut().zip(first..) {
            let stays = mix(mix(place ^ seed) ^ position) >> 8 >= least;
            *x *= if stays { factor } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    const SOME: Dropped = Dropped { rate: 0.25, seed: 0x0123_4567_9e37_79b9, first: u32::MAX - 1 };

    /// Which of `[rows, len]` numbers stay.
    fn stay(rows: usize, len: usize, dropped: Dropped) -> Vec<bool> {
        let ones = Tensor::<2>::ones([rows, len], &Device::flex());
        dropout(ones, dropped).into_data().iter::<f32>().map(|x| x != 0.0).collect()
    }

    #[test]
    fn dropout_is_its_composition() {
        for shape in [[1, 1, 1], [3, 5, 17], [5, 70, 300]] {
            check([shape], |[x]| dropout(x, SOME), |[x]| composed(x, SOME));
        }
    }

    /// Values of a program in Python.
    #[test]
    fn numbers_are_mixed_as_published() {
        assert_eq!([0, 1, 2, u32::MAX].map(mix), [0, 0x6889_90c0, 0xd113_2181, 0x6768_824a]);
        assert_eq!(
            stay(2, 16, SOME),
            [1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0]
                .map(|bit| bit == 1)
        );
    }

    #[test]
    fn a_row_is_dropped_by_its_position_alone() {
        let whole = stay(6, 100, SOME);
        let part = stay(2, 100, Dropped { first: SOME.first.wrapping_add(3), ..SOME });
        assert_eq!(whole[300..500], part);
    }

    #[test]
    fn the_share_is_dropped_and_nothing_else_is_alike() {
        let count = 1 << 16;
        let masks: Vec<_> = [SOME, Dropped { seed: 0x2_0000_0001, ..SOME }, Dropped { first: 77, ..SOME }]
            .map(|dropped| stay(256, count / 256, dropped))
            .into();
        // Five standard deviations of independent draws.
        let bound = |p: f64| 5.0 * (p * (1.0 - p) / count as f64).sqrt();
        let share = |of: &dyn Fn(usize) -> bool| (0..count).filter(|&i| of(i)).count() as f64 / count as f64;
        for (i, mask) in masks.iter().enumerate() {
            assert!((share(&|at| mask[at]) - 0.75).abs() < bound(0.75));
            // With the next number, with the next row, with another draw.
            for both in [
                share(&|at| mask[at] && mask[(at + 1) % count]),
                share(&|at| mask[at] && mask[(at + 256) % count]),
                share(&|at| mask[at] && masks[(i + 1) % 3][at]),
            ] {
                assert!((both - 0.5625).abs() < bound(0.5625), "{both}");
            }
        }
        let kept = dropout(Tensor::<1>::ones([4], &Device::flex()).mul_scalar(3.0), SOME);
        assert!(kept.into_data().iter::<f32>().all(|x| x == 0.0 || x == 4.0));
    }
}
