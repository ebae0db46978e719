//! Normalisation that a condition modulates, of either published kind.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::init::Initializer;
use crate::ops::{self, Recomputed};

const EPSILON: f64 = 1e-6;

/// Which normalisation a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Root mean square with a learned weight.
    #[default]
    Rms,
    /// Layer normalisation; without learned parameters where a condition modulates, with them on queries and keys.
    Layer,
}

/// Normalisation, then a shift and a scale that the condition gives.
#[derive(Module, Debug)]
pub struct ModulatedNorm {
    /// `[width]`, of the root mean square kind.
    pub weight: Option<Param<Tensor<1>>>,
}

impl ModulatedNorm {
    /// Weights of one.
    pub fn new(width: usize, kind: NormKind, init: &Initializer) -> Self {
        Self { weight: (kind == NormKind::Rms).then(|| init.ones([width])) }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - shift, scale: `[batch, width]`
    pub fn forward(&self, x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>) -> Recomputed {
        let [shift, scale] = [shift, scale].map(|of_all_tokens| of_all_tokens.unsqueeze_dim(1));
        match &self.weight {
            Some(weight) => {
                Recomputed::new([x, weight.val().unsqueeze(), shift, scale], |[x, weight, shift, scale]| {
                    let weight = weight.flatten(0, 2);
                    ops::modulated_rms_norm(x, weight, shift.squeeze_dim(1), scale.squeeze_dim(1), EPSILON)
                })
            }
            None => Recomputed::new([x, shift, scale], |[x, shift, scale]| {
                ops::modulated_layer_norm(x, shift.squeeze_dim(1), scale.squeeze_dim(1), EPSILON)
            }),
        }
    }
}
