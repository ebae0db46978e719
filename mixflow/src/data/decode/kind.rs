//! What a file is, by its first bytes.

/// The formats that are read, and others that are often found under their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    /// Another one, in words.
    Other(&'static str),
}

/// First bytes, from a place on, and what they tell.
const SIGNATURES: [(usize, &[u8], Kind); 21] = [
    (0, b"\xff\xd8\xff", Kind::Jpeg),
    (0, b"\x89PNG\r\n\x1a\n", Kind::Png),
    (8, b"WEBP", Kind::WebP),
    (0, b"GIF8", Kind::Other("a GIF")),
    (0, b"BM", Kind::Other("a BMP")),
    (0, b"II*\0", Kind::Other("a TIFF")),
    (0, b"MM\0*", Kind::Other("a TIFF")),
    (4, b"ftypavif", Kind::Other("an AVIF")),
    (4, b"ftypavis", Kind::Other("an AVIF")),
    (4, b"ftyphei", Kind::Other("a HEIC")),
    (4, b"ftypmif1", Kind::Other("a HEIF")),
    (4, b"ftyp", Kind::Other("a video")),
    (0, b"\xff\x0a", Kind::Other("a JPEG XL")),
    (4, b"JXL ", Kind::Other("a JPEG XL")),
    (4, b"jP  ", Kind::Other("a JPEG 2000")),
    (0, b"%PDF", Kind::Other("a PDF")),
    (0, b"PK\x03\x04", Kind::Other("a ZIP archive")),
    (0, b"\x1f\x8b", Kind::Other("gzip data")),
    (0, b"\x93NUMPY", Kind::Other("a NumPy array")),
    (0, b"8BPS", Kind::Other("a Photoshop document")),
    (0, b"version https://git-lfs", Kind::Other("a pointer of Git LFS; fetch the file with `git lfs pull`")),
];

impl Kind {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let known =
            SIGNATURES.iter().find(|(at, signature, _)| bytes.get(*at..).is_some_and(|b| b.starts_with(signature)));
        if let Some((_, _, kind)) = known {
            return *kind;
        }
        let start = &bytes[..bytes.len().min(1024)];
        Self::Other(match std::str::from_utf8(start).map(|text| text.trim_start().to_ascii_lowercase()) {
            _ if bytes.is_empty() => "empty",
            _ if bytes.iter().all(|byte| *byte == 0) => "zeros only, as of a download or a copy that did not end",
            Ok(text) if text.contains('\0') => "of an unknown format",
            Ok(text) if text.starts_with("<!doctype html") || text.starts_with("<html") => {
                "an HTML page, as servers send instead of an image"
            }
            Ok(text) if text.starts_with("<svg") || text.contains("<svg ") => "an SVG",
            Ok(text) if text.starts_with('<') => "XML",
            Ok(text) if text.starts_with(['{', '[']) => "JSON",
            Ok(_) => "text",
            Err(_) => "of an unknown format",
        })
    }
}
