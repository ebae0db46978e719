//! What a network predicts, and how to read one prediction as another.

use serde::{Deserialize, Serialize};

use crate::Coefficients;

/// What a network outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// `v = α̇ x + σ̇ ε`, per unit of the network's own time.
    #[default]
    Velocity,
    /// `ε`.
    Noise,
    /// `x`.
    Data,
    /// `∇ log p_t(x_t) = −ε/σ`.
    Score,
}

/// The map `output ↦ x · x_t + y · output`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor of the noised input `x_t`.
    pub x: f64,
    /// Factor of the network's output.
    pub y: f64,
}

impl Affine {
    /// The map applied to one element of the input and of the output.
    pub fn apply(&self, x_t: f64, output: f64) -> f64 {
        self.x * x_t + self.y * output
    }
}

impl Prediction {
    /// Coordinates `[a, b]` of the quantity `a x + b ε` in the (data, noise) basis: also the training target.
    ///
    /// The score's are infinite at `σ = 0`.
    pub fn coordinates(self, at: &Coefficients) -> [f64; 2] {
        let ([data, noise], scale) = self.direction(at);
        [data * scale, noise * scale]
    }

    /// How to read a prediction of `self` as one of `to`.
    ///
    /// With `x_t = (α, σ)` and the predictions as rows `p`, `q` over (data, noise),
    /// `q = ((q₀p₁ − q₁p₀) x_t + (α q₁ − σ q₀) p) / (α p₁ − σ p₀)`.
    ///
    /// # Ends of the path
    /// Infinite or NaN where the input and the prediction determine nothing more than each other: from noise or score at
    /// `α = 0` (`t = 0`), from data at `σ = 0` (`t = 1`), and *to* the score at `σ = 0`. A velocity determines all but
    /// the score at both ends. [`interval`](crate::interval) says how far to keep away.
    pub fn convert(self, to: Self, at: &Coefficients) -> Affine {
        self.convert_between(at, to, at)
    }

    /// As [`convert`](Self::convert), for another network that counts the time of the same path in another way, such as
    /// backwards: `at` and `to_at` are one point of the path, with equal `α` and `σ`.
    pub fn convert_between(self, at: &Coefficients, to: Self, to_at: &Coefficients) -> Affine {
        self.convert_clipped(at, to, to_at, 0.0)
    }

    /// As [`convert_between`](Self::convert_between), where a prediction of data is divided by `σ` or by `floor`, whichever is
    /// larger: its velocity stays finite at `σ = 0`, and is smaller than the exact one near it.
    ///
    /// # Source
    /// Li and He 2025 (arXiv 2511.13720), appendix A: `1 − t` is clipped at 0.05 for `t → 1`.
    pub fn convert_clipped(self, at: &Coefficients, to: Self, to_at: &Coefficients, floor: f64) -> Affine {
        let rates = |at: &Coefficients| [at.d_alpha, at.d_sigma];
        if self == to && (self != Self::Velocity || rates(at) == rates(to_at)) {
            return Affine { x: 0.0, y: 1.0 };
        }
        let ([p_data, p_noise], p_scale) = self.direction(at);
        let ([q_data, q_noise], q_scale) = to.direction(to_at);
        let sigma = if self == Self::Data { at.sigma.max(floor) } else { at.sigma };
        let determinant = at.alpha * p_noise - sigma * p_data;
        Affine {
            x: q_scale * (q_data * p_noise - q_noise * p_data) / determinant,
            y: q_scale * (at.alpha * q_noise - at.sigma * q_data) / determinant / p_scale,
        }
    }

    /// Coordinates up to a factor, and that factor: keeps what is finite finite where the score is not.
    fn direction(self, at: &Coefficients) -> ([f64; 2], f64) {
        match self {
            Self::Velocity => ([at.d_alpha, at.d_sigma], 1.0),
            Self::Noise => ([0.0, 1.0], 1.0),
            Self::Data => ([1.0, 0.0], 1.0),
            Self::Score => ([0.0, 1.0], -1.0 / at.sigma),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cosine, Linear, Reversed, Scaled, Schedule, schedule::tests::all};

    const ALL: [Prediction; 4] = [Prediction::Velocity, Prediction::Noise, Prediction::Data, Prediction::Score];

    fn value(prediction: Prediction, at: &Coefficients, data: f64, noise: f64) -> f64 {
        let [a, b] = prediction.coordinates(at);
        a * data + b * noise
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        /// Each conversion is exact on true values, and there and back is the identity. The relative error allowed is 1e-9:
        /// determinants fall to 1e-3 on this interval.
        #[test]
        fn sixteen_conversions_agree_and_return(t in 0.02..0.98_f64, data in -3.0..3.0_f64, noise in -3.0..3.0_f64) {
            for schedule in all() {
                let at = schedule.at(t);
                let x_t = at.alpha * data + at.sigma * noise;
                for from in ALL {
                    for to in ALL {
                        let (p, q) = (value(from, &at, data, noise), value(to, &at, data, noise));
                        let there = from.convert(to, &at).apply(x_t, p);
                        prop_assert!((there - q).abs() <= 1e-9 * (1.0 + q.abs()), "{schedule:?} {from:?} {to:?}");
                        let back = to.convert(from, &at).apply(x_t, there);
                        prop_assert!((back - p).abs() <= 1e-9 * (1.0 + p.abs()), "{schedule:?} {from:?} {to:?}");
                    }
                }
            }
        }
    }

    /// Against the true values of the other network, and exactly `−1` for velocities.
    #[test]
    fn predictions_are_read_in_the_other_direction_of_time() {
        let (data, noise) = (0.3, -1.7);
        for schedule in all() {
            let (at, back) = (schedule.at(0.4), Reversed(&schedule).at(0.4));
            let x_t = at.alpha * data + at.sigma * noise;
            for from in ALL {
                for to in ALL {
                    let expected = value(to, &back, data, noise);
                    let found = from.convert_between(&at, to, &back).apply(x_t, value(from, &at, data, noise));
                    assert!((found - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{schedule:?} {from:?} {to:?}");
                }
            }
            let turned = Prediction::Velocity.convert_between(&at, Prediction::Velocity, &back);
            assert_eq!((turned.x, turned.y), (0.0, -1.0));
        }
    }

    #[test]
    fn a_velocity_determines_data_and_noise_at_both_ends() {
        for schedule in [&Linear as &dyn Schedule, &Cosine] {
            for t in [0.0, 1.0] {
                let at = schedule.at(t);
                let (data, noise) = (0.3, -1.7);
                let x_t = at.alpha * data + at.sigma * noise;
                let v = value(Prediction::Velocity, &at, data, noise);
                for to in [Prediction::Data, Prediction::Noise] {
                    let found = Prediction::Velocity.convert(to, &at).apply(x_t, v);
                    assert!((found - value(to, &at, data, noise)).abs() < 1e-15, "{schedule:?} {t} {to:?}");
                }
            }
        }
    }

    #[test]
    fn singular_ends_are_not_finite() {
        let (noise, data) = (Linear.at(0.0), Linear.at(1.0));
        assert!(!Prediction::Noise.convert(Prediction::Velocity, &noise).x.is_finite());
        assert!(!Prediction::Data.convert(Prediction::Velocity, &data).x.is_finite());
        assert!(!Prediction::Velocity.convert(Prediction::Score, &data).y.is_finite());
    }

    #[test]
    fn a_floor_makes_velocities_near_data_smaller_and_changes_no_others() {
        let (x_t, data, floor) = (0.4, 0.3, 0.1);
        for schedule in [&Scaled { path: Linear, noise: 2.0 } as &dyn Schedule, &Reversed(Cosine)] {
            for t in [0.2, 0.9, 0.99, 1.0] {
                let at = schedule.at(t);
                let clipped = Prediction::Data.convert_clipped(&at, Prediction::Velocity, &at, floor).apply(x_t, data);
                // At data itself the velocity is what is left of `σ / floor` times one that is infinite.
                let near = schedule.at(t.min(1.0 - 1e-9));
                let exact = Prediction::Data.convert(Prediction::Velocity, &near).apply(x_t, data);
                let share = near.sigma / near.sigma.max(floor);
                assert!((clipped - share * exact).abs() < 1e-6, "{schedule:?} {t}: {clipped} {exact}");
                let velocity = Prediction::Velocity.convert_clipped(&at, Prediction::Noise, &at, floor);
                assert_eq!(velocity, Prediction::Velocity.convert(Prediction::Noise, &at));
            }
        }
    }

    #[test]
    fn names_in_recipes_are_lower_case() {
        assert_eq!(serde_json::to_string(&Prediction::Velocity).unwrap(), r#""velocity""#);
        assert!(serde_json::from_str::<Prediction>(r#""speed""#).is_err());
    }
}
