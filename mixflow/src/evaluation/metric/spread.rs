use serde::{Deserialize, Serialize};

/// A score computed on several parts of the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over the parts.
    pub mean: f64,
    /// Population standard deviation over the parts (dividing by their number), as torch-fidelity prints it.
    pub deviation: f64,
    /// One score for each part, in order.
    pub parts: Vec<f64>,
}

impl Spread {
    pub(super) fn of(parts: Vec<f64>) -> Self {
        let count = parts.len() as f64;
        let mean = parts.iter().sum::<f64>() / count;
        let variance = parts.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / count;
        Self { mean, deviation: variance.sqrt(), parts }
    }

    /// The deviation, where there is more than one part to deviate.
    pub fn known_deviation(&self) -> Option<f64> {
        (self.parts.len() > 1).then_some(self.deviation)
    }
}
