//! A program without text.

use std::process::ExitCode;

use mixflow::Device;
use mixflow::backbones::Precision;
use mixflow::selftest::Selftest;

use super::{Request, without};
use crate::run::Result;

/// Names of the recipes of networks for text, which are told with what they need.
pub(crate) fn recipe_names() -> impl Iterator<Item = &'static str> {
    ["words", "sd3.5-medium-mixflow"].into_iter()
}

pub(crate) fn bench(_: bool, _: usize, _: usize, _: Precision, _: &Device) -> Result<(Vec<f64>, u64)> {
    Err("sd3.5-medium is a network for text, and this program was built without: build it with the feature `t2i`"
        .into())
}

/// There is nothing to compare.
pub(crate) fn selftest(_: &mut Selftest<'_>) {}

pub(crate) fn sample(_: &Request<'_>) -> Result<ExitCode> {
    Err(without("--prompt is for text to image"))
}
