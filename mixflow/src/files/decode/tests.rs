use std::io::Cursor;

use image::{ImageFormat, Rgb};
use safetensors::SafeTensors;

use super::*;

/// Files and the RGB bytes that Pillow 12.3.0 reads in them, of `make.py` beside it.
const FIXTURE: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/images/decode.safetensors"));

/// Names and contents of the files.
fn files() -> Vec<(String, Vec<u8>)> {
    let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
    let named =
        fixture.iter().filter_map(|(name, file)| Some((name.strip_prefix("file.")?.to_owned(), file.data().to_vec())));
    let mut files: Vec<_> = named.collect();
    files.sort();
    assert!(files.len() >= 40, "{} files", files.len());
    files
}

pub(crate) fn file(name: &str) -> Vec<u8> {
    files().into_iter().find(|(found, _)| found == name).unwrap().1
}

fn fault(bytes: &[u8]) -> String {
    match decode(bytes) {
        Ok(_) => panic!("decoded"),
        Err(reason) => reason,
    }
}

/// Noise that no format can shorten much.
fn encoded(format: ImageFormat, side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let noise =
        |x: u32, y: u32, c: u32| ((x * 7919 + y * 104_729 + c * 1_299_709).wrapping_mul(2_654_435_761) >> 24) as u8;
    RgbImage::from_fn(side, side, |x, y| Rgb([0, 1, 2].map(|c| noise(x, y, c)))).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn pixels_are_those_of_pillow() {
    let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
    for (name, bytes) in files() {
        let expected = fixture.tensor(&format!("rgb.{name}")).unwrap();
        let found = decode_rgb(&bytes).unwrap_or_else(|reason| panic!("{name}: {reason}")).image;
        assert_eq!(expected.shape(), [found.height() as usize, found.width() as usize, 3], "{name}");
        // Another inverse cosine transform and another way to enlarge chroma; everything else is exact.
        let most = match &name[..] {
            _ if name.ends_with("png") || name.contains("lossless") || name == "orientation-8.webp" => 0,
            _ => 3,
        };
        let differ = found.as_raw().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(differ <= most, "{name}: {differ}");
    }
}

/// Each pixel of these has its colour as its opacity.
#[test]
fn alpha_stands_where_its_pixels_stand() {
    let level = |x: u32, y: u32| (40 * x + 7 * y) as u8;
    let wide = |x, y| u16::from(level(x, y)) * 257;
    let images = [
        DynamicImage::from(image::RgbaImage::from_fn(6, 4, |x, y| image::Rgba([level(x, y); 4]))),
        image::GrayAlphaImage::from_fn(6, 4, |x, y| image::LumaA([level(x, y); 2])).into(),
        DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(6, 4, |x, y| image::Rgba([wide(x, y); 4]))),
        DynamicImage::ImageLumaA16(image::ImageBuffer::from_fn(6, 4, |x, y| image::LumaA([wide(x, y); 2]))),
    ];
    // What turns a PNG, to be put behind its head.
    let turned = file("orientation-6.png");
    let at = turned.windows(4).position(|name| name == b"eXIf").unwrap() - 4;
    let exif = &turned[at..at + 12 + turned[at + 3] as usize];
    for image in images {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let bytes = bytes.into_inner();
        let turned = [&bytes[..33], exif, &bytes[33..]].concat();
        for (bytes, size) in [(bytes, (6, 4)), (turned, (4, 6))] {
            let (decoded, alpha) = decode_rgb_and_alpha(&bytes).unwrap();
            let alpha = alpha.unwrap();
            assert_eq!((decoded.image.dimensions(), alpha.dimensions()), (size, size));
            assert!(decoded.image.pixels().zip(alpha.pixels()).all(|(colour, alpha)| colour.0[0] == alpha.0[0]));
            assert_eq!(decoded.image, decode_rgb(&bytes).unwrap().image);
        }
    }
    assert!(decode_rgb_and_alpha(&file("orientation-6.png")).unwrap().1.is_none());
}

#[test]
fn every_cut_is_an_error() {
    let mut all = files();
    all.extend(
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP]
            .map(|format| (format!("{format:?}"), encoded(format, 9))),
    );
    for (name, bytes) in all {
        for length in 0..bytes.len() {
            let Err(reason) = decode(&bytes[..length]) else { panic!("{name} cut to {length} of {}", bytes.len()) };
            // Short of its first bytes, nobody knows what it was.
            assert!(length < 12 || reason.starts_with(&format!("it is cut after {length} bytes")), "{name}: {reason}");
        }
        let more = [&bytes[..], b"\xff\xd8 more"].concat();
        assert_eq!(
            decode(&more).unwrap().image,
            decode(&bytes).unwrap().image,
            "{name}: bytes after the end are ignored"
        );
    }
}

#[test]
fn every_changed_bit_of_a_png_is_an_error() {
    for name in ["palette-transparent.png", "interlaced.png", "orientation-6.png"] {
        let mut bytes = file(name);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn tails_of_zeros_are_errors() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encoded(format, 64);
        // Below, a WebP may end so of itself.
        for zeros in [300, 512, whole.len() - 64, whole.len()] {
            let mut bytes = whole.clone();
            let end = bytes.len() - zeros;
            bytes[end..].fill(0);
            assert!(decode(&bytes).is_err(), "{format:?}: {zeros} of {}", whole.len());
        }
    }
}

#[test]
fn damage_in_the_code_of_a_jpeg_is_an_error_where_the_code_shows_it() {
    let bytes = file("restarts.jpg");
    // A marker that has no place between those that restart.
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xd0]).unwrap();
    let mut damaged = bytes.clone();
    damaged[at + 1] = 0xc4;
    assert!(decode(&damaged).is_err());
}

#[test]
fn files_that_are_no_images_are_told_by_what_they_are() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (&[0; 4096], "zeros only"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n <html lang=en>", "web page"),
        (b"<?xml version='1.0'?><svg xmlns", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"{\"error\": 404}", "JSON"),
        (b"not an image", "text"),
        (b"GIF89a", "GIF"),
        (b"II*\0\x08", "TIFF"),
        (b"BM6\0", "BMP"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"RIFF\x24\0\0\0WAVE", "unknown format"),
        (b"RIFF\x04\0\0\0WEBPVP8L", "no image within"),
        (b"\xff\xd8\xff\xd9", "it has no image"),
    ] {
        assert!(fault(bytes).contains(word), "{word}: {}", fault(bytes));
    }
}

#[test]
fn what_is_not_in_the_pixels_is_told() {
    let losses = |name: &str| decode(&file(name)).unwrap().losses;
    for (names, expected) in [
        (&["rgb.png", "444.jpg", "lossy.webp", "palette.png", "cmyk.jpg", "lossless.webp"][..], Losses::default()),
        (&["animated.png", "animated-lossy.webp", "animated-lossless.webp"], Losses::FRAMES),
        (&["rgba.png", "grey-alpha.png", "palette-transparent.png", "lossy-alpha.webp"], Losses::ALPHA),
        (&["rgb-16.png", "grey-16.png"], Losses::DEPTH),
        (&["rgba-16.png"], Losses::DEPTH | Losses::ALPHA),
        (&["gamma.png", "display-p3.png", "display-p3.jpg", "display-p3.webp"], Losses::PROFILE),
        (&["srgb-profile.png"], Losses::default()),
    ] {
        for name in names {
            assert_eq!(losses(name), expected, "{name}");
        }
    }
    let mut tally = Tally::default();
    for (image, losses) in
        [(7, Losses::ALPHA), (5, Losses::default()), (8, Losses::ALPHA | Losses::FRAMES), (7, Losses::ALPHA)]
    {
        tally.add(image, losses);
    }
    let lines = tally.lines(|image| format!("{image}.png"));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("1 image is animated") && lines[0].ends_with("8.png"), "{lines:?}");
    assert!(lines[1].starts_with("2 images are partly transparent") && lines[1].ends_with("7.png"), "{lines:?}");
}

#[test]
fn sizes_are_those_of_the_pixels_and_of_cut_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let size = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        upright_size(&path)
    };
    for (name, bytes) in files() {
        let image = decode_rgb(&bytes).unwrap().image;
        let expected = [image.width(), image.height()];
        assert_eq!(size(&bytes), Ok(expected), "{name}");
        for length in 0..bytes.len().min(400) {
            // Of a file that is cut within its head, there may be none, and its Exif may be gone.
            let Ok([width, height]) = size(&bytes[..length]) else { continue };
            assert!([[width, height], [height, width]].contains(&expected), "{name} cut to {length}");
        }
    }
    assert!(size(b"GIF89a, and so on").is_err());
    assert!(upright_size(&folder.path().join("none")).unwrap_err().starts_with("it cannot be read: "));
}
