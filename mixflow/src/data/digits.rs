//! The 1,797 handwritten digits of the UCI optical set.

use serde::{Deserialize, Serialize};

use super::resample::{Filter, taps};
use super::{Dataset, Error, Example, checked_size};

/// One row per digit: 64 pixels, row by row, 0 (paper) to 16 (ink), then the digit. Licence: `assets/README.md`.
const PNG: &[u8] = include_bytes!("../../assets/digits.png");

/// Side of a stored digit, in pixels.
const SIDE: usize = 8;

/// Real 8×8 handwritten digits, resized to any size; ink is +1, paper −1.
///
/// Resized bilinearly with pixel centres at half integers: output pixel `i` looks at `(i + ½) · 8/size`, edges repeat,
/// and below 8 pixels the triangle widens so that every source pixel counts. Nothing is rounded.
///
/// # Source
/// Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
/// doi:10.24432/C50P49, CC BY 4.0.
#[derive(Clone, Debug)]
pub struct Digits {
    /// `[digit, row, column]`, 0 to 16.
    pixels: Vec<[u8; SIDE * SIDE]>,
    labels: Vec<u8>,
    classes: Vec<String>,
    size: usize,
    channels: Channels,
}

impl Digits {
    /// The digits at `size × size` pixels; three channels repeat one.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096.
    pub fn new(size: usize, channels: Channels) -> Result<Self, Error> {
        let sheet = image::load_from_memory_with_format(PNG, image::ImageFormat::Png)
            .expect("the embedded sheet is a PNG")
            .into_luma8()
            .into_raw();
        let (rows, _) = sheet.as_chunks::<{ SIDE * SIDE + 1 }>();
        let pixel = |row: &[u8; SIDE * SIDE + 1]| std::array::from_fn(|i| row[i]);
        Ok(Self {
            pixels: rows.iter().map(pixel).collect(),
            labels: rows.iter().map(|row| row[SIDE * SIDE]).collect(),
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            size: checked_size(size)?,
            channels,
        })
    }

    fn resized(&self, digit: &[u8; SIDE * SIDE]) -> Vec<f32> {
        let taps = taps(Filter::Bilinear, SIDE as u32, self.size as u32, 0..self.size as u32);
        let across = |row: usize, column: usize| -> f64 {
            let tap = &taps[column];
            let pixels = &digit[row * SIDE + tap.first..];
            tap.weights.iter().zip(pixels).map(|(w, v)| w * f64::from(*v)).sum()
        };
        let rows: Vec<f64> = (0..SIDE * self.size).map(|i| across(i / self.size, i % self.size)).collect();
        let down = |row: usize, column: usize| -> f64 {
            let tap = &taps[row];
            tap.weights.iter().enumerate().map(|(k, w)| w * rows[(tap.first + k) * self.size + column]).sum()
        };
        (0..self.size * self.size).map(|i| (down(i / self.size, i % self.size) / 8.0 - 1.0) as f32).collect()
    }
}

impl Dataset for Digits {
    fn len(&self) -> Option<u64> {
        Some(self.labels.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn shape(&self) -> [usize; 3] {
        [self.channels.count(), self.size, self.size]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        let pixels = self.resized(&self.pixels[index as usize]).repeat(self.channels.count());
        Ok(Example::new(pixels, usize::from(self.labels[index as usize])))
    }
}

/// Number of colour channels; 1 or 3 in a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Channels {
    /// Grey.
    #[default]
    One,
    /// Red, green, blue.
    Three,
}

impl Channels {
    /// 1 or 3.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(u8::from(self))
    }
}

impl From<Channels> for u8 {
    fn from(channels: Channels) -> Self {
        match channels {
            Channels::One => 1,
            Channels::Three => 3,
        }
    }
}

impl TryFrom<u8> for Channels {
    type Error = Error;

    fn try_from(count: u8) -> Result<Self, Error> {
        match count {
            1 => Ok(Self::One),
            3 => Ok(Self::Three),
            _ => Err(Error::OutOfRange { name: "channels", expected: "1 or 3", found: count.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_the_published_one() {
        let digits = Digits::new(8, Channels::One).unwrap();
        assert_eq!(digits.len(), Some(1797));
        let mut counts = [0; 10];
        digits.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        // Sum of all pixels in scikit-learn 1.9.1's `load_digits`.
        assert_eq!(digits.pixels.iter().flatten().map(|&v| u64::from(v)).sum::<u64>(), 561_718);
        assert_eq!(digits.pixels.iter().flatten().max(), Some(&16));
    }

    #[test]
    fn the_stored_size_is_exact_and_in_range() {
        let digits = Digits::new(8, Channels::One).unwrap();
        let first = digits.example(0).unwrap();
        assert_eq!(first.label, 0);
        let expected = [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0].map(|v: f32| v / 8.0 - 1.0);
        assert_eq!(first.pixels[..8], expected);
    }

    #[test]
    fn enlarging_is_bilinear_between_half_pixel_centres() {
        let size = 20;
        let digits = Digits::new(size, Channels::One).unwrap();
        for index in [0, 777, 1796] {
            let image = digits.example(index).unwrap().pixels;
            let pixel = |row: f64, column: f64| {
                f64::from(
                    digits.pixels[index as usize][8 * row.clamp(0.0, 7.0) as usize + column.clamp(0.0, 7.0) as usize],
                )
            };
            for (i, &value) in image.iter().enumerate() {
                let [y, x] = [i / size, i % size].map(|at| (at as f64 + 0.5) * 8.0 / size as f64 - 0.5);
                let [v, u] = [y - y.floor(), x - x.floor()];
                let row = |y: f64| (1.0 - u) * pixel(y, x.floor()) + u * pixel(y, x.floor() + 1.0);
                let expected = ((1.0 - v) * row(y.floor()) + v * row(y.floor() + 1.0)) / 8.0 - 1.0;
                assert!((f64::from(value) - expected).abs() < 1e-6, "digit {index}, pixel {i}");
            }
        }
    }

    #[test]
    fn shrinking_to_one_pixel_weighs_by_distance_from_the_centre() {
        let digits = Digits::new(1, Channels::One).unwrap();
        let weight = |i: usize| (8.0 - (i as f64 - 3.5).abs()) / 48.0;
        let sum: f64 = (0..64).map(|i| weight(i / 8) * weight(i % 8) * f64::from(digits.pixels[3][i])).sum();
        assert!((f64::from(digits.example(3).unwrap().pixels[0]) - (sum / 8.0 - 1.0)).abs() < 1e-6);
    }

    #[test]
    fn three_channels_repeat_one() {
        let [one, three] = [Channels::One, Channels::Three].map(|channels| Digits::new(9, channels).unwrap());
        assert_eq!((one.shape(), three.shape()), ([1, 9, 9], [3, 9, 9]));
        assert_eq!(one.example(5).unwrap().pixels.repeat(3), three.example(5).unwrap().pixels);
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for size in [0, 4097] {
            assert!(matches!(Digits::new(size, Channels::One), Err(Error::OutOfRange { .. })));
        }
    }
}
