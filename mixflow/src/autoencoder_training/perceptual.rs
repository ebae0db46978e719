//! The second loss: images that look alike.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::Invalid;
use mixflow_backbones::lpips::{Lpips, WIDTHS};
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};

use super::rgb;
use crate::Error;
use crate::train::positive;

/// A perceptual loss, LPIPS, in the training of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualConfig {
    /// Files of the network: torchvision's `vgg16` and the heads of the package `lpips`, or one file with both.
    pub weights: Vec<PathBuf>,
    /// Its factor beside the mean absolute difference; RAE's is 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// The first step that has it.
    #[serde(default)]
    pub start: u64,
    /// Channels of the network in its five depths; only trials have others than the published ones.
    #[serde(default = "widths")]
    pub widths: [usize; 5],
}

fn one() -> f64 {
    1.0
}

fn widths() -> [usize; 5] {
    WIDTHS
}

impl PerceptualConfig {
    /// What is wrong with these values, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        positive("weight", self.weight)?;
        if self.widths.contains(&0) {
            return Err(Invalid::new("widths", format!("must be at least 1, found {:?}", self.widths)));
        }
        if self.weights.is_empty() {
            let reason = "must name the files of the network, torchvision's vgg16 and the heads of lpips";
            return Err(Invalid::new("weights", reason));
        }
        Ok(())
    }

    /// The loss with its network, read.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    pub fn load(&self, device: &Device) -> Result<Perceptual, Error> {
        let files = self.weights.iter().map(Weights::read).collect::<Result<Vec<_>, _>>()?;
        let network = Lpips::with_widths(self.widths, 0, device).load(files)?;
        Ok(Perceptual::new(network))
    }
}

/// A frozen perceptual network.
#[derive(Debug)]
pub struct Perceptual {
    network: Lpips,
}

impl Perceptual {
    /// The loss of a network, which is frozen.
    pub fn new(network: Lpips) -> Self {
        Self { network: network.valid().freeze().train() }
    }

    /// The mean distance of `found` from `images`, both in [-1, 1]: `[1]`. Grey images are seen as coloured ones.
    pub fn loss(&self, found: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
        self.network.forward(rgb(images), rgb(found)).mean()
    }
}
