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
        Kind::Png => png(file.into_inner()).map_err(|_| unknown())?,
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

/// The heads of the chunks to the last one, as in [`super::png`]: Exif may stand behind the pixels, which are not read.
fn png(file: impl Read + Seek) -> std::io::Result<Head> {
    /// What is read for the head of a chunk, of 8 bytes; a whole buffer would be most of what lies between two of them.
    const AT_ONCE: usize = 32;
    let file = &mut BufReader::with_capacity(AT_ONCE, file);
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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, SeekFrom};

    use super::*;

    /// Counts the bytes that are read.
    struct Counted(Cursor<Vec<u8>>, usize);

    impl Read for &mut Counted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1 += count;
            Ok(count)
        }
    }

    impl Seek for &mut Counted {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn pixels_of_a_png_are_not_read_for_its_size() {
        let chunk = |kind: &[u8], bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), kind, bytes, &[0; 4]].concat();
        let head = [&300u32.to_be_bytes()[..], &200u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        // As Pillow writes them.
        let pixels = chunk(b"IDAT", &[7; 1 << 16]).repeat(48);
        let end = [chunk(b"eXIf", b"the orientation"), chunk(b"IEND", b"")].concat();
        let file = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), &pixels, &end].concat();
        let mut file = Counted(Cursor::new(file), 0);
        let (size, exif) = png(&mut file).unwrap();
        assert_eq!((size, exif.as_deref()), ([300, 200], Some(&b"the orientation"[..])));
        assert!(file.1 < 48 * 32 + 200, "{} bytes", file.1);
    }
}
