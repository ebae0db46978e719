//! Recipes whose images have several sizes in training: whether network, autoencoder and measures take them.

use mixflow_backbones::Invalid;

use super::{AutoencoderConfig, NetworkSettings, Recipe, Sides};
use crate::Error;
use crate::data::Dataset;

impl<N: NetworkSettings> Recipe<N> {
    /// What keeps its network from learning images of several sizes, if it is to learn such.
    pub(super) fn check_buckets(&self) -> Result<(), Invalid> {
        let Some(buckets) = self.data.buckets() else { return Ok(()) };
        let fault = |key: &str, reason: String| Err(Invalid::new(key, reason));
        let [_, height, width] = self.network.shape();
        let Some(Sides { step, .. }) = self.network.sides() else {
            let reason = format!(
                "are for networks that take any rectangle, and a {} has places for {height} x {width} alone: leave them out",
                self.network.name()
            );
            return fault("data.buckets", reason);
        };
        let step = match self.encoding() {
            None => step,
            Some(autoencoder @ AutoencoderConfig::Kl { .. }) => autoencoder.image_shape([1, step, step])[1],
            Some(_) => {
                return fault("data.buckets", "are for autoencoders of the kind `kl`, which take any rectangle".into());
            }
        };
        if !buckets.step.is_multiple_of(step) {
            let reason = format!(
                "must be a multiple of {step} pixels, by which network and autoencoder divide sides, found {}",
                buckets.step
            );
            return fault("data.buckets.step", reason);
        }
        let pixels = self.encoding().map_or(height, |autoencoder| autoencoder.image_shape([1, height, width])[1]);
        let other = |size: &&usize| self.objective.timesteps.check_latents([height * **size / pixels; 2]).is_err();
        if let Some(size) = buckets.sizes.iter().find(other) {
            let reason =
                format!("shifts times for a number of tokens that images of {size} pixels do not have: give a factor");
            return fault("objective.timesteps", reason);
        }
        let slow_flow = self.post_training.as_ref().is_some_and(|post| post.slow_flow);
        if slow_flow && self.encoding().is_some() {
            let reason = "compares latents of one size, and data.buckets has several: set it to false";
            return fault("post_training.slow_flow", reason.into());
        }
        Ok(())
    }

    /// Whether the network has places for all sizes of the data.
    pub(super) fn check_sides(&self, data: &dyn Dataset) -> Result<(), Error> {
        let [_, side, _] = self.network.shape();
        let Some(Sides { step, most, key }) = self.network.sides() else {
            if data.buckets().is_empty() {
                return Ok(());
            }
            let reason = format!(
                "the data are of several sizes, and a {} has places for {side} x {side} alone: encode squares, without \
                 --buckets",
                self.network.name()
            );
            return Err(Error::unfit(&self.name, reason));
        };
        // Pixels for one number of the network.
        let factor = data.shape()[1] / side;
        let mut sides = data.buckets().iter().flat_map(|[_, height, width]| [*height, *width]);
        if let Some(side) = sides.find(|side| !side.is_multiple_of(factor * step)) {
            let reason = format!(
                "the network takes sides that are multiples of {}, the data have {side}: encode with another --buckets",
                factor * step
            );
            return Err(Error::unfit(&self.name, reason));
        }
        let longest = data.buckets().iter().flat_map(|[_, height, width]| [*height, *width]).max();
        match longest.filter(|longest| *longest > most * factor) {
            None => Ok(()),
            Some(longest) => Err(Error::unfit(
                &self.name,
                format!(
                    "the network has places for {} numbers along a side, the data have {longest}: set {key}={}, or leave \
                     out the longest images",
                    most * factor,
                    longest / (factor * step)
                ),
            )),
        }
    }
}
