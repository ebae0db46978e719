//! A part of a source.

use std::ops::Range;

use super::{Source, SourceEntry, SourceImages};
use crate::data::Error;

/// Some of the images of a source, in a row; to everybody else it is the source itself.
#[derive(Debug)]
pub struct PartOf<'a> {
    source: &'a dyn Source,
    images: Range<u64>,
}

impl<'a> PartOf<'a> {
    /// The images of these places.
    ///
    /// # Panics
    /// If the source has none there.
    pub fn new(source: &'a dyn Source, images: Range<u64>) -> Self {
        assert!(images.start <= images.end && images.end <= source.len(), "images {images:?} of {}", source.len());
        Self { source, images }
    }
}

impl Source for PartOf<'_> {
    fn len(&self) -> u64 {
        self.images.end - self.images.start
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let mut entries = self.source.entries()?;
        entries.truncate(self.images.end as usize);
        Ok(entries.split_off(self.images.start as usize))
    }

    fn several_captions(&self) -> bool {
        self.source.several_captions()
    }

    fn notices(&self) -> Vec<String> {
        self.source.notices()
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
        let left = self.len().saturating_sub(start) as usize;
        Ok(Box::new(self.source.samples(self.images.start + start)?.take(left)))
    }
}
