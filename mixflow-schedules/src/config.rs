//! Schedules and timestep laws as they stand in a recipe.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    Angular, Beta, Coefficients, Cosine, Ddpm, Error, Independent, Linear, LogitNormal, MixFlow, Scaled, Schedule,
    Shift, Shifted, TimeLaw, Timestep, TimestepSampler, Truncated, Uniform, VariancePreserving,
};

/// A path in a recipe, `{"kind": "linear", "reversed": true}`, and a [`Schedule`] itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// [`Linear`], from [`Scaled`] noise if it says so.
    Linear {
        /// Whether the network counts time from data (0) to noise (1).
        #[serde(default)]
        reversed: bool,
        /// Standard deviation of the noise, above 0; 1 unless given.
        #[serde(default = "one", deserialize_with = "positive_noise", skip_serializing_if = "is_one")]
        noise: f64,
    },
    /// [`Cosine`].
    Cosine {
        /// Whether the network counts time from data (0) to noise (1).
        #[serde(default)]
        reversed: bool,
    },
    /// [`VariancePreserving`]; 0.1 and 20 unless given.
    Vp {
        /// `β` at data, above 0.
        #[serde(default = "beta_min", deserialize_with = "positive")]
        beta_min: f64,
        /// `β` at noise, above 0.
        #[serde(default = "beta_max", deserialize_with = "positive")]
        beta_max: f64,
        /// Whether the network counts time from data (0) to noise (1).
        #[serde(default)]
        reversed: bool,
    },
    /// [`Ddpm`].
    Ddpm {},
}

impl Schedule for ScheduleConfig {
    fn at(&self, t: f64) -> Coefficients {
        let (at, reversed) = match *self {
            Self::Linear { reversed, noise } => (Scaled { path: Linear, noise }.at(t), reversed),
            Self::Cosine { reversed } => (Cosine.at(t), reversed),
            Self::Vp { beta_min, beta_max, reversed } => {
                (VariancePreserving::unchecked(beta_min, beta_max).at(t), reversed)
            }
            Self::Ddpm {} => (Ddpm.at(t), false),
        };
        if reversed { at.reversed() } else { at }
    }
}

/// The straight path, labelled from noise to data.
impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Linear { reversed: false, noise: 1.0 }
    }
}

/// A law of the time label in a recipe, and a [`TimeLaw`] itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum LawConfig {
    /// `{"kind": "uniform"}`.
    Uniform,
    /// `{"kind": "angular", "base": {"kind": "logit-normal", "mean": 0, "std": 1}}`.
    Angular(Box<Angular<Self>>),
    /// `{"kind": "beta", "alpha": 2, "beta": 1}`.
    Beta(Beta),
    /// `{"kind": "logit-normal", "mean": 0, "std": 1}`.
    LogitNormal(LogitNormal),
    /// `{"kind": "shifted", "shift": 6.93, "base": {"kind": "uniform"}}`; of FLUX `"shift": {"tokens": 4096}`, see [`Shift`].
    Shifted(Box<Shifted<Self>>),
    /// `{"kind": "truncated", "start": 0, "end": 0.999, "base": {"kind": "uniform"}}`; 0 and 1 unless given.
    Truncated(Box<Truncated<Self>>),
}

impl TimeLaw for LawConfig {
    fn quantile(&self, u: f64) -> f64 {
        match self {
            Self::Uniform => Uniform.quantile(u),
            Self::Angular(law) => law.quantile(u),
            Self::Beta(law) => law.quantile(u),
            Self::LogitNormal(law) => law.quantile(u),
            Self::Shifted(law) => law.quantile(u),
            Self::Truncated(law) => law.quantile(u),
        }
    }
}

impl LawConfig {
    /// The law of [`MixFlow`]'s label for a network that was trained with these times: Beta(2, 1) takes the place of the
    /// uniform law, and what shifts, truncates or carries it over stays.
    ///
    /// RAE's published change to MixFlow does so: the same shift, of Beta(2, 1) instead of uniform times.
    ///
    /// ```
    /// use mixflow_schedules::LawConfig;
    ///
    /// let law = |json| serde_json::from_str::<LawConfig>(json);
    /// let times = law(r#"{"kind": "shifted", "shift": 3, "base": {"kind": "uniform"}}"#)?;
    /// assert_eq!(times.mixflow_label()?.to_string(), "Beta(2, 1) shifted by 3");
    /// assert!(law(r#"{"kind": "logit-normal", "mean": 0, "std": 1}"#)?.mixflow_label().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CompetingLaw`] if the law inside is neither uniform nor Beta(2, 1) already, and [`Error::Interval`] if
    /// Beta(2, 1) (almost) never reaches the interval of a truncation.
    pub fn mixflow_label(&self) -> Result<Self, Error> {
        let beta = Self::Beta(Beta::MIXFLOW);
        let inside = self.innermost();
        if *inside == Self::Uniform || *inside == beta {
            return self.around(beta);
        }
        Err(Error::CompetingLaw { law: self.to_string() })
    }

    /// What shifts, truncates and carries over this law's innermost one, around another law instead.
    ///
    /// # Errors
    /// [`Error::Interval`] if that (almost) never reaches the interval of a truncation.
    pub fn around(&self, law: Self) -> Result<Self, Error> {
        Ok(match self {
            Self::Uniform | Self::Beta(_) | Self::LogitNormal(_) => law,
            Self::Angular(outer) => Self::Angular(Box::new(Angular(outer.0.around(law)?))),
            Self::Shifted(outer) => {
                let (shift, base) = outer.parts();
                Self::Shifted(Box::new(Shifted::new(shift, base.around(law)?)?))
            }
            Self::Truncated(outer) => {
                let (start, end, base) = outer.parts();
                Self::Truncated(Box::new(Truncated::new(start, end, base.around(law)?)?))
            }
        })
    }

    /// Refuses a shift for other latents than those of this height and width, as [`Shift::check_latents`].
    ///
    /// # Errors
    /// As there.
    pub fn check_latents(&self, size: [usize; 2]) -> Result<(), Error> {
        match self {
            Self::Uniform | Self::Beta(_) | Self::LogitNormal(_) => Ok(()),
            Self::Angular(law) => law.0.check_latents(size),
            Self::Shifted(law) => {
                let (shift, base) = law.parts();
                shift.check_latents(size)?;
                base.check_latents(size)
            }
            Self::Truncated(law) => law.parts().2.check_latents(size),
        }
    }

    fn innermost(&self) -> &Self {
        match self {
            Self::Uniform | Self::Beta(_) | Self::LogitNormal(_) => self,
            Self::Angular(law) => law.0.innermost(),
            Self::Shifted(law) => law.parts().1.innermost(),
            Self::Truncated(law) => law.parts().2.innermost(),
        }
    }
}

/// In words, such as "Beta(2, 1) shifted by 6.93".
impl fmt::Display for LawConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => write!(f, "uniform"),
            Self::Angular(law) => write!(f, "{} carried to the cosine path", law.0),
            Self::Beta(law) => {
                let [alpha, beta] = law.shapes();
                write!(f, "Beta({alpha}, {beta})")
            }
            Self::LogitNormal(law) => {
                let [mean, std] = law.moments();
                write!(f, "logit-normal({mean}, {std})")
            }
            Self::Shifted(law) => {
                let (shift, base) = law.parts();
                write!(f, "{base} shifted by {shift}")
            }
            Self::Truncated(law) => {
                let (start, end, base) = law.parts();
                write!(f, "{base} between {start} and {end}")
            }
        }
    }
}

/// The times of training examples in a recipe, and a [`TimestepSampler`] itself.
///
/// ```
/// use mixflow_schedules::{TimestepConfig, TimestepSampler};
///
/// let times: TimestepConfig = serde_json::from_str(r#"{"kind": "mixflow", "gamma": 0.4}"#)?;
/// assert_eq!(times.timestep([0.25, 0.5]).t, 0.5);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// The label of `mixflow` follows Beta(2, 1) unless it names another `base`. There is one place for the law of the label, so
/// none can silently replace another: a second law beside `gamma`, or a `mixflow` inside another law, is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum TimestepConfig {
    /// A law with the input at the label's time: plain flow matching.
    Law(LawConfig),
    /// `{"kind": "mixflow", "gamma": 0.4, "base": {"kind": "beta", "alpha": 2, "beta": 1}}`.
    MixFlow(MixFlow<LawConfig>),
    /// `{"kind": "independent", "base": {"kind": "uniform"}}`.
    Independent(Independent<LawConfig>),
}

impl TimestepConfig {
    /// Refuses a shift for other latents than those of this height and width, as [`Shift::check_latents`].
    ///
    /// # Errors
    /// As there.
    pub fn check_latents(&self, size: [usize; 2]) -> Result<(), Error> {
        match self {
            Self::Law(law) | Self::Independent(Independent(law)) => law.check_latents(size),
            Self::MixFlow(mixflow) => mixflow.parts().1.check_latents(size),
        }
    }
}

impl TimestepSampler for TimestepConfig {
    fn timestep(&self, u: [f64; 2]) -> Timestep {
        match self {
            Self::Law(law) => law.timestep(u),
            Self::MixFlow(mixflow) => mixflow.timestep(u),
            Self::Independent(independent) => independent.timestep(u),
        }
    }
}

/// In words, such as "t: Beta(2, 1), m ~ U[(1 − 0.8) t, t]".
impl fmt::Display for TimestepConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Law(law) => write!(f, "t: {law}, m = t"),
            Self::MixFlow(mixflow) => write!(f, "t: {}, m ~ U[(1 − {}) t, t]", mixflow.parts().1, mixflow.parts().0),
            Self::Independent(Independent(law)) => write!(f, "t: {law}, m ~ U[0, 1]"),
        }
    }
}

/// Uniform times, plain flow matching.
impl Default for TimestepConfig {
    fn default() -> Self {
        Self::Law(LawConfig::Uniform)
    }
}

/// What a recipe may say, before its numbers are checked.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Raw {
    Uniform {},
    Angular {
        base: Box<Self>,
    },
    Beta {
        alpha: f64,
        beta: f64,
    },
    LogitNormal {
        mean: f64,
        std: f64,
    },
    Shifted {
        shift: Shift,
        base: Box<Self>,
    },
    Truncated {
        #[serde(default)]
        start: f64,
        #[serde(default = "one")]
        end: f64,
        base: Box<Self>,
    },
    #[serde(rename = "mixflow")]
    MixFlow {
        gamma: f64,
        #[serde(default = "beta_two_one")]
        base: Box<Self>,
    },
    Independent {
        base: Box<Self>,
    },
}

impl TryFrom<Raw> for LawConfig {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        Ok(match raw {
            Raw::Uniform {} => Self::Uniform,
            Raw::Angular { base } => Self::Angular(Box::new(Angular((*base).try_into()?))),
            Raw::Beta { alpha, beta } => Self::Beta(Beta::new(alpha, beta)?),
            Raw::LogitNormal { mean, std } => Self::LogitNormal(LogitNormal::new(mean, std)?),
            Raw::Shifted { shift, base } => Self::Shifted(Box::new(Shifted::new(shift, (*base).try_into()?)?)),
            Raw::Truncated { start, end, base } => {
                Self::Truncated(Box::new(Truncated::new(start, end, (*base).try_into()?)?))
            }
            Raw::MixFlow { .. } => return Err(Error::InnerTimes { kind: "mixflow" }),
            Raw::Independent { .. } => return Err(Error::InnerTimes { kind: "independent" }),
        })
    }
}

impl From<LawConfig> for Raw {
    fn from(law: LawConfig) -> Self {
        match law {
            LawConfig::Uniform => Self::Uniform {},
            LawConfig::Angular(law) => Self::Angular { base: Box::new(law.0.into()) },
            LawConfig::Beta(law) => {
                let [alpha, beta] = law.shapes();
                Self::Beta { alpha, beta }
            }
            LawConfig::LogitNormal(law) => {
                let [mean, std] = law.moments();
                Self::LogitNormal { mean, std }
            }
            LawConfig::Shifted(law) => {
                let (shift, base) = law.parts();
                Self::Shifted { shift, base: Box::new(base.clone().into()) }
            }
            LawConfig::Truncated(law) => {
                let (start, end, base) = law.parts();
                Self::Truncated { start, end, base: Box::new(base.clone().into()) }
            }
        }
    }
}

impl TryFrom<Raw> for TimestepConfig {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        match raw {
            Raw::MixFlow { gamma, base } => Ok(Self::MixFlow(MixFlow::try_wrap(gamma, (*base).try_into()?)?)),
            Raw::Independent { base } => Ok(Self::Independent(Independent((*base).try_into()?))),
            law => Ok(Self::Law(law.try_into()?)),
        }
    }
}

impl From<TimestepConfig> for Raw {
    fn from(config: TimestepConfig) -> Self {
        match config {
            TimestepConfig::Law(law) => law.into(),
            TimestepConfig::MixFlow(mixflow) => {
                let (gamma, base) = mixflow.parts();
                Self::MixFlow { gamma, base: Box::new(base.clone().into()) }
            }
            TimestepConfig::Independent(Independent(base)) => Self::Independent { base: Box::new(base.into()) },
        }
    }
}

fn one() -> f64 {
    1.0
}

fn beta_two_one() -> Box<Raw> {
    Box::new(LawConfig::Beta(Beta::MIXFLOW).into())
}

fn beta_min() -> f64 {
    VariancePreserving::default().beta()[0]
}

fn beta_max() -> f64 {
    VariancePreserving::default().beta()[1]
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn positive_noise<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Error::positive("noise", f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Error::positive("beta_min and beta_max", f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests;
