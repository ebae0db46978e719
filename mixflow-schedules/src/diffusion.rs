//! How much noise a stochastic sampler adds.

use std::f64::consts::PI;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{Coefficients, Error};

/// The diffusion `w(t)` of a stochastic sampler: it adds `√(2w) dW` and `w · score`, and leaves the marginals as they are.
///
/// `norm` ≥ 0 scales it, 1 unless given. In a recipe: `{"kind": "sigma", "norm": 1.0}`.
///
/// # Source
/// Ma et al. 2024, SiT (arXiv 2401.08740), section 3.4; `compute_diffusion` of `willisma/SiT`, transport/path.py, 947f95b.
/// REPA's `diffusion = 2t` is `Linear` with norm 1, since it counts time towards noise and adds `√diffusion dW`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Diffusion {
    /// `norm`.
    Constant {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
    /// `norm · |g|` with `g` the diffusion of the path's own [`Sde`](crate::Sde): score-based diffusion. Infinite at `t = 0`
    /// where `α = 0`. RAE's is negative, hence unusable; its magnitude is what is meant.
    Sbdm {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
    /// `norm · σ`.
    Sigma {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
    /// `norm · (1 − t)`.
    Linear {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
    /// `¼ (norm cos πt + 1)²`.
    Decreasing {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
    /// `norm sin² πt`.
    IncreasingDecreasing {
        /// Scale.
        #[serde(default = "one", deserialize_with = "norm")]
        norm: f64,
    },
}

impl Diffusion {
    /// The diffusion at paper time `t`, where the path has the coefficients `at`.
    pub fn at(&self, t: f64, at: &Coefficients) -> f64 {
        match *self {
            Self::Constant { norm } => norm,
            Self::Sbdm { norm } => norm * at.sde().diffusion.abs(),
            Self::Sigma { norm } => norm * at.sigma,
            Self::Linear { norm } => norm * (1.0 - t),
            Self::Decreasing { norm } => 0.25 * (norm * (PI * t).cos() + 1.0).powi(2),
            Self::IncreasingDecreasing { norm } => norm * (PI * t).sin().powi(2),
        }
    }
}

/// SiT's default, `σ`.
impl Default for Diffusion {
    fn default() -> Self {
        Self::Sigma { norm: one() }
    }
}

fn one() -> f64 {
    1.0
}

fn norm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let norm = f64::deserialize(deserializer)?;
    Error::check(norm >= 0.0 && norm.is_finite(), "norm", "a finite number, 0 or above", norm).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Reversed, Schedule, schedule::tests::all};

    const ALL: [Diffusion; 6] = [
        Diffusion::Constant { norm: 0.7 },
        Diffusion::Sbdm { norm: 0.7 },
        Diffusion::Sigma { norm: 0.7 },
        Diffusion::Linear { norm: 0.7 },
        Diffusion::Decreasing { norm: 0.7 },
        Diffusion::IncreasingDecreasing { norm: 0.7 },
    ];

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn diffusion_is_never_negative_and_has_no_direction(t in 0.001..0.999_f64) {
            for (schedule, diffusion) in all().iter().flat_map(|s| ALL.map(|d| (s, d))) {
                let forward = diffusion.at(t, &schedule.at(t));
                prop_assert!(forward >= 0.0);
                prop_assert_eq!(forward, diffusion.at(t, &Reversed(schedule).at(t)));
            }
        }
    }

    #[test]
    fn recipes_are_checked() {
        let parse = serde_json::from_str::<Diffusion>;
        assert_eq!(
            parse(r#"{"kind": "increasing-decreasing"}"#).unwrap(),
            Diffusion::IncreasingDecreasing { norm: 1.0 }
        );
        let error = parse(r#"{"kind": "sigma", "norm": -1}"#).unwrap_err().to_string();
        assert!(error.contains("`norm` must be a finite number, 0 or above, found -1"), "{error}");
        assert!(parse(r#"{"kind": "sigma", "nrom": 1}"#).unwrap_err().to_string().contains("nrom"));
        for diffusion in ALL {
            let json = serde_json::to_string(&diffusion).unwrap();
            assert_eq!(serde_json::from_str::<Diffusion>(&json).unwrap(), diffusion);
        }
    }
}
