//! JPEG files.

use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::memory::Share;
use super::{Losses, Raw, cut};

/// What the markers tell before anything is decoded.
#[derive(Default)]
struct Markers {
    size: [u32; 2],
    components: u8,
    /// Whether coefficients of all components must be held until the last scan.
    scans: bool,
    /// Where a note of Adobe's about the colours stands.
    adobe: Option<usize>,
    /// Whether it is a JFIF, whose colours are always luminance and two differences.
    jfif: bool,
    /// The byte after the end-of-image marker.
    end: usize,
}

/// The image of a file, which must hold its end-of-image marker and nothing that cannot be decoded.
///
/// There is no checksum: what was changed into another valid image is not seen. CMYK is taken for inverted, as by
/// Pillow, whose pixels ours differ from by the rounding of another transform.
pub(super) fn decode(bytes: &[u8]) -> Result<Raw, String> {
    let Markers { size, components, scans, adobe, jfif, end } = markers(bytes)?;
    let channels = if components == 1 { 1 } else { 3 };
    let share = Share::take(size, channels + if scans { 2 * u64::from(components) } else { 0 })?;
    let mut file = std::borrow::Cow::Borrowed(&bytes[..end]);
    if let (Some(at), true) = (adobe, components == 1 || components == 3 && jfif) {
        // The note is about colours: grey images have none, and the decoder would look for four; of a JFIF libjpeg believes the
        // format.
        file.to_mut()[at] = 0xef;
    }
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&file[..]), options);
    let fault = |error| format!("it is damaged or of a rare kind: {error}");
    decoder.decode_headers().map_err(fault)?;
    let [width, height] = size;
    if decoder.dimensions() != Some((width as usize, height as usize)) {
        return Err("it is damaged: it names several sizes".into());
    }
    let colours = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    // Files with odd headers are common and whole; in the scans strictness refuses code that cannot be decoded. A scan that
    // ends too early with a marker is still filled with grey.
    decoder.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(fault)?;
    let losses = Losses::PROFILE.when(decoder.icc_profile().is_some_and(|profile| !super::is_srgb(&profile)));
    let exif = decoder.exif().cloned();
    let image = match colours {
        ColorSpace::Luma => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    };
    Ok(Raw { image: image.expect("the buffer is that of the size"), exif, losses, share })
}

/// Follows the markers to the end-of-image marker, over the segments that may hold a smaller image with its own.
///
/// # Source
/// ITU-T T.81, annex B.
fn markers(bytes: &[u8]) -> Result<Markers, String> {
    let mut found = Markers::default();
    let mut scan = false;
    let mut at = 2;
    let missing = || cut(bytes, "its end-of-image marker is missing");
    loop {
        // Coded data between markers has 0 after 0xff; fill bytes are 0xff.
        at += bytes[at..].iter().position(|byte| *byte == 0xff).ok_or_else(missing)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff).ok_or_else(missing)?;
        let marker = bytes[at];
        at += 1;
        if matches!(marker, 0 | 1 | 0xd0..=0xd8) {
            continue;
        }
        if marker == 0xd9 {
            if !scan {
                return Err("it has no image: it ends before a scan".into());
            }
            found.end = at;
            return Ok(found);
        }
        let length = bytes.get(at..at + 2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let segment = length.and_then(|length| bytes.get(at + 2..at + length.max(2))).ok_or_else(missing)?;
        match (marker, segment) {
            (0xc0..=0xcf, [_, high, low, wide, narrow, components, ..]) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                found.size = [u32::from_be_bytes([0, 0, *wide, *narrow]), u32::from_be_bytes([0, 0, *high, *low])];
                found.components = *components;
                found.scans = marker != 0xc0 && marker != 0xc1;
            }
            (0xda, [components, ..]) => {
                found.scans |= *components < found.components;
                scan = true;
            }
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => found.jfif = true,
            (0xee, [b'A', b'd', b'o', b'b', b'e', ..]) => found.adobe = Some(at - 1),
            _ => {}
        }
        at += 2 + segment.len();
    }
}
