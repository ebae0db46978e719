//! Conditions that are left out in training.

use burn::tensor::{Bool, Device, Tensor};
use mixflow_backbones::Condition;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::random::{self, Stream};

/// Probabilities that what one of several encoders says of an example is replaced by what stands for none, each in [0, 1], in
/// the order of the [parts](Condition::mask_part) of a condition; none drops nothing.
///
/// Each is dropped by itself, and beside the condition as a whole.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), appendix B.3: 46.4 % for each of three, so that one in ten examples is without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct EncoderDropout([Option<f64>; Self::MOST]);

impl EncoderDropout {
    /// The most encoders.
    pub const MOST: usize = 4;

    /// These probabilities.
    ///
    /// # Panics
    /// If there are more than [`MOST`](Self::MOST), or one is not in [0, 1].
    pub fn new(probabilities: &[f64]) -> Self {
        probabilities.to_vec().try_into().unwrap_or_else(|reason: String| panic!("{reason}"))
    }

    /// How many there are.
    pub fn encoders(&self) -> usize {
        self.probabilities().count()
    }

    fn probabilities(&self) -> impl Iterator<Item = f64> {
        self.0.into_iter().flatten()
    }

    /// Conditions of training positions, of which each part is replaced with its probability.
    pub(super) fn drop<C: Condition>(&self, condition: C, positions: &[u64], seed: u64, device: &Device) -> C {
        let count = self.encoders();
        let draws = positions.iter().map(|&position| {
            let mut rng = random::rng(seed, Stream::EncoderDropout, position);
            (0..count).map(|_| random::uniform(&mut rng as &mut dyn Rng)).collect::<Vec<_>>()
        });
        let draws: Vec<_> = draws.collect();
        self.probabilities().enumerate().filter(|(_, probability)| *probability > 0.0).fold(
            condition,
            |condition, (part, probability)| {
                let dropped: Vec<bool> = draws.iter().map(|draws| draws[part] < probability).collect();
                condition.mask_part(part, Tensor::from_data(dropped.as_slice(), device))
            },
        )
    }
}

impl TryFrom<Vec<f64>> for EncoderDropout {
    type Error = String;

    fn try_from(probabilities: Vec<f64>) -> Result<Self, String> {
        if probabilities.len() > Self::MOST {
            return Err(format!("at most {} encoders are known, found {}", Self::MOST, probabilities.len()));
        }
        if let Some(found) = probabilities.iter().find(|probability| !(0.0..=1.0).contains(*probability)) {
            return Err(format!("a probability must be in [0, 1], found {found}"));
        }
        let mut all = [None; Self::MOST];
        all.iter_mut().zip(probabilities).for_each(|(place, probability)| *place = Some(probability));
        Ok(Self(all))
    }
}

impl From<EncoderDropout> for Vec<f64> {
    fn from(dropout: EncoderDropout) -> Self {
        dropout.probabilities().collect()
    }
}

/// Conditions of training positions, each replaced by the null condition with this probability.
pub(super) fn drop_conditions<C: Condition>(
    condition: C,
    probability: f64,
    positions: impl Iterator<Item = u64>,
    seed: u64,
    device: &Device,
) -> C {
    if probability <= 0.0 {
        return condition;
    }
    let dropped =
        positions.map(|position| random::uniform(&mut random::rng(seed, Stream::Dropout, position)) < probability);
    condition.mask(Tensor::<1, Bool>::from_data(dropped.collect::<Vec<_>>().as_slice(), device))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Int;

    use super::*;

    /// Two numbers a row, each by an encoder of its own; zero stands for none.
    #[derive(Clone, Debug)]
    struct Two([Tensor<1>; 2]);

    impl Condition for Two {
        fn mask(self, mask: Tensor<1, Bool>) -> Self {
            Self(self.0.map(|part| part.mask_fill(mask.clone(), 0.0)))
        }
        fn mask_part(mut self, part: usize, mask: Tensor<1, Bool>) -> Self {
            self.0[part] = self.0[part].clone().mask_fill(mask, 0.0);
            self
        }
        fn null(self) -> Self {
            Self(self.0.map(|part| part.zeros_like()))
        }
        fn select(self, rows: Tensor<1, Int>) -> Self {
            Self(self.0.map(|part| part.select(0, rows.clone())))
        }
        fn on(self, device: &Device) -> Self {
            Self(self.0.map(|part| part.to_device(device)))
        }
    }

    /// What is left of each encoder at these positions.
    fn left(dropout: &[f64], positions: std::ops::Range<u64>, seed: u64) -> Vec<[bool; 2]> {
        let (device, positions) = (Device::default(), positions.collect::<Vec<_>>());
        let told = Two([(); 2].map(|()| Tensor::ones([positions.len()], &device)));
        let Two([one, other]) = EncoderDropout::new(dropout).drop(told, &positions, seed, &device);
        let [one, other] = [one, other].map(|part| part.into_data().iter::<f32>().collect::<Vec<_>>());
        one.into_iter().zip(other).map(|(one, other)| [one == 1.0, other == 1.0]).collect()
    }

    #[test]
    fn encoders_are_dropped_each_by_itself() {
        let (count, dropout) = (4000, [0.464, 0.25]);
        let all = left(&dropout, 0..count, 3);
        let share = |dropped: [bool; 2]| {
            let found = all.iter().filter(|left| **left == dropped.map(|dropped| !dropped)).count() as f64;
            let both = dropped.iter().zip(dropout).map(|(dropped, p)| if *dropped { p } else { 1.0 - p });
            let expected = both.product::<f64>();
            // Five standard deviations.
            let limit = 5.0 * (expected * (1.0 - expected) / count as f64).sqrt();
            assert!((found / count as f64 - expected).abs() < limit, "{dropped:?}: {found}, expected {expected}");
        };
        [[false, false], [false, true], [true, false], [true, true]].into_iter().for_each(share);
        // A function of seed and position alone.
        assert_eq!([left(&dropout, 0..17, 3), left(&dropout, 17..count, 3)].concat(), all);
        assert_ne!(left(&dropout, 0..count, 4), all);
        assert!(left(&[0.0, 1.0], 0..50, 0).iter().all(|left| *left == [true, false]));
        // What one is dropped by does not depend on the other.
        let alone = left(&[0.464, 0.0], 0..count, 3);
        assert!(alone.iter().zip(&all).all(|(alone, both)| alone[0] == both[0]));
        assert_eq!(left(&[], 0..5, 0), [[true, true]; 5]);
    }

    #[test]
    fn probabilities_are_checked() {
        let read = |text: &str| serde_json::from_str::<EncoderDropout>(text).map_err(|error| error.to_string());
        assert_eq!(read("[0.5, 0]"), Ok(EncoderDropout::new(&[0.5, 0.0])));
        assert_eq!(serde_json::to_string(&EncoderDropout::new(&[0.5, 0.0])).unwrap(), "[0.5,0.0]");
        assert!(read("[0.5, 1.5]").unwrap_err().contains("a probability must be in [0, 1], found 1.5"));
        assert!(read("[0, 0, 0, 0, 0]").unwrap_err().contains("at most 4 encoders are known, found 5"));
    }
}
