//! Separable resampling as Pillow computes it: in f64 coefficients, and for 8-bit images in its fixed-point arithmetic.
//!
//! # Source
//! Pillow 12.3.0, `src/libImaging/Resample.c`: across, then down; `precompute_coeffs`, `normalize_coeffs_8bpc`, `ImagingResampleHorizontal_8bpc`.

use std::ops::Range;

use image::RgbImage;

/// A resampling filter; scaled up by the reduction factor, so that shrinking averages (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Area average.
    Box,
    /// Triangle.
    Bilinear,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

impl Filter {
    /// Half its width, in source pixels when enlarging.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let d = x.abs();
        match self {
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Bilinear if d < 1.0 => 1.0 - d,
            Self::Bicubic if d < 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
            Self::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// The source pixels of one output pixel: the first one and a weight each, of sum 1.
pub(super) struct Taps {
    pub(super) first: usize,
    pub(super) weights: Vec<f64>,
}

/// Taps of the output pixels in `window` when `from` pixels become `to`.
///
/// Pixel centres are at half integers, so output `i` looks at source `(i + ½) · from/to`; weights that would fall
/// outside are dropped and the others rescaled.
pub(super) fn taps(filter: Filter, from: u32, to: u32, window: Range<u32>) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let taps = |i: u32| {
        let center = (f64::from(i) + 0.5) * scale;
        // Truncation, as in C; both ends are positive or clamped.
        let first = (center - support + 0.5).max(0.0) as u32;
        let end = ((center + support + 0.5) as u32).min(from);
        let inverse = 1.0 / stretch;
        let weight = |x: u32| filter.weight((f64::from(x) - center + 0.5) * inverse);
        let mut weights: Vec<_> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        Taps { first: first as usize, weights }
    };
    window.map(taps).collect()
}

/// The part `columns × rows` of `image` resized to `width × height`, equal to `Image.resize` of Pillow 12.3.0 bit for
/// bit: first across, then down.
///
/// Only that part is computed, so a narrow crop of a huge enlargement costs little.
pub(super) fn resize(
    image: &RgbImage,
    [width, height]: [u32; 2],
    filter: Filter,
    columns: Range<u32>,
    rows: Range<u32>,
) -> RgbImage {
    // A pass that changes no length has the single weight 1 and copies.
    let horizontal = fixed_point(taps(filter, image.width(), width, columns));
    let vertical = fixed_point(taps(filter, image.height(), height, rows));
    let top = vertical.iter().map(|(first, _)| *first).min().unwrap_or(0);
    let bottom = vertical.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(0);

    let source = image.as_raw().as_chunks::<3>().0;
    let mut across = Vec::with_capacity((bottom - top) * horizontal.len());
    for row in source.chunks_exact(image.width() as usize).take(bottom).skip(top) {
        across.extend(horizontal.iter().map(|(first, weights)| blend(weights, row[*first..].iter())));
    }
    let columns = horizontal.len();
    RgbImage::from_fn(columns as u32, vertical.len() as u32, |x, y| {
        let (first, weights) = &vertical[y as usize];
        let from = (first - top) * columns + x as usize;
        image::Rgb(blend(weights, across[from..].iter().step_by(columns)))
    })
}

/// Fraction bits of a weight: 8 bits of pixel and 2 of head room are left in an `i32`.
const FRACTION: u32 = 32 - 8 - 2;

/// Weights rounded half away from zero.
fn fixed_point(taps: Vec<Taps>) -> Vec<(usize, Vec<i32>)> {
    let round = |w: f64| (w * f64::from(1 << FRACTION)).round() as i32;
    taps.into_iter().map(|taps| (taps.first, taps.weights.into_iter().map(round).collect())).collect()
}

fn blend<'a>(weights: &[i32], pixels: impl Iterator<Item = &'a [u8; 3]>) -> [u8; 3] {
    let mut sum = [1 << (FRACTION - 1); 3];
    for (weight, pixel) in weights.iter().zip(pixels) {
        for (sum, value) in sum.iter_mut().zip(pixel) {
            *sum += weight * i32::from(*value);
        }
    }
    sum.map(|sum| (sum >> FRACTION).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic] {
            for (from, to) in [(8, 32), (8, 5), (1, 7), (401, 32), (100, 99)] {
                for taps in taps(filter, from, to, 0..to) {
                    assert!((taps.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{filter:?} {from} to {to}");
                    assert!(taps.first + taps.weights.len() <= from as usize);
                }
            }
        }
    }

    #[test]
    fn a_part_equals_the_same_part_of_the_whole() {
        let image = RgbImage::from_fn(37, 23, |x, y| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8]));
        let whole = resize(&image, [51, 19], Filter::Bicubic, 0..51, 0..19);
        let part = resize(&image, [51, 19], Filter::Bicubic, 20..33, 4..9);
        assert_eq!(part, image::imageops::crop_imm(&whole, 20, 4, 13, 5).to_image());
    }

    #[test]
    fn equal_size_copies() {
        let image = RgbImage::from_fn(9, 5, |x, y| image::Rgb([(x * 28) as u8, (y * 60) as u8, 255]));
        assert_eq!(resize(&image, [9, 5], Filter::Bicubic, 0..9, 0..5), image);
    }
}
