//! Collections of encoded images, read once from the first to the last.
//!
//! A [`Source`] is what [`encode_dataset`](super::latents::encode_dataset) reads; for training on images themselves
//! there is [`Dataset`](super::Dataset).

mod directory;
#[cfg(feature = "parquet")]
mod parquet;
mod web_dataset;

use std::fmt::Debug;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageReader};

pub use self::directory::Directory;
#[cfg(feature = "parquet")]
pub use self::parquet::Parquet;
pub use self::web_dataset::WebDataset;

use super::folder::decode;
use super::{Error, center_crop, to_planes};

/// Labelled images in an order that never changes.
#[allow(clippy::len_without_is_empty, reason = "no source is ever empty: opening an empty one is an error")]
pub trait Source: Debug {
    /// Number of samples.
    fn len(&self) -> u64;

    /// Names of the classes.
    fn classes(&self) -> &[String];

    /// Where the images are, in words; stands in the manifest.
    fn describe(&self) -> String;

    /// The samples from number `start` on. An error ends them.
    ///
    /// # Errors
    /// If the source cannot be read.
    fn samples(&self, start: u64) -> Result<Samples<'_>, Error>;
}

/// The samples of a [`Source`].
pub type Samples<'a> = Box<dyn Iterator<Item = Result<Sample, Error>> + 'a>;

/// An image, not yet decoded, with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it comes from: unique in its source.
    pub name: String,
    /// Index into [`Source::classes`].
    pub class: usize,
    /// A PNG, JPEG or WebP file.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// The central square, `[3, size, size]` in [−1, 1].
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be decoded in 512 MiB.
    ///
    /// # Panics
    /// If `size` is zero.
    pub fn planes(&self, size: usize) -> Result<Vec<f32>, Error> {
        let image = decode(ImageReader::new(Cursor::new(&self.bytes))).map(DynamicImage::into_rgb8);
        let image = image.map_err(|source| Error::Image { path: Path::new(&self.name).into(), source })?;
        Ok(to_planes(&center_crop(&image, size as u32)))
    }
}

#[cfg(test)]
mod tests;
