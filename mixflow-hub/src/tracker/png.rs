//! Pictures that trackers show.

/// A PNG file, such as a grid of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Png<'a> {
    bytes: &'a [u8],
    width: u32,
    height: u32,
}

impl<'a> Png<'a> {
    /// The picture in these bytes, or none if they do not begin as a PNG file does. Nothing is decoded.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        // The signature, then the chunk IHDR, which begins with width and height (ISO/IEC 15948, 5.2 and 11.2.2).
        let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
        let (width, rest) = header.split_first_chunk()?;
        let (height, _) = rest.split_first_chunk()?;
        Some(Self { bytes, width: u32::from_be_bytes(*width), height: u32::from_be_bytes(*height) })
    }

    /// The file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }
}
