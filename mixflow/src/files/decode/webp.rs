//! WebP files.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder};

use super::memory::Share;
use super::{Losses, Raw, cut};

/// Zero bytes at the end of the pixels' code that no encoder writes: those of a download or a copy that did not end.
const ZEROS: usize = 256;

/// What the chunks tell before anything is decoded.
#[derive(Default)]
struct Chunks<'a> {
    exif: Option<&'a [u8]>,
    profile: Option<&'a [u8]>,
    frames: usize,
    lossy: bool,
    alpha: bool,
}

/// The image of a file, all of whose bytes must be there; of an animation the first frame.
///
/// There is no checksum: what was changed into another valid image is not seen.
pub(super) fn decode(bytes: &[u8]) -> Result<Raw, String> {
    let Chunks { exif, profile, frames, lossy, alpha } = chunks(bytes)?;
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    // Bytes that image-webp 0.2.4 holds for each pixel: 4.7, 10.7, 7.1 and 12.2 of 9 megapixels were measured.
    let each = match (frames, lossy, alpha) {
        (0, true, false) => 5,
        (0, true, true) => 12,
        (0, false, _) => 8,
        _ => 14,
    };
    let share = Share::take([width, height], each)?;
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    let profile = profile.is_some_and(|profile| !super::is_srgb(profile));
    let losses = Losses::FRAMES.when(frames > 1) | Losses::PROFILE.when(profile);
    Ok(Raw { image, exif: exif.map(<[u8]>::to_vec), losses, share })
}

/// Follows the chunks to the end that the file's head names.
///
/// # Source
/// RFC 9649, section 2.
fn chunks(bytes: &[u8]) -> Result<Chunks<'_>, String> {
    let size = bytes.get(4..8).map_or(0, le32) as usize;
    let whole = bytes.get(..8 + size).ok_or_else(|| {
        cut(bytes, &format!("{} of the {} bytes that its head names are missing", 8 + size - bytes.len(), 8 + size))
    })?;
    let mut found = Chunks::default();
    let (mut at, mut image) = (12, false);
    while let Some((head, rest)) = whole.get(at..).and_then(|rest| rest.split_at_checked(8)) {
        let (kind, length) = (&head[..4], le32(&head[4..]) as usize);
        let Some(chunk) = rest.get(..length) else {
            return Err(format!("it is damaged: its chunk `{}` ends beyond the file", kind.escape_ascii()));
        };
        match kind {
            b"VP8 " => found.lossy = true,
            b"ALPH" => found.alpha = true,
            b"ANMF" => found.frames += 1,
            b"EXIF" => found.exif = Some(chunk),
            b"ICCP" => found.profile = Some(chunk),
            _ => {}
        }
        let pixels = matches!(kind, b"VP8 " | b"VP8L" | b"ANMF");
        if pixels && length > ZEROS && chunk[length - ZEROS..].iter().all(|byte| *byte == 0) {
            return Err("it is cut: its pixels end in zeros; copy or download it again".into());
        }
        // Chunks begin at even places.
        at += 8 + length + length % 2;
        image |= pixels;
    }
    if image { Ok(found) } else { Err("it is damaged: it has no image within the size that its head names".into()) }
}

/// A number of four bytes.
fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
