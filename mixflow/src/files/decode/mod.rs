//! From the bytes of an image file to its pixels: the one way of folders, archives, shards, captions and evaluation.
//!
//! [The data module](super#image-files) says how.

mod jpeg;
mod kind;
mod losses;
mod memory;
mod png;
mod size;
#[cfg(test)]
pub(crate) mod tests;
mod webp;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};

pub(crate) use losses::{Losses, Tally};
pub(crate) use memory::MEMORY;
pub(crate) use size::upright_size;

use kind::Kind;
use memory::Share;

/// Largest file of one image, bytes.
pub(crate) const LARGEST_FILE: u64 = 512 << 20;

/// An image, upright, whose memory is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Decoded<I> {
    pub(crate) image: I,
    /// What of the file is not in it.
    pub(crate) losses: Losses,
    _share: Share,
}

/// What a decoder of one format gives.
struct Raw {
    image: DynamicImage,
    exif: Option<Vec<u8>>,
    losses: Losses,
    share: Share,
}

/// Reads and decodes a file as [`decode`] does.
pub(crate) fn decode_file(path: &Path) -> Result<Decoded<DynamicImage>, String> {
    decode(&read(path)?)
}

/// The bytes of a file that is small enough to be an image.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("it has more than {LARGEST_FILE} bytes, the most that are read"));
    }
    Ok(bytes)
}

/// The image in 8 bits, grey or RGB. Waits while other threads have taken the memory.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded<DynamicImage>, String> {
    let mut raw = Raw::of(bytes)?;
    raw.losses |= Losses::ALPHA.when(!opaque(&raw.image));
    Ok(raw.upright())
}

/// The image in 8 bits and three channels, and its alpha channel unless it is opaque.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_rgb_and_alpha(bytes: &[u8]) -> Result<(Decoded<RgbImage>, Option<GrayImage>), String> {
    let raw = Raw::of(bytes)?;
    let alpha = (!opaque(&raw.image)).then(|| {
        let mut alpha = DynamicImage::ImageLuma8(alpha(&raw.image));
        raw.orientation().into_iter().for_each(|orientation| alpha.apply_orientation(orientation));
        alpha.into_luma8()
    });
    Ok((raw.upright().rgb(), alpha))
}

/// The image in 8 bits and three channels.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_rgb(bytes: &[u8]) -> Result<Decoded<RgbImage>, String> {
    decode(bytes).map(Decoded::rgb)
}

impl Decoded<DynamicImage> {
    fn rgb(self) -> Decoded<RgbImage> {
        let Self { image, losses, _share } = self;
        Decoded { image: image.into_rgb8(), losses, _share }
    }
}

impl Raw {
    /// What the decoder of its format gives of a file.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        match Kind::of(bytes) {
            Kind::Jpeg => jpeg::decode(bytes),
            Kind::Png => png::decode(bytes),
            Kind::WebP => webp::decode(bytes),
            Kind::Other(found) => Err(format!("expected a JPEG, PNG or WebP, found a file that {found}")),
        }
    }

    fn orientation(&self) -> Option<Orientation> {
        self.exif.as_deref().and_then(orientation)
    }

    /// Upright, in 8 bits, grey or RGB.
    fn upright(self) -> Decoded<DynamicImage> {
        let orientation = self.orientation();
        let Self { image, losses, share, .. } = self;
        let mut image = if image.color().has_color() {
            DynamicImage::ImageRgb8(image.into_rgb8())
        } else {
            DynamicImage::ImageLuma8(image.into_luma8())
        };
        orientation.into_iter().for_each(|orientation| image.apply_orientation(orientation));
        Decoded { image, losses, _share: share }
    }
}

/// What turns an image upright, where its Exif says so.
fn orientation(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
}

fn opaque(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().all(|pixel| pixel.0[1] == u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().all(|pixel| pixel.0[3] == u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().all(|pixel| pixel.0[1] == u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().all(|pixel| pixel.0[3] == u16::MAX),
        _ => true,
    }
}

/// How opaque an image is, in 8 bits, rounded as its colours are.
fn alpha(image: &DynamicImage) -> GrayImage {
    let (width, height) = (image.width(), image.height());
    let byte = |alpha: u16| ((u32::from(alpha) * 255 + 32_767) / 65_535) as u8;
    let alpha = match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().map(|pixel| pixel.0[1]).collect(),
        DynamicImage::ImageRgba8(image) => image.pixels().map(|pixel| pixel.0[3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().map(|pixel| byte(pixel.0[1])).collect(),
        DynamicImage::ImageRgba16(image) => image.pixels().map(|pixel| byte(pixel.0[3])).collect(),
        _ => vec![u8::MAX; width as usize * height as usize],
    };
    GrayImage::from_raw(width, height, alpha).expect("a number for each pixel")
}

/// What to say of a file that ends too early.
fn cut(bytes: &[u8], missing: &str) -> String {
    format!("it is cut after {} bytes: {missing}", bytes.len())
}

/// Whether a profile has the primaries of sRGB, whatever it is called.
///
/// # Source
/// ICC.1:2022, chapters 7.3 and 10.31; the primaries adapted to D50 are those of the ICC's own sRGB profile.
fn is_srgb(profile: &[u8]) -> bool {
    const PRIMARIES: [(&[u8; 4], [f64; 3]); 3] =
        [(b"rXYZ", [0.4361, 0.2225, 0.0139]), (b"gXYZ", [0.3851, 0.7169, 0.0971]), (b"bXYZ", [0.1431, 0.0606, 0.7141])];
    let number = |at: usize| profile.get(at..at + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    // After a head of 128 bytes: the number of tags, and name, place and length of each.
    let tags = profile.get(132..).unwrap_or_default().chunks_exact(12);
    let primary = |name: &[u8; 4]| -> Option<[f64; 3]> {
        let at = 132 + 12 * tags.clone().position(|tag| tag.starts_with(name))?;
        let place = usize::try_from(number(at + 4)?).ok()?;
        let value = |axis: usize| number(place.checked_add(8 + 4 * axis)?).map(|value| f64::from(value) / 65536.0);
        Some([value(0)?, value(1)?, value(2)?])
    };
    PRIMARIES.iter().all(|(name, expected)| {
        primary(name).is_some_and(|found| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.005))
    })
}
