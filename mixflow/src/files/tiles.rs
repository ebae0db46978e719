//! Batches of images as one picture.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage, imageops};

/// How images are tiled into one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Images per row.
    pub columns: usize,
    /// Picture pixels per image pixel; whole numbers keep small images sharp.
    pub scale: u32,
    /// Pixels between images and around them.
    pub gap: u32,
    /// Colour of the gaps.
    pub background: [u8; 3],
}

impl Default for Tiles {
    /// Six columns, doubled, on a grey that reads on light and dark pages.
    fn default() -> Self {
        Self { columns: 6, scale: 2, gap: 2, background: [128; 3] }
    }
}

/// Columns of a picture whose rows are to be looked at, at most.
const COLUMNS: usize = 10;

/// Longest side of a PNG: 2³¹ − 1 (PNG specification, 11.2.2).
const LONGEST: u64 = (1 << 31) - 1;

impl Tiles {
    /// The usual ones with as many columns as fit, so that each shows one of `turns` things that take turns.
    pub fn in_turns(turns: usize) -> Self {
        let turns = turns.clamp(1, COLUMNS);
        Self { columns: COLUMNS / turns * turns, ..Self::default() }
    }

    /// Width and height of the picture of `count` images of this height and width; none if a side is longer than PNG allows.
    pub fn size(&self, count: usize, [height, width]: [usize; 2]) -> Option<[u32; 2]> {
        let columns = self.columns.min(count.max(1)).max(1);
        let side = |count: usize, size: usize| {
            let cell = (size as u64).checked_mul(self.scale.into())?.checked_add(self.gap.into())?;
            let side = (count as u64).checked_mul(cell)?.checked_add(self.gap.into())?;
            u32::try_from(side).ok().filter(|_| side <= LONGEST)
        };
        Some([side(columns, width)?, side(count.div_ceil(columns), height)?])
    }

    /// Tiles `images` row by row. Values are clamped to [-1, 1]; one that is not finite becomes magenta.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]` in `shape`, row-major; 1 or 3 channels
    ///
    /// # Panics
    /// When `images` does not have the length of `shape`, for other channel counts, for zero columns or scale, and for a
    /// picture beyond [`size`](Self::size).
    pub fn image(&self, images: &[f32], shape: [usize; 4]) -> RgbImage {
        let [batch, channels, height, width] = shape;
        assert_eq!(images.len(), shape.iter().product::<usize>(), "expected images of shape {shape:?}");
        assert!(channels == 1 || channels == 3, "expected 1 or 3 channels, found {channels}");
        assert!(self.columns > 0 && self.scale > 0, "expected at least one column and scale 1, found {self:?}");

        let columns = self.columns.min(batch.max(1));
        let cell = |size: usize| size as u32 * self.scale + self.gap;
        let [wide, high] = self.size(batch, [height, width]).expect("a picture that PNG can hold");
        let mut picture = RgbImage::from_pixel(wide, high, Rgb(self.background));
        if images.is_empty() {
            return picture;
        }
        for (index, image) in images.chunks_exact(channels * height * width).enumerate() {
            let tile = RgbImage::from_fn(width as u32, height as u32, |x, y| {
                let at = |channel: usize| image[(channel * height + y as usize) * width + x as usize];
                pixel(if channels == 1 { [at(0); 3] } else { [at(0), at(1), at(2)] })
            });
            let [wide, high] = [width, height].map(|size| size as u32 * self.scale);
            let tile = imageops::resize(&tile, wide, high, imageops::FilterType::Nearest);
            let left = self.gap + (index % columns) as u32 * cell(width);
            let top = self.gap + (index / columns) as u32 * cell(height);
            imageops::replace(&mut picture, &tile, left.into(), top.into());
        }
        picture
    }

    /// [`Tiles::image`], encoded as PNG.
    pub fn png(&self, images: &[f32], shape: [usize; 4]) -> Vec<u8> {
        png(&self.image(images, shape))
    }
}

/// A picture as a PNG file.
pub(crate) fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("an RGB image of at least one pixel encodes into memory");
    bytes.into_inner()
}

fn pixel(values: [f32; 3]) -> Rgb<u8> {
    if values.iter().all(|value| value.is_finite()) {
        Rgb(values.map(|value| ((value.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8))
    } else {
        Rgb([255, 0, 255])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_land_where_they_belong() {
        let tiles = Tiles { columns: 2, scale: 3, gap: 1, background: [1, 2, 3] };
        // Three 1x2 images: black-white, white-black, grey-grey.
        let picture = tiles.image(&[-1.0, 1.0, 1.0, -1.0, 0.0, 0.0], [3, 1, 1, 2]);
        assert_eq!(picture.dimensions(), (1 + 2 * 7, 1 + 2 * 4));
        let at = |x, y| picture.get_pixel(x, y).0;
        assert_eq!([at(1, 1), at(3, 3), at(4, 1), at(6, 3)], [[0; 3], [0; 3], [255; 3], [255; 3]]);
        assert_eq!([at(8, 1), at(11, 1), at(1, 5)], [[255; 3], [0; 3], [128; 3]]);
        assert_eq!([at(0, 0), at(7, 1), at(8, 5)], [[1, 2, 3]; 3]);
    }

    #[test]
    fn channels_come_first_and_values_are_clamped() {
        let tiles = Tiles { columns: 9, scale: 1, gap: 0, ..Tiles::default() };
        let picture = tiles.image(&[1.0, -7.0, -1.0, 7.0, 0.0, f32::NAN], [1, 3, 1, 2]);
        assert_eq!(picture.get_pixel(0, 0).0, [255, 0, 128]);
        assert_eq!(picture.get_pixel(1, 0).0, [255, 0, 255]);
    }

    #[test]
    fn png_decodes_to_the_same_pixels() {
        let values: Vec<f32> = (0..48).map(|value| value as f32 / 24.0 - 1.0).collect();
        let tiles = Tiles::default();
        let decoded = image::load_from_memory(&tiles.png(&values, [1, 3, 4, 4])).unwrap().to_rgb8();
        assert_eq!(decoded, tiles.image(&values, [1, 3, 4, 4]));
        tiles.png(&[], [0, 1, 4, 4]);
    }

    #[test]
    #[should_panic(expected = "expected 1 or 3 channels, found 2")]
    fn two_channels_are_refused() {
        Tiles::default().image(&[0.0; 2], [1, 2, 1, 1]);
    }
}
