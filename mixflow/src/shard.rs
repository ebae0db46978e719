//! Work that several processes share by position.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use mixflow_backbones::Invalid;

/// One of equal parts of some work, such as `3/16`, the third of sixteen: each process takes one, and none needs another.
///
/// ```
/// let shard: mixflow::Shard = "3/16".parse()?;
/// // 50,000 images in batches of 100: whole batches, as even as they can be.
/// assert_eq!(shard.of_batches(50_000, 100), 6_200..9_300);
/// assert!("17/16".parse::<mixflow::Shard>().is_err());
/// # Ok::<(), mixflow::backbones::Invalid>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// More would be more files than a folder should have.
    const MOST: usize = 10_000;

    /// Number `number` of `of`, the first one being 1.
    ///
    /// # Errors
    /// If there is none of this number, or more than 10,000 in all.
    pub fn new(number: usize, of: usize) -> Result<Self, Invalid> {
        if !(1..=of).contains(&number) || of > Self::MOST {
            let most = Self::MOST;
            let reason = format!("must be a part and their number, from 1/1 to {most}/{most}, found {number}/{of}");
            return Err(Invalid::new("shard", reason));
        }
        Ok(Self { number, of })
    }

    /// Which one, from 1 on.
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are in all.
    pub fn of(self) -> usize {
        self.of
    }

    /// All parts of so many.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn all(of: usize) -> Result<Vec<Self>, Invalid> {
        (1..=of.max(1)).map(|number| Self::new(number, of)).collect()
    }

    /// Which of `count` pieces of work are its own, in batches of `batch` that are not divided; none if there are fewer batches
    /// than parts.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn of_batches(self, count: u64, batch: u64) -> Range<u64> {
        let batches = count.div_ceil(batch);
        let start = |number: usize| (batches as u128 * number as u128 / self.of as u128) as u64 * batch;
        start(self.number - 1)..start(self.number).min(count)
    }

    /// The name of its file or folder, such as `part-00003-of-00016`.
    pub fn name(self) -> String {
        format!("part-{:05}-of-{:05}", self.number, self.of)
    }

    /// The part of such a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (number, of) = name.strip_prefix("part-")?.split_once("-of-")?;
        Self::new(number.parse().ok()?, of.parse().ok()?).ok().filter(|shard| shard.name() == name)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) = numbers
            .ok_or_else(|| Invalid::new("shard", format!("must be a part and their number, as 3/16, found {text}")))?;
        Self::new(number, of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_everything_once(count in 0u64..5000, batch in 1u64..300, of in 1usize..40) {
            let parts: Vec<_> = Shard::all(of).unwrap().into_iter().map(|shard| shard.of_batches(count, batch)).collect();
            let mut next = 0;
            for part in &parts {
                prop_assert_eq!(part.start.min(count), next);
                prop_assert!(part.start % batch == 0 || part.is_empty());
                next = part.end.max(next);
            }
            prop_assert_eq!(next, count);
            let batches = |part: &Range<u64>| part.end.saturating_sub(part.start).div_ceil(batch);
            let sizes: Vec<_> = parts.iter().map(batches).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        }
    }

    #[test]
    fn a_part_is_written_as_two_numbers() {
        let shard = Shard::new(3, 16).unwrap();
        assert_eq!(("3/16".parse(), shard.to_string().as_str()), (Ok(shard), "3/16"));
        assert_eq!((Shard::named(&shard.name()), Shard::named("part-3-of-16")), (Some(shard), None));
        for text in ["", "3", "3/", "/3", "0/3", "4/3", "3 of 4", "1/10001", "-1/3"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("a part and their number"), "{text}: {error}");
        }
    }
}
