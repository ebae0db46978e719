//! A discriminator on the features of a frozen vision transformer, against which decoders are trained.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use mixflow_backbones::discriminator::DiscriminatorConfig;
//!
//! let config = DiscriminatorConfig { width: 16, depth: 2, heads: 2, hidden: 32, taps: vec![0], ..Default::default() };
//! let device = Device::default();
//! let (features, heads) = (config.features(0, &device), config.heads(1, &device));
//! let logits = heads.forward(features.forward(Tensor::zeros([1, 3, 32, 32], &device)));
//! assert_eq!(logits.dims(), [1, 2 * 28 * 28]);
//! ```

mod config;
mod features;
mod head;
mod spectral;

pub use config::DiscriminatorConfig;
pub use features::Dino;
pub use head::{Head, Layer, TokenNorm};
pub use spectral::SpectralConv;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::init::Initializer;
use crate::sizes::demand;
use crate::weights::Weights;

/// What of the discriminator is trained: one small convolutional head on each depth of the features.
///
/// # Source
/// Sauer et al. 2023 (arXiv 2301.09515), section 4.2; RAE `src/disc/dinodisc.py` at a4d18c4, `DinoDisc`.
#[derive(Module, Debug)]
pub struct Heads {
    /// Of the last block, then of each tapped one in order.
    pub heads: Vec<Head>,
}

impl DiscriminatorConfig {
    /// The trained part with the initial values of the published code, which depend on `seed` alone: PyTorch's own laws.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn heads(&self, seed: u64, device: &Device) -> Heads {
        demand(self.check());
        let init = Initializer::new(seed, device);
        Heads { heads: (0..=self.taps.len()).map(|_| Head::new(self.width, self.kernel, &init)).collect() }
    }
}

impl Heads {
    /// How real every patch looks in every depth: the larger, the more.
    ///
    /// # Shapes
    /// - features: as [`Dino::forward`] gives them
    /// - output: `[batch, heads * tokens]`
    ///
    /// # Panics
    /// If there are not as many features as heads.
    pub fn forward(&self, features: Vec<Tensor<3>>) -> Tensor<2> {
        assert_eq!(features.len(), self.heads.len(), "one head for each depth of the features");
        let logits = self.heads.iter().zip(features).map(|(head, tokens)| head.forward(tokens)).collect();
        Tensor::cat(logits, 1)
    }

    /// The same heads after one more step towards the largest singular value of every kernel: taken before each forward
    /// pass in training, and never in evaluation.
    #[must_use]
    pub fn power_iteration(mut self) -> Self {
        self.heads = self.heads.into_iter().map(Head::power_iteration).collect();
        self
    }

    /// These heads with the weights of RAE's checkpoints.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        weights.network(&["heads.0.0.0.weight_orig"])?.into_module(self, Self::official_key)
    }

    /// Its weights under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, Self::official_key)
    }

    /// The official name of the parameter at `path`.
    ///
    /// ```
    /// use mixflow_backbones::discriminator::Heads;
    ///
    /// assert_eq!(Heads::official_key("heads.3.first.conv.weight"), "heads.3.0.0.weight_orig");
    /// assert_eq!(Heads::official_key("heads.0.second.norm.bias"), "heads.0.1.fn.1.bias");
    /// assert_eq!(Heads::official_key("heads.0.last.u"), "heads.0.2.weight_u");
    /// ```
    pub fn official_key(path: &str) -> String {
        let path = path.replace(".first.", ".0.").replace(".second.", ".1.fn.").replace(".last.", ".2.");
        if path.contains(".norm.") {
            return path.replace(".norm.", ".1.");
        }
        let path = path.replace(".conv.", ".0.");
        match path.rsplit_once('.') {
            Some((layer, "weight")) => format!("{layer}.weight_orig"),
            Some((layer, vector @ ("u" | "v"))) => format!("{layer}.weight_{vector}"),
            _ => path,
        }
    }
}
