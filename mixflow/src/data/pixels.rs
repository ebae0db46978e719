//! Between 8-bit images and the networks' numbers.

use image::RgbImage;

use super::resample::{Filter, resize};

/// The central `size × size` square of an image, shrunk or enlarged so that its shorter side fits.
///
/// Halves by area average while both sides are at least twice `size`, then resizes bicubically to the shorter side and
/// cuts. Equals the reference with Pillow 12.3.0, as with all from 10.4 on that were tried, bit for bit on equal decoded
/// pixels. Pillow 13.0 resizes some shapes down before it resizes them across, which changes bytes by 1. Cost is bounded by
/// the image, not by its aspect ratio.
///
/// # Panics
/// If `size` or a side of the image is zero.
///
/// # Source
/// `center_crop_arr` in openai/guided-diffusion 22e0df8, `guided_diffusion/image_datasets.py`; `SiT` and RAE use it.
#[must_use]
pub fn center_crop(image: &RgbImage, size: u32) -> RgbImage {
    center_crop_to(image, [size, size])
}

/// The same for a rectangle of this width and height: the image is scaled until it covers it, and its centre is cut.
///
/// # Panics
/// As [`center_crop`].
#[must_use]
pub fn center_crop_to(image: &RgbImage, size: [u32; 2]) -> RgbImage {
    let sides = [image.width(), image.height()];
    assert!(![size, sides].as_flattened().contains(&0), "nothing to crop: {size:?} of {sides:?}");
    let pairs = || sides.into_iter().zip(size);
    if pairs().all(|(side, wanted)| u64::from(side) >= 2 * u64::from(wanted)) {
        let [width, height] = sides.map(|side| side / 2);
        return center_crop_to(&resize(image, [width, height], Filter::Box, 0..width, 0..height), size);
    }
    let scale = pairs().map(|(side, wanted)| f64::from(wanted) / f64::from(side)).fold(0.0, f64::max);
    // Python's `round`. A quotient beyond `u32` saturates; such a header is refused long before.
    let resized = sides.map(|side| (f64::from(side) * scale).round_ties_even() as u32);
    let middle = |axis: usize| (resized[axis] - size[axis]) / 2..(resized[axis] - size[axis]) / 2 + size[axis];
    resize(image, resized, Filter::Bicubic, middle(0), middle(1))
}

/// A `size × size` square anywhere in an image that is first resized bicubically, its shorter side to `short_side`. `place`
/// says where, down and to the right, each in [0, 1).
///
/// Equals the reference with Pillow 12.3.0 bit for bit on equal decoded pixels.
///
/// # Panics
/// If `size` or a side of the image is zero, or `size` is above `short_side`.
///
/// # Source
/// RAE `src/train_stage1.py` at a4d18c4: `Resize` and `RandomCrop` of torchvision 0.29, which truncate the longer side.
#[must_use]
pub fn random_crop(image: &RgbImage, size: u32, short_side: u32, place: [f64; 2]) -> RgbImage {
    let [down, right] = place;
    let first = |free: u32, place: f64| ((place * f64::from(free + 1)) as u32).min(free);
    cut_of_resized(image, size, short_side, |[across, along]| [first(across, right), first(along, down)])
}

/// The central `size × size` square of an image that is first resized bicubically, its shorter side to `size`, as CLIP's images
/// are; averages no area before, other than [`center_crop`].
///
/// Equals the reference with Pillow 12.3.0 bit for bit on equal decoded pixels.
///
/// # Panics
/// If `size` or a side of the image is zero.
///
/// # Source
/// Hugging Face Transformers 5.24.0, `CLIPImageProcessorPil`: the longer side is truncated, and of an odd rest the smaller half is
/// cut off first.
#[must_use]
pub fn short_side_crop(image: &RgbImage, size: u32) -> RgbImage {
    cut_of_resized(image, size, size, |free| free.map(|free| free / 2))
}

/// A square of an image whose shorter side was resized bicubically. `first` says where it begins, across and down, by how much is
/// free there.
fn cut_of_resized(image: &RgbImage, size: u32, short_side: u32, first: impl FnOnce([u32; 2]) -> [u32; 2]) -> RgbImage {
    let [width, height] = [image.width(), image.height()];
    assert!(size > 0 && width > 0 && height > 0, "nothing to crop: {size} of {:?}", image.dimensions());
    assert!(size <= short_side, "cannot cut {size} of {short_side} pixels");
    let short = u64::from(width.min(height));
    // Such a product is beyond `u32` for headers alone that are refused long before.
    let resized = [width, height].map(|side| (u64::from(short_side) * u64::from(side) / short) as u32);
    let [columns, rows] = first(resized.map(|side| side - size)).map(|first| first..first + size);
    resize(image, resized, Filter::Bicubic, columns, rows)
}

/// Pixels as the networks see them: channel, height, width; `2 (v/255) − 1`, in [−1, 1].
///
/// # Source
/// willisma/SiT 947f95b, `train.py`: `ToTensor`, then `Normalize` with mean and deviation ½.
#[must_use]
pub fn to_planes(image: &RgbImage) -> Vec<f32> {
    let pixels = image.as_raw().as_chunks::<3>().0;
    let plane = |channel: usize| pixels.iter().map(move |pixel| (f32::from(pixel[channel]) / 255.0 - 0.5) / 0.5);
    (0..3).flat_map(plane).collect()
}

/// How a network's number becomes a byte. The three references differ by up to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantize {
    /// `127.5 x + 128`, truncated; x in [−1, 1] (willisma/SiT 947f95b, `sample_ddp.py`). Rounds to nearest.
    Sit,
    /// `255 (x + 1)/2`, truncated; x in [−1, 1] (REPA, `generate.py`).
    Repa,
    /// `255 x`, truncated; x in [0, 1] (bytetriper/RAE a4d18c4).
    Rae,
}

impl Quantize {
    /// The byte of `x`; out-of-range values are clamped, NaN becomes 0.
    #[must_use]
    pub fn byte(self, x: f32) -> u8 {
        let value = match self {
            Self::Sit => 127.5 * x + 128.0,
            Self::Repa => 255.0 * ((x + 1.0) / 2.0),
            Self::Rae => x * 255.0,
        };
        // A float cast truncates and saturates.
        value as u8
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use sha2::{Digest, Sha256};

    use super::*;

    const FIXTURE: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/preprocess/center_crop.safetensors"));

    fn image(fixture: &SafeTensors, name: &str) -> RgbImage {
        let tensor = fixture.tensor(name).unwrap();
        let [height, width, 3] = *tensor.shape() else { panic!("{name} is no image") };
        RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).unwrap()
    }

    #[test]
    fn center_crop_equals_the_reference_bit_for_bit() {
        let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
        for i in 0..4 {
            let input = image(&fixture, &format!("in.image{i}"));
            let expected = image(&fixture, &format!("out.crop{i}"));
            assert_eq!(center_crop(&input, 32), expected, "image {i}, {:?}", input.dimensions());
        }
    }

    /// Each colour of a ramp is its place, so that the middle of a rectangle has the middle's colour and its corners are as far
    /// from it as the rectangle is long, by the scale.
    #[test]
    fn rectangles_are_covered_and_cut_from_the_centre() {
        for (width, height, [wide, high], scale) in [
            (200, 100, [50, 50], 0.5),
            (200, 100, [50, 20], 0.25),
            (100, 200, [20, 50], 0.25),
            (60, 60, [90, 30], 1.5),
            (96, 64, [40, 32], 0.5),
        ] {
            let ramp = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]));
            let found = center_crop_to(&ramp, [wide, high]);
            assert_eq!(found.dimensions(), (wide, high));
            let far = [f64::from(wide) / scale, f64::from(high) / scale];
            let corners = [(0, 0), (wide - 1, high - 1)].map(|(x, y)| found.get_pixel(x, y).0);
            for axis in 0..2 {
                let middle = (f64::from([width, height][axis]) - 1.0) / 2.0;
                let expected = [-1.0, 1.0].map(|side| middle + side * (far[axis] - 1.0 / scale) / 2.0);
                for (corner, expected) in corners.iter().zip(expected) {
                    assert!((f64::from(corner[axis]) - expected).abs() < 1.6, "{corners:?}, expected {expected}");
                }
            }
        }
    }

    /// Digests of `center_crop_arr` with Pillow 12.3.0, 11.3.0 and 10.4.0, which agree. The second image differs with
    /// Pillow 13.0.0 in 3,258 of 12,288 bytes: there it is d23bae9e….
    #[test]
    fn center_crop_follows_one_version_of_pillow() {
        for (width, height, size, expected) in [
            (201, 99, 24, "09a05a3b657900424fffbab2d5a826ac79004245d5e64091cfb1a20388fcd3a2"),
            (100, 300, 64, "3e64ab75da7b2beea5124101f94389a5953a5f266499dea69051eab17c6e99eb"),
            (300, 100, 64, "b16e75bef7368cc53fec5ad188ed7d83a8cffdfed2bf4a6ccb9d0b05872eb2d4"),
            (37, 61, 48, "12af6542697df7ee237dfc7bc40fde675a85ebc8aa64dc5fa4df4873c05f19ff"),
        ] {
            let noise = |x: u32, y: u32, c: u32| (x * 7919 + y * 104_729 + c * 1_299_709).wrapping_mul(2_654_435_761);
            let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| (noise(x, y, c) >> 24) as u8));
            let found = center_crop(&RgbImage::from_fn(width, height, pixel), size);
            assert_eq!(hex::encode(Sha256::digest(found.as_raw())), expected, "{width} x {height} to {size}");
        }
    }

    #[test]
    fn random_crop_equals_the_reference_bit_for_bit() {
        let fixture = SafeTensors::deserialize(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/rae_training/crop.safetensors"
        )))
        .unwrap();
        // The longer sides become 46 and 36 pixels; the places are those that the manifest tells.
        for (name, place) in [("wide", [3.5 / 9.0, 30.5 / 31.0]), ("tall", [0.0, 8.5 / 9.0])] {
            let input = image(&fixture, &format!("in.{name}"));
            assert_eq!(random_crop(&input, 16, 24, place), image(&fixture, &format!("out.{name}")), "{name}");
        }
    }

    #[test]
    fn every_place_of_a_random_crop_is_inside() {
        let image = RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let corner = |place| random_crop(&image, 10, 10, place).get_pixel(0, 0).0;
        assert_eq!((corner([0.0, 0.0]), corner([0.0, 0.999_999])), ([0, 0, 0], [10, 0, 0]));
        assert_eq!((0..100).filter(|i| corner([0.5, f64::from(*i) / 100.0])[0] == 5).count(), 9);
    }

    #[test]
    fn quantisation_equals_the_references_exactly() {
        let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
        let samples = fixture.tensor("in.samples").unwrap();
        let samples: Vec<_> = samples.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(samples.len(), 60);
        for (rule, name) in [(Quantize::Sit, "sit"), (Quantize::Repa, "repa"), (Quantize::Rae, "rae")] {
            let bytes: Vec<_> = samples.iter().map(|&x| rule.byte(x)).collect();
            assert_eq!(bytes, fixture.tensor(&format!("out.uint8_{name}")).unwrap().data(), "{name}");
        }
    }

    #[test]
    fn bytes_survive_the_way_to_planes_and_back() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(16 * y + x) as u8, (255 - 16 * y - x) as u8, 7]));
        let planes = to_planes(&image);
        assert_eq!((planes[0], planes[255], planes[256]), (-1.0, 1.0, 1.0));
        for (i, pixel) in image.pixels().enumerate() {
            assert_eq!(pixel.0, [0, 1, 2].map(|c| Quantize::Sit.byte(planes[256 * c + i])));
        }
        assert_eq!(Quantize::Sit.byte(f32::NAN), 0);
    }

    #[test]
    fn needle_shaped_images_cost_little() {
        let image = RgbImage::from_pixel(1, 60_000, image::Rgb([9, 8, 7]));
        assert_eq!(center_crop(&image, 256), RgbImage::from_pixel(256, 256, image::Rgb([9, 8, 7])));
    }
}
