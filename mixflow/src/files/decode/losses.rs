//! What of image files is not in their pixels.

use std::collections::BTreeMap;
use std::ops::{BitOr, BitOrAssign};

/// What was lost on the way from a file to the pixels of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses(u8);

impl Losses {
    /// Frames after the first.
    pub(crate) const FRAMES: Self = Self(1);
    /// An alpha channel, somewhere not opaque.
    pub(crate) const ALPHA: Self = Self(2);
    /// More than 8 bits a channel.
    pub(crate) const DEPTH: Self = Self(4);
    /// A colour profile or gamma that is not that of sRGB.
    pub(crate) const PROFILE: Self = Self(8);
    /// Not a loss but the lack of something: the image was enlarged.
    pub(crate) const ENLARGED: Self = Self(16);

    /// Nothing of it is left by its mask.
    pub(crate) const MASKED: Self = Self(32);
    /// An alpha channel was asked for as a mask, and there is nothing transparent.
    pub(crate) const OPAQUE: Self = Self(64);

    /// These, if so.
    pub(crate) fn when(self, so: bool) -> Self {
        if so { self } else { Self::default() }
    }
}

impl BitOr for Losses {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Losses {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Each loss, and what to tell of it.
const WORDS: [(Losses, &str); 7] = [
    (Losses::FRAMES, "animated: the first frame is used"),
    (Losses::ALPHA, "partly transparent: alpha is dropped, and the colour stored there shows"),
    (Losses::DEPTH, "of 16 bits a channel: they are rounded to 8"),
    (Losses::PROFILE, "not in sRGB: colour profile or gamma is not applied"),
    (Losses::ENLARGED, "smaller than the size asked for: they are enlarged"),
    (Losses::MASKED, "masked as a whole: nothing is learned there"),
    (Losses::OPAQUE, "without transparency, which was to be the mask: all of it counts"),
];

/// Which images of a collection lost what, each counted once however often it is read.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<u64, Losses>);

impl Tally {
    /// Counts what an image lost.
    pub(crate) fn add(&mut self, image: u64, losses: Losses) {
        if losses != Losses::default() {
            *self.0.entry(image).or_default() |= losses;
        }
    }

    /// A line for each loss that there was, with the first image that `name` gives a name.
    pub(crate) fn lines(&self, name: impl Fn(u64) -> String) -> Vec<String> {
        let line = |(loss, words): (Losses, &str)| {
            let mut images = self.0.iter().filter(|(_, losses)| losses.0 & loss.0 != 0).map(|(image, _)| *image);
            let first = name(images.next()?);
            Some(match 1 + images.count() {
                1 => format!("1 image is {words}: {first}"),
                count => format!("{count} images are {words}; the first is {first}"),
            })
        };
        WORDS.into_iter().filter_map(line).collect()
    }
}
