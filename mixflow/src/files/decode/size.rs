//! Sizes of images without their pixels.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;

use super::kind::Kind;
use super::orientation;

/// Width and height of the upright image of a file, from its head; of one that is damaged further on, too.
///
/// # Errors
/// If it cannot be read, or its head says no size.
pub(crate) fn upright_size(path: &Path) -> Result<[u32; 2], String> {
    let read = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut start = [0; 16];
    let count = file.by_ref().take(16).read(&mut start).map_err(read)?;
    let unknown = || "its head says no size".to_string();
    let (size, exif) = match Kind::of(&start[..count]) {
        Kind::Jpeg => jpeg(&mut file).map_err(|_| unknown())?,
        Kind::Png => png(&mut file).map_err(|_| unknown())?,
        Kind::WebP => {
            file.rewind().map_err(read)?;
            let mut decoder = WebPDecoder::new(file).map_err(|error| error.to_string())?;
            (decoder.dimensions().into(), decoder.exif_metadata().ok().flatten())
        }
        Kind::Other(_) => return Err(unknown()),
    };
    let [width, height] = size;
    match exif.as_deref().and_then(orientation) {
        _ if width == 0 || height == 0 => Err(unknown()),
        Some(
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH,
        ) => Ok([height, width]),
        _ => Ok(size),
    }
}

type Head = ([u32; 2], Option<Vec<u8>>);

/// The segments to the first frame's, as in [`super::jpeg`].
fn jpeg(file: &mut (impl Read + Seek)) -> std::io::Result<Head> {
    file.seek(std::io::SeekFrom::Start(2))?;
    let mut exif = None;
    loop {
        let mut marker = byte(file)?;
        while marker != 0xff {
            marker = byte(file)?;
        }
        while marker == 0xff {
            marker = byte(file)?;
        }
        if matches!(marker, 0 | 1 | 0xd0..=0xd9) {
            continue;
        }
        let length = u64::from(u16::from_be_bytes(bytes(file)?)).saturating_sub(2);
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, high, low, wide, narrow] = bytes(file)?;
                return Ok((
                    [u16::from_be_bytes([wide, narrow]), u16::from_be_bytes([high, low])].map(u32::from),
                    exif,
                ));
            }
            0xe1 => {
                let mut segment = vec![];
                file.by_ref().take(length).read_to_end(&mut segment)?;
                exif = exif.or_else(|| segment.starts_with(b"Exif\0\0").then_some(segment));
            }
            _ => {
                file.seek_relative(length as i64)?;
            }
        }
    }
}

/// The chunks to the last one, as in [`super::png`].
fn png(file: &mut (impl Read + Seek)) -> std::io::Result<Head> {
    file.seek(std::io::SeekFrom::Start(16))?;
    let size = [u32::from_be_bytes(bytes(file)?), u32::from_be_bytes(bytes(file)?)];
    file.seek_relative(5 + 4)?;
    // A file that is cut has a size nevertheless.
    let mut exif = None;
    while let (Ok(length), Ok(kind)) = (bytes(file), bytes(file)) {
        let length = u32::from_be_bytes(length);
        if kind == *b"eXIf" {
            let mut chunk = vec![];
            file.by_ref().take(length.into()).read_to_end(&mut chunk)?;
            exif = Some(chunk);
            file.seek_relative(4)?;
        } else {
            file.seek_relative(i64::from(length) + 4)?;
        }
    }
    Ok((size, exif))
}

fn byte(file: &mut impl Read) -> std::io::Result<u8> {
    bytes(file).map(|[byte]| byte)
}

fn bytes<const N: usize>(file: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
