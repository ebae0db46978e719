//! Randomness as a function of (seed, purpose, position): no hidden state, so nothing depends on batch size, worker
//! count or restarts.
//!
//! A position is whatever the purpose counts: training positions `step · batch + example` for times and noise, image
//! numbers for sampling. Draw with a fresh generator per position and any part of a run can be repeated alone.
//!
//! All numbers are bit-identical on every platform: the cipher is integer arithmetic, and [`uniform`] and [`normal`] use
//! only the operations that IEEE 754 rounds exactly (no `ln` or `sin` of the system's library).

use std::array::from_fn;
use std::f64::consts::{FRAC_PI_2, LN_2, SQRT_2};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// What random numbers are drawn for. Purposes never share a number.
///
/// The values are part of the format: a run repeats only where they stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u64)]
pub enum Stream {
    /// Initial weights; position: the parameter's number.
    Init = 0,
    /// The permutation of an epoch; position: the epoch.
    Order = 1,
    /// The split of a data set; position: 0.
    Split = 2,
    /// Flips; position: the training position.
    Augment = 3,
    /// Procedural scenes; position: the scene's index.
    Scene = 4,
    /// Training times; position: the training position.
    Times = 5,
    /// Training noise; position: the training position.
    Noise = 6,
    /// Dropped conditions; position: the training position.
    Dropout = 7,
    /// Starting noise of samples; position: the image's number.
    Sample = 8,
    /// Noise added by stochastic solvers; position: the image's number times 2²⁰, and the step.
    Solver = 9,
    /// Subsets and projections inside metrics; position: the repetition.
    Metric = 11,
    /// Draws from the posteriors of latents; position: the training position.
    Posterior = 12,
    /// Classes of samples; position: the image's number.
    Labels = 13,
    /// Where random squares are cut; position: the training position.
    Crop = 14,
    /// What a discriminator's images are changed by; position: the training position.
    DiffAugment = 15,
    /// Vectors that stand for words; position: 0, and 1 for those of places.
    Words = 16,
    /// What is added to training noise; position: the training position.
    Perturbation = 17,
    /// How far a network goes on its own in training; position: the training position.
    Rollout = 18,
    /// The order of an epoch's batches, where examples have several sizes; position: the epoch.
    Batches = 19,
    /// The permutation of the examples of one size; position: the size's number times 2⁴⁸, and how often all were seen.
    Bucket = 20,
    /// Which of the captions of an image is told; position: the training position.
    Caption = 21,
    /// Encoders whose part of a condition is dropped; position: the training position.
    EncoderDropout = 22,
    /// The permutation of the prior images; position: how often all were seen.
    Prior = 23,
    /// What adapters drop of what they are given; position: 0.
    AdapterDropout = 24,
}

/// The generator of one position, at its start.
///
/// The cipher is keyed by seed and purpose and has the position as its nonce: different arguments give streams that do
/// not overlap.
#[must_use]
pub fn rng(seed: u64, stream: Stream, position: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(stream as u64).to_le_bytes());
    key[16..23].copy_from_slice(b"mixflow");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(position);
    rng
}

/// A number in [0, 1), a multiple of 2⁻⁵³, from one `u64`.
pub fn uniform(rng: &mut (impl Rng + ?Sized)) -> f64 {
    (rng.next_u64() >> 11) as f64 * 2f64.powi(-53)
}

/// Fills `out` with standard normal numbers, at most 8.7 in size.
///
/// Box–Muller in f64, rounded to f32: each pair takes two `u64`, first the radius, then the angle. An odd length
/// discards the last pair's second number, so a longer buffer starts with the numbers of a shorter one.
///
/// # Source
/// Box and Muller 1958, "A note on the generation of random normal deviates".
pub fn normal(rng: &mut (impl Rng + ?Sized), out: &mut [f32]) {
    for out in out.chunks_mut(2 * LANES) {
        let [mut radii, mut angles] = [[0; LANES]; 2];
        for (radius, angle) in radii.iter_mut().zip(&mut angles).take(out.len().div_ceil(2)) {
            *radius = rng.next_u64();
            *angle = rng.next_u64();
        }
        out.copy_from_slice(&box_muller(radii, angles)[..out.len()]);
    }
}

/// Pairs computed side by side: a processor waits for the steps of one series, and has others to do meanwhile.
const LANES: usize = 8;

type Lanes<T> = [T; LANES];

#[inline(always)]
fn box_muller(radii: Lanes<u64>, angles: Lanes<u64>) -> [f32; 2 * LANES] {
    let logarithm = ln(from_fn(|i| (radii[i] >> 11) as f64 * 2f64.powi(-53) + 2f64.powi(-54)));
    let radius: Lanes<f64> = from_fn(|i| (-2.0 * logarithm[i]).sqrt());
    let (sin, cos) = sin_cos_turn(angles);
    from_fn(|i| (radius[i / 2] * if i % 2 == 0 { cos[i / 2] } else { sin[i / 2] }) as f32)
}

/// Natural logarithms of positive normal numbers, to 1e-14 relative to the larger of 1 and the result.
///
/// `x = 2^k m` with `m` in [√½, √2), and `ln m = 2 artanh s` with `s = (m − 1)/(m + 1)`, `|s| ≤ 0.172`.
#[inline(always)]
fn ln(x: Lanes<f64>) -> Lanes<f64> {
    let half: Lanes<u64> = from_fn(|i| u64::from(x[i].to_bits() & MANTISSA >= SQRT_2.to_bits() & MANTISSA));
    let s: Lanes<f64> = from_fn(|i| {
        let m = f64::from_bits(x[i].to_bits() & MANTISSA | (1023 - half[i]) << 52);
        (m - 1.0) / (m + 1.0)
    });
    let mut series = [0.0; LANES];
    for n in [17, 15, 13, 11, 9, 7, 5, 3, 1] {
        series = from_fn(|i| series[i] * (s[i] * s[i]) + 1.0 / f64::from(n));
    }
    from_fn(|i| {
        let exponent = (x[i].to_bits() >> 52) + half[i];
        (exponent as f64 - 1023.0) * LN_2 + 2.0 * s[i] * series[i]
    })
}

const MANTISSA: u64 = (1 << 52) - 1;

/// Sines and cosines of uniform angles: the two top bits choose the quadrant, the others an angle in [−π/4, π/4).
///
/// Taylor series to the 15th power, whose remainder is below 1e-15 there.
#[inline(always)]
fn sin_cos_turn(bits: Lanes<u64>) -> (Lanes<f64>, Lanes<f64>) {
    let angle: Lanes<f64> = from_fn(|i| ((bits[i] << 2 >> 11) as f64 * 2f64.powi(-53) - 0.5) * FRAC_PI_2);
    let [mut sin, mut cos] = [[1.0; LANES]; 2];
    for n in [14.0, 12.0, 10.0, 8.0, 6.0, 4.0, 2.0] {
        for i in 0..LANES {
            let square = -angle[i] * angle[i];
            cos[i] = 1.0 + cos[i] * square * (1.0 / (n * (n - 1.0)));
            sin[i] = 1.0 + sin[i] * square * (1.0 / (n * (n + 1.0)));
        }
    }
    for i in 0..LANES {
        let (s, c) = (sin[i] * angle[i], cos[i]);
        // Selected, not branched on: a random branch is always mispredicted.
        let (s, c) = if bits[i] & 1 << 62 == 0 { (s, c) } else { (c, -s) };
        let sign = if bits[i] >> 63 == 0 { 1.0 } else { -1.0 };
        (sin[i], cos[i]) = (sign * s, sign * c);
    }
    (sin, cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_moments_and_tails_of_the_law() {
        let mut z = vec![0f32; 1 << 20];
        normal(&mut rng(1, Stream::Noise, 0), &mut z);
        let n = z.len() as f64;
        let moment = |k: i32| z.iter().map(|&z| f64::from(z).powi(k)).sum::<f64>() / n;
        // Five standard errors: the variance of zᵏ is E z²ᵏ − (E zᵏ)², with E z², z⁴, … = 1, 3, 15, 105, 945, 10395.
        for (k, mean, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10170.0)] {
            let limit = 5.0 * f64::sqrt(variance / n);
            assert!((moment(k) - mean).abs() < limit, "moment {k}: {} is not {mean} ± {limit}", moment(k));
        }
        let beyond = z.iter().filter(|z| z.abs() > 3.0).count() as f64;
        assert!((beyond - 0.002_699_796 * n).abs() < 5.0 * (0.0027 * n).sqrt(), "{beyond} beyond three");
        let pairs = z.as_chunks::<2>().0.iter().map(|[a, b]| f64::from(a * b)).sum::<f64>();
        assert!((pairs / (n / 2.0)).abs() < 5.0 * (2.0 / n).sqrt(), "the two numbers of a pair are correlated");
    }

    #[test]
    fn elementary_functions_agree_with_the_standard_library() {
        let mut rng = rng(2, Stream::Metric, 0);
        for _ in 0..100_000 / LANES {
            let x = from_fn(|_| uniform(&mut rng) + 2f64.powi(-54));
            for (found, x) in ln(x).into_iter().zip(x) {
                assert!((found - x.ln()).abs() < 1e-14 * x.ln().abs().max(1.0), "ln {x}");
            }
            let bits = from_fn(|_| rng.next_u64());
            let (sines, cosines) = sin_cos_turn(bits);
            for i in 0..LANES {
                let quarters = (bits[i] >> 62) as f64 - 0.5 + (bits[i] << 2) as f64 * 2f64.powi(-64);
                let (sin, cos) = (quarters * FRAC_PI_2).sin_cos();
                assert!((sines[i] - sin).abs() < 2e-15 && (cosines[i] - cos).abs() < 2e-15, "{quarters} quarters");
            }
        }
        assert_eq!(ln([1.0; LANES]), [0.0; LANES]);
    }

    #[test]
    fn numbers_are_part_of_the_format() {
        // Recorded from this code: a change here changes every run ever recorded.
        let mut z = [0f32; 3];
        normal(&mut rng(0, Stream::Noise, 0), &mut z);
        assert_eq!(z.map(f32::to_bits), [3_201_634_598, 3_207_736_246, 1_055_072_092]);
        let mut z = vec![0f32; 4096];
        let digest = (0..16).fold(0u64, |digest, position| {
            normal(&mut rng(0, Stream::Posterior, position), &mut z);
            z.iter().fold(digest, |digest, z| digest.wrapping_mul(0x100_0000_01b3) ^ u64::from(z.to_bits()))
        });
        assert_eq!(digest, 0x18c1_be42_c119_e367);
    }

    #[test]
    fn a_longer_buffer_starts_with_the_numbers_of_a_shorter_one() {
        let (mut short, mut long) = ([0f32; 7], [0f32; 40]);
        normal(&mut rng(3, Stream::Noise, 9), &mut short);
        normal(&mut rng(3, Stream::Noise, 9), &mut long);
        assert_eq!(short, long[..7]);
    }

    #[test]
    fn seeds_purposes_and_positions_are_separate() {
        let first = |seed, stream, position| rng(seed, stream, position).next_u64();
        let numbers = [
            first(0, Stream::Noise, 0),
            first(1, Stream::Noise, 0),
            first(0, Stream::Times, 0),
            first(0, Stream::Noise, 1),
            first(1, Stream::Init, 0),
            first(0, Stream::Noise, 1 << 63),
        ];
        for (i, a) in numbers.iter().enumerate() {
            assert!(!numbers[..i].contains(a));
        }
    }
}
