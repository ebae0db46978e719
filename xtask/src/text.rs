//! What a program with text does, and one without.

#[cfg(feature = "t2i")]
mod built;
#[cfg(not(feature = "t2i"))]
mod missing;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::ValueParser;
use mixflow::Device;

#[cfg(feature = "t2i")]
pub(crate) use self::built::{bench, recipe_names, sample, selftest};
#[cfg(not(feature = "t2i"))]
pub(crate) use self::missing::{bench, recipe_names, sample, selftest};
use crate::run::Result;

/// What a program without text says of what is for one.
pub(crate) fn without(what: &str) -> Box<dyn std::error::Error> {
    let command = std::env::args().nth(1).unwrap_or_default();
    format!("{what}, and this program was built without; run `cargo xtask-t2i {command} ...`").into()
}

/// What to draw, and how large.
#[derive(Args)]
pub(crate) struct Prompts {
    /// What to draw, with a network for text; may be given more than once
    #[arg(long = "prompt", value_name = "TEXT")]
    pub(crate) prompts: Vec<String>,
    /// What not to draw, where there is guidance
    #[arg(long, value_name = "TEXT", requires = "prompts")]
    pub(crate) negative: Option<String>,
    /// Height and width in pixels, as 768 for both or as 768x1024 [default: the network's own]
    #[arg(long, value_parser = ValueParser::new(size), requires = "prompts")]
    pub(crate) size: Option<[usize; 2]>,
    /// Published settings of the sampler [default: diffusers, or a run's own]
    #[arg(long, requires = "prompts")]
    pub(crate) preset: Option<Preset>,
}

/// Published settings of Stable Diffusion 3.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Preset {
    Diffusers,
    #[value(name = "sd3.5-medium")]
    Medium,
    #[value(name = "sd3.5-medium-skip-layers")]
    MediumSkipLayers,
    #[value(name = "sd3.5-large")]
    Large,
    #[value(name = "sd3.5-large-turbo")]
    LargeTurbo,
}

/// Height and width.
fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height), Ok(width)) => Ok([height, width]),
        _ => Err("expected a number of pixels, or two such as 768x1024".into()),
    }
}

/// What `sample` was asked for, where it was asked for images of prompts.
#[cfg_attr(not(feature = "t2i"), expect(dead_code, reason = "a program without text reads no request"))]
pub(crate) struct Request<'a> {
    /// A folder, a file of weights or an address of the Hub.
    pub(crate) path: &'a Path,
    /// The weights in the folder of a run.
    pub(crate) weights: &'a dyn Fn() -> Result<PathBuf>,
    pub(crate) prompts: &'a Prompts,
    pub(crate) count: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) guidance: Option<f64>,
    pub(crate) seed: Option<u64>,
    pub(crate) out: &'a Path,
    pub(crate) device: &'a Device,
}
