//! The original diffusion transformer.

pub use crate::keys::official_key;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::sit::Sit;
use crate::weights::Weights;
use crate::{Backbone, ClassLabels, Error, Precision};

/// Steps that the published networks were trained on, 0 (data) to 999 (noise).
const STEPS: f64 = 1000.0;

/// DiT: the transformer that [`Sit`] took over, which predicts noise and, if it learns sigma, the variance of a step back.
/// Its shape is a [`SitConfig`](crate::sit::SitConfig), its initial values are SiT's.
///
/// The time is a step divided by 1000: 0 at the data, 0.999 at the noise. Times between the steps are taken too.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use mixflow_backbones::dit::Dit;
/// use mixflow_backbones::sit::SitConfig;
/// use mixflow_backbones::{Backbone, ClassLabels};
///
/// let device = Device::default();
/// let config = SitConfig { input_size: 4, width: 16, depth: 1, heads: 2, hidden: 32, classes: 3, ..SitConfig::small(2) };
/// let network = Dit::from(config.init(0, &device));
/// let (x, step_500) = (Tensor::zeros([1, 4, 4, 4], &device), Tensor::from_data([0.5f32], &device));
/// let noise = network.forward(x, step_500, ClassLabels::new(&[2], 3, &device));
/// assert_eq!(noise.dims(), [1, 4, 4, 4]);
/// ```
///
/// # Source
/// Peebles and Xie 2023 (arXiv 2212.09748); `facebookresearch/DiT` at ed81ce2, `models.py`.
#[derive(Module, Debug)]
pub struct Dit {
    /// The transformer.
    pub sit: Sit,
}

impl From<Sit> for Dit {
    fn from(sit: Sit) -> Self {
        Self { sit }
    }
}

impl Dit {
    /// This network with the weights of a published checkpoint: see [`Sit::load`], whose names they have.
    ///
    /// # Errors
    /// As [`Sit::load`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        self.sit.load(weights).map(Self::from)
    }
}

impl Backbone for Dit {
    type Condition = ClassLabels;

    /// The noise alone.
    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        self.forward_with_variance(x, time, condition).0
    }

    /// The noise, and of a network that learns sigma the fraction of a step's variance, which it says as `2 · fraction − 1`.
    fn forward_with_variance(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        condition: ClassLabels,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        let [_, channels, ..] = x.dims();
        let outputs = self.sit.outputs(x, time * STEPS, condition);
        let learns = outputs.dims()[1] > channels;
        let fraction = learns.then(|| (outputs.clone().narrow(1, channels, channels) + 1.0) / 2.0);
        (outputs.narrow(1, 0, channels), fraction)
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        self.sit.recomputing().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::NetworkConfig;
    use crate::sit::SitConfig;

    #[test]
    fn a_recipe_names_it() {
        let config = NetworkConfig::Dit(SitConfig::extra_large(2));
        assert_eq!((config.name(), config.parameters()), ("DiT", 675_129_632));
        let json = serde_json::to_string(&config).expect("plain values");
        assert!(json.starts_with(r#"{"kind":"dit","input_size":32,"patch":2"#), "{json}");
        assert_eq!(serde_json::from_str::<NetworkConfig>(&json).expect("as written"), config);
        let unknown = json.replace("heads", "head");
        let refusal = serde_json::from_str::<NetworkConfig>(&unknown).expect_err("no such key").to_string();
        assert!(refusal.contains("unknown field `head`"), "{refusal}");
    }
}
