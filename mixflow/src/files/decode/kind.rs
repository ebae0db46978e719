//! What a file is, by its first bytes.

use mixflow_backbones::not_data::{LOOKED_AT, why_not_binary};

/// The formats that are read, and what is found under their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    /// Another one: the rest of a sentence that starts with its name.
    Other(String),
}

/// First bytes, from a place on, of other formats.
const OTHERS: [(usize, &[u8], &str); 16] = [
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"8BPS", "a Photoshop document"),
];

impl Kind {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let begins = |at: usize, signature: &[u8]| bytes.get(at..).is_some_and(|bytes| bytes.starts_with(signature));
        let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT)]).to_ascii_lowercase();
        match OTHERS.iter().find(|(at, signature, _)| begins(*at, signature)) {
            _ if begins(0, b"\xff\xd8\xff") => Self::Jpeg,
            _ if begins(0, b"\x89PNG\r\n\x1a\n") => Self::Png,
            _ if begins(8, b"WEBP") => Self::WebP,
            Some((_, _, name)) => Self::Other(format!("is {name}")),
            None if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) => {
                Self::Other("is zeros only, as of a download or a copy that did not end".into())
            }
            None if text().contains("<svg") => Self::Other("is an SVG".into()),
            None => Self::Other(why_not_binary(bytes).unwrap_or_else(|| "is of an unknown format".into())),
        }
    }
}
