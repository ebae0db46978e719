//! The numbers of an optimiser step.

use std::fmt;

use mixflow_backbones::Invalid;
use serde::{Deserialize, Serialize};

/// AdamW with global-norm clipping and a moving average of the weights.
///
/// The defaults are SiT's: constant rate 1e-4, betas 0.9 and 0.999, no decay, no clipping, average 0.9999.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The learning rate, as a function of the step.
    pub learning_rate: LearningRate,
    /// Decay of both moments, each in [0, 1).
    pub betas: [f64; 2],
    /// Added to the denominator, above 0.
    pub epsilon: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Largest norm of all gradients together, above 0; none leaves them as they are.
    pub clip: Option<f64>,
    /// Decay of the moving average of the weights (EMA), in [0, 1).
    pub average: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: LearningRate::Constant { rate: 1e-4, warmup: 0 },
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip: None,
            average: 0.9999,
        }
    }
}

impl OptimizerConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let unit = |name, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Invalid::new(name, format!("must be in [0, 1), found {value}"))),
        };
        unit("betas[0]", self.betas[0])?;
        unit("betas[1]", self.betas[1])?;
        unit("average", self.average)?;
        positive("epsilon", self.epsilon)?;
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Invalid::new("weight_decay", format!("must be at least 0, found {}", self.weight_decay)));
        }
        self.clip.map_or(Ok(()), |clip| positive("clip", clip))?;
        self.learning_rate.check()
    }

    /// The optimiser at its full rate from the first step to the last: no warm-up and no decay.
    #[must_use]
    pub fn at_constant_rate(&self) -> Self {
        let rate = match self.learning_rate {
            LearningRate::Constant { rate, .. }
            | LearningRate::Linear { rate, .. }
            | LearningRate::Cosine { rate, .. } => rate,
        };
        Self { learning_rate: LearningRate::Constant { rate, warmup: 0 }, ..self.clone() }
    }

    /// Factor that brings gradients of this norm down to [`clip`](Self::clip).
    ///
    /// # Source
    /// PyTorch's `clip_grad_norm_`, which adds 1e-6 to the norm.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        self.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0))
    }
}

pub(crate) fn positive(name: &str, value: f64) -> Result<(), Invalid> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Invalid::new(name, format!("must be above 0, found {value}"))),
    }
}

/// The learning rate as a function of the step; steps count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LearningRate {
    /// `rate`, after `warmup` steps that rise to it from zero.
    Constant {
        /// The rate.
        rate: f64,
        /// Steps that rise to it.
        #[serde(default)]
        warmup: u64,
    },
    /// A straight line from `rate` at step `start` to `last` at step `end`.
    Linear {
        /// The rate until `start`.
        rate: f64,
        /// The rate from `end` on.
        last: f64,
        /// Where the line begins.
        start: u64,
        /// Where the line ends.
        end: u64,
        /// Whether the steps before `start` rise from zero.
        #[serde(default)]
        from_zero: bool,
    },
    /// Half a cosine from `rate` at step `start` to `last` at step `end`.
    Cosine {
        /// The rate until `start`.
        rate: f64,
        /// The rate from `end` on.
        last: f64,
        /// Where the descent begins.
        start: u64,
        /// Where the descent ends.
        end: u64,
        /// Whether the steps before `start` rise from zero.
        #[serde(default)]
        from_zero: bool,
    },
}

impl LearningRate {
    /// The rate of a step.
    ///
    /// # Source
    /// RAE `src/utils/optim_utils.py` at a4d18c4.
    pub fn at(&self, step: u64) -> f64 {
        let rising = |rate: f64, steps: u64| rate * (step + 1) as f64 / steps as f64;
        match *self {
            Self::Constant { rate, warmup } if step < warmup => rising(rate, warmup),
            Self::Constant { rate, .. } => rate,
            Self::Linear { rate, start, from_zero, .. } | Self::Cosine { rate, start, from_zero, .. }
                if step < start =>
            {
                if from_zero {
                    rising(rate, start)
                } else {
                    rate
                }
            }
            Self::Linear { rate, last, start, end, .. } => rate + (last - rate) * fraction(step, start, end),
            Self::Cosine { rate, last, start, end, .. } => {
                last + (rate - last) * 0.5 * (1.0 + (std::f64::consts::PI * fraction(step, start, end)).cos())
            }
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        match *self {
            Self::Constant { rate, .. } => positive("learning_rate.rate", rate),
            Self::Linear { rate, last, start, end, .. } | Self::Cosine { rate, last, start, end, .. } => {
                positive("learning_rate.rate", rate)?;
                if !(last >= 0.0 && last.is_finite()) {
                    return Err(Invalid::new("learning_rate.last", format!("must be at least 0, found {last}")));
                }
                if end <= start {
                    return Err(Invalid::new(
                        "learning_rate.end",
                        format!("must be after its start {start}, found {end}"),
                    ));
                }
                Ok(())
            }
        }
    }
}

/// In words, such as "a rate that rises to 0.002 in 100 steps".
impl fmt::Display for LearningRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, rate, last, start, end, from_zero) = match *self {
            Self::Constant { rate, warmup: 0 } => return write!(f, "the constant rate {rate}"),
            Self::Constant { rate, warmup } => return write!(f, "a rate that rises to {rate} in {warmup} steps"),
            Self::Linear { rate, last, start, end, from_zero } => ("in a line", rate, last, start, end, from_zero),
            Self::Cosine { rate, last, start, end, from_zero } => ("by a cosine", rate, last, start, end, from_zero),
        };
        let rising = if from_zero { format!("rises to {rate} in {start} steps") } else { format!("is {rate}") };
        write!(f, "a rate that {rising} and falls {shape} to {last} from step {start} to {end}")
    }
}

fn fraction(step: u64, start: u64, end: u64) -> f64 {
    ((step - start) as f64 / (end - start) as f64).min(1.0)
}
