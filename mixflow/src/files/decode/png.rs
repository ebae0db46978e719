//! PNG files.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};

use super::memory::{MEMORY, Share};
use super::{Losses, Raw, cut};

/// What the chunks tell before anything is unpacked.
#[derive(Default)]
struct Chunks<'a> {
    size: [u32; 2],
    depth: u8,
    /// Bytes of an unpacked pixel.
    each: u64,
    exif: Option<&'a [u8]>,
    losses: Losses,
}

/// The image of a file, whose last chunk must be there and whose checksums must agree.
///
/// Of an animation it is the one that programs without animation show. Bytes after the last chunk are ignored.
pub(super) fn decode(bytes: &[u8]) -> Result<Raw, String> {
    let Chunks { size, depth, each, exif, mut losses } = chunks(bytes)?;
    // Beside it the same in 8 bits without alpha.
    let share = Share::take(size, if each == 3 { 3 } else { each + 3 })?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| error.to_string())?;
    let profile = decoder.icc_profile().ok().flatten().is_some_and(|profile| !super::is_srgb(&profile));
    losses |= Losses::DEPTH.when(depth == 16) | Losses::PROFILE.when(profile);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    Ok(Raw { image, exif: exif.map(<[u8]>::to_vec), losses, share })
}

/// Follows the chunks to the last one.
///
/// # Source
/// PNG specification, third edition, chapters 5 and 11.
fn chunks(bytes: &[u8]) -> Result<Chunks<'_>, String> {
    let mut found = Chunks::default();
    let [mut gamma, mut srgb, mut transparent] = [false; 3];
    let (mut at, mut data) = (8, false);
    while let Some((head, rest)) = bytes[at..].split_at_checked(8) {
        let (length, kind) = (be32(head), &head[4..]);
        let name = || kind.escape_ascii();
        let Some(chunk) = rest.get(..length as usize + 4) else {
            let missing = u64::from(length) + 4 - rest.len() as u64;
            return Err(cut(bytes, &format!("{missing} bytes of its chunk `{}` are missing", name())));
        };
        let (chunk, checksum) = chunk.split_at(length as usize);
        if crc32fast::hash(&bytes[at + 4..][..4 + chunk.len()]) != be32(checksum) {
            return Err(format!("it is damaged: its chunk `{}` at byte {at} does not match its checksum", name()));
        }
        match kind {
            b"IHDR" if chunk.len() == 13 && at == 8 => {
                found.size = [be32(chunk), be32(&chunk[4..])];
                found.depth = chunk[8];
                let channels = match chunk[9] {
                    0 => 1,
                    4 => 2,
                    6 => 4,
                    _ => 3,
                };
                found.each = channels * u64::from(found.depth.div_ceil(8));
            }
            _ if at == 8 => return Err("it is damaged: it does not begin with the chunk `IHDR`".into()),
            b"acTL" => found.losses |= Losses::FRAMES.when(chunk.len() == 8 && be32(chunk) > 1),
            // One over the gamma, in 100,000ths; that of sRGB is 2.2.
            b"gAMA" => gamma = chunk.len() == 4 && be32(chunk).abs_diff(45_455) > 1_000,
            b"sRGB" | b"iCCP" => srgb = true,
            b"tRNS" => transparent = true,
            b"eXIf" => found.exif = Some(chunk),
            b"IDAT" => data = true,
            b"IEND" if data => {
                found.each += if transparent { u64::from(found.depth.div_ceil(8)) } else { 0 };
                found.losses |= Losses::PROFILE.when(gamma && !srgb);
                return Ok(found);
            }
            _ => {}
        }
        at += 12 + length as usize;
    }
    Err(cut(bytes, "its last chunk `IEND` is missing"))
}

/// A number of four bytes.
fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
