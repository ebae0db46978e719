//! Classes of generated images.

use mixflow_backbones::Invalid;
use serde::{Deserialize, Serialize};

use super::order::Permutation;
use crate::random::{Stream, rng, uniform};

/// How the classes of generated images were chosen. FID differs by some tenths between the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// Every class as often as among the real images.
    Reference,
    /// Every class equally often.
    Balanced,
    /// Drawn at random, every class equally likely.
    Random,
}

impl Labels {
    /// `count` classes; `images` are the numbers of real images of each class. Random ones are a function of the seed and
    /// the image's number, and of more classes than images some are chosen by the seed.
    pub fn draw(self, count: usize, images: &[u64], seed: u64) -> Vec<usize> {
        match self {
            Self::Reference => proportional(count, images, seed),
            Self::Balanced if count < images.len() => proportional(count, &vec![1; images.len()], seed),
            Self::Balanced => balanced_labels(count, images.len()),
            Self::Random => {
                let label = |image| (uniform(&mut rng(seed, Stream::Labels, image)) * images.len() as f64) as usize;
                (0..count as u64).map(label).collect()
            }
        }
    }

    /// In words: "classes as often as among the real images".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Reference => "classes as often as among the real images",
            Self::Balanced => "every class equally often",
            Self::Random => "classes drawn at random",
        }
    }
}

/// The number of a class as it is typed, of `classes` in all, which may have names: its name, its number, or its number
/// behind a `#`, where a name looks like the number of another class.
///
/// ```
/// let names = ["1", "10", "cat"].map(String::from);
/// assert_eq!(mixflow::data::class_number("cat", &names, 3), Ok(2));
/// assert_eq!(mixflow::data::class_number("2", &names, 3), Ok(2));
/// assert_eq!(mixflow::data::class_number("#1", &names, 3), Ok(1));
/// // The name of the first class and the number of the second.
/// assert!(mixflow::data::class_number("1", &names, 3).is_err());
/// ```
///
/// # Errors
/// With the text for a key.
pub fn class_number(text: &str, names: &[String], classes: usize) -> Result<usize, Invalid> {
    /// A thousand names are no help.
    const SHOWN: usize = 40;
    let number = |text: &str| text.parse().ok().filter(|number| *number < classes);
    let out_of_range =
        |text: &str| Invalid::new(text, format!("is no class; their numbers are 0 to {}", classes.saturating_sub(1)));
    if let Some(text) = text.strip_prefix('#') {
        return number(text).ok_or_else(|| out_of_range(text));
    }
    match (names.iter().position(|name| name == text), number(text)) {
        (Some(named), Some(numbered)) if named != numbered => {
            let number = format!("the number of class `{}`", names[numbered]);
            let reason = format!("is the name of class #{named} and {number}: write #{named} or #{numbered}");
            Err(Invalid::new(format!("`{text}`"), reason))
        }
        (Some(class), _) | (None, Some(class)) => Ok(class),
        (None, None) if text.parse::<u128>().is_ok() => Err(out_of_range(text)),
        (None, None) => {
            let more = if names.len() > SHOWN { ", ..." } else { "" };
            let known = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Invalid::new(text, format!("is no class; there are {known}{more}")))
        }
    }
}

/// Labels in the shares of `images`, by largest remainders (Hamilton's method); classes take turns while they last. Which ones of
/// more classes than labels have the same share is drawn.
///
/// Equal numbers of images give [`balanced_labels`], of as many labels as classes or more.
fn proportional(count: usize, images: &[u64], seed: u64) -> Vec<usize> {
    let total: u128 = images.iter().map(|&images| u128::from(images)).sum();
    if total == 0 {
        return balanced_labels(count, images.len());
    }
    let shares: Vec<u128> = images.iter().map(|&images| u128::from(images) * count as u128).collect();
    let mut left: Vec<usize> = shares.iter().map(|share| (share / total) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..images.len()).collect();
    if count < images.iter().filter(|&&images| images > 0).count() {
        // Not the first ones, which are often of one kind.
        let places = Permutation::new(seed, Stream::Labels, 0, images.len() as u64);
        by_remainder.sort_by_key(|&class| places.apply(class as u64));
    }
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(shares[class] % total));
    let missing = count - left.iter().sum::<usize>();
    by_remainder[..missing].iter().for_each(|&class| left[class] += 1);

    let mut labels = Vec::with_capacity(count);
    while labels.len() < count {
        for (class, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
            *left -= 1;
            labels.push(class);
        }
    }
    labels
}

/// As many labels as wanted, every class equally often.
pub fn balanced_labels(count: usize, classes: usize) -> Vec<usize> {
    (0..count).map(|i| i % classes.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(labels: &[usize], classes: usize) -> Vec<usize> {
        (0..classes).map(|class| labels.iter().filter(|label| **label == class).count()).collect()
    }

    #[test]
    fn labels_have_the_shares_of_the_images() {
        for (count, images, expected) in [
            (10, vec![5, 3, 2], vec![5, 3, 2]),
            // Quotas 6.4, 2.4, 1.2: the largest remainder gets the one that is left, of equal ones the first.
            (10, vec![16, 6, 3], vec![7, 2, 1]),
            (10, vec![16, 0, 9], vec![6, 0, 4]),
            // Too rare for one of ten.
            (10, vec![990, 5, 5], vec![10, 0, 0]),
            (3, vec![u64::MAX, u64::MAX, u64::MAX], vec![1, 1, 1]),
        ] {
            let labels = Labels::Reference.draw(count, &images, 1);
            assert_eq!((labels.len(), counted(&labels, images.len())), (count, expected), "{images:?}");
        }
        // Classes take turns, so that the first rows of a grid show all of them.
        assert_eq!(Labels::Reference.draw(6, &[4, 2, 1], 1), [0, 1, 2, 0, 1, 0]);
    }

    #[test]
    fn of_more_classes_than_labels_some_are_drawn() {
        let found = Labels::Reference.draw(20, &[1; 1000], 1);
        let different: std::collections::BTreeSet<_> = found.iter().collect();
        // Of a thousand numbers below one the mean of twenty is within 0.26 of a half in 9,999 cases of 10,000.
        let mean = found.iter().sum::<usize>() as f64 / 20_000.0;
        assert!(different.len() == 20 && (mean - 0.5).abs() < 0.26, "{found:?}");
        assert_eq!(found, Labels::Reference.draw(20, &[1; 1000], 1));
        assert_ne!(found, Labels::Reference.draw(20, &[1; 1000], 2));
        assert_eq!(found, Labels::Balanced.draw(20, &[7; 1000], 1));
    }

    #[test]
    fn equal_shares_are_balanced() {
        for (count, classes) in [(4, 3), (250, 10), (9, 9), (0, 2)] {
            let found = Labels::Reference.draw(count, &vec![7; classes], 1);
            assert_eq!(found, Labels::Balanced.draw(count, &vec![1; classes], 1));
        }
        assert_eq!(Labels::Balanced.draw(4, &[9, 1, 1], 1), [0, 1, 2, 0]);
    }

    #[test]
    fn random_labels_reach_every_class_about_equally_often() {
        let classes = &[1; 6];
        let labels = Labels::Random.draw(6000, classes, 1);
        for (class, count) in counted(&labels, 6).into_iter().enumerate() {
            // Five standard deviations.
            assert!(count.abs_diff(1000) < 145, "{count} of class {class}");
        }
        assert_eq!(Labels::Random.draw(9, classes, 1), labels[..9]);
        assert_ne!(Labels::Random.draw(9, classes, 2), labels[..9]);
    }
}
