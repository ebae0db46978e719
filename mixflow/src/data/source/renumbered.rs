//! Classes in the order of an earlier encoding.

use std::collections::HashMap;

use super::{Source, SourceEntry, SourceImage, SourceImages};
use crate::data::Error;

/// A source whose classes begin with given ones, in their order, whether it has images of them or not; its own new ones follow in
/// the order that they have there.
///
/// Captions are ordered by their texts, so that a new one moves the numbers of others: what was encoded of them goes on with the
/// numbers that it began with.
#[derive(Debug)]
pub struct Renumbered {
    source: Box<dyn Source>,
    classes: Vec<String>,
    /// The number of each class of the source.
    numbers: Vec<usize>,
}

impl Renumbered {
    /// The images of `source`, whose classes begin with `first`.
    pub fn new(source: Box<dyn Source>, first: Vec<String>) -> Self {
        let mut known: HashMap<String, usize> = first.iter().cloned().zip(0..).collect();
        let mut classes = first;
        let mut number = |class: &String| {
            *known.entry(class.clone()).or_insert_with(|| {
                classes.push(class.clone());
                classes.len() - 1
            })
        };
        let numbers = source.classes().iter().map(&mut number).collect();
        Self { source, classes, numbers }
    }
}

impl Source for Renumbered {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let numbered = |entry: SourceEntry| {
            let captions = entry.captions.iter().map(|(caption, weight)| (self.numbers[*caption], *weight)).collect();
            SourceEntry { class: self.numbers[entry.class], captions, ..entry }
        };
        Ok(self.source.entries()?.into_iter().map(numbered).collect())
    }

    fn several_captions(&self) -> bool {
        self.source.several_captions()
    }

    fn notices(&self) -> Vec<String> {
        self.source.notices()
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
        let numbered = |image: SourceImage| SourceImage { class: self.numbers[image.class], ..image };
        Ok(Box::new(self.source.samples(start)?.map(move |image| image.map(numbered))))
    }
}
