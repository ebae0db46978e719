//! What fits the memory of a card.

use std::fmt;

use mixflow_backbones::Precision;
use serde::Serialize;

use crate::numbers::counted;

/// A way to train, and how much of a batch fits the memory of a device in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// `training.precision`.
    pub precision: Precision,
    /// `training.recompute`.
    pub recompute: bool,
    /// Most images that a device learns at a time, as a whole batch.
    pub images: u64,
    /// Fewest parts of a batch, `training.accumulation`, that are no larger; none where no number of equal parts is.
    pub accumulation: Option<usize>,
}

impl Fit {
    /// Of batches that so many devices share, where a device has memory for `images` of so many parts of a batch.
    pub(super) fn new(
        (precision, recompute): (Precision, bool),
        [batch, devices]: [usize; 2],
        images: impl Fn(usize) -> u64,
    ) -> Self {
        let fits = |&parts: &usize| {
            batch.is_multiple_of(parts * devices) && (batch / (parts * devices)) as u64 <= images(parts)
        };
        let accumulation = (1..=batch / devices.max(1)).find(fits);
        Self { precision, recompute, images: images(1), accumulation }
    }
}

/// `bf16, training.recompute=true: 1,200 images at a time, whole batches`.
impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { precision, recompute, images, accumulation } = self;
        let again = if *recompute { ", training.recompute=true" } else { "" };
        let way = format!("{precision}{again}");
        let parts = match accumulation {
            Some(1) => "whole batches".to_owned(),
            Some(parts) => format!("training.accumulation={parts}"),
            None => "not with any accumulation".to_owned(),
        };
        write!(f, "{way:<30}{:>14} at a time, {parts}", counted(*images, "image"))
    }
}
