//! What is minimised, in a recipe.

use mixflow_backbones::{AlignedBackbone, Backbone, Invalid};
use mixflow_schedules::{Prediction, Schedule, ScheduleConfig, TimestepConfig, TimestepSampler, Weighting};
use serde::{Deserialize, Serialize};

use crate::objective::{AlignmentConfig, Defar, DefarConfig, EncoderDropout, Hybrid, Loss, Perturbation, Target};
use crate::{Alignment, Batch, FlowMatching, Objective};

/// [`FlowMatching`] in a recipe, alone, with [`Alignment`] or in [`Defar`], or [`Hybrid`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The path and its direction.
    pub schedule: ScheduleConfig,
    /// The law of times; `{"kind": "mixflow", "gamma": 0.8}` is MixFlow.
    pub timesteps: TimestepConfig,
    /// What the network outputs.
    pub prediction: Prediction,
    /// Where the target is taken on curved paths.
    pub target: Target,
    /// Weight of noise, score and data losses.
    pub weighting: Weighting,
    /// [`FlowMatching::floor`] of predictions of data.
    #[serde(skip_serializing_if = "is_zero")]
    pub floor: f64,
    /// Probability of training without the label, in [0, 1].
    pub condition_dropout: f64,
    /// Probabilities of training without what each of several text encoders says of a prompt, in their order, such as
    /// `[0.464, 0.464, 0.464]`.
    #[serde(skip_serializing_if = "no_encoders")]
    pub encoder_dropout: EncoderDropout,
    /// More noise in the input, such as `{"kind": "input", "gamma": 0.1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perturbation: Option<Perturbation>,
    /// Velocities from states that the network came to itself, such as `{"beta": 0.5}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defar: Option<DefarConfig>,
    /// Alignment with the features of frozen encoders, for networks with projectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<AlignmentConfig>,
    /// Whether the variance of denoising steps is learned too, by [`Hybrid`]: for noise networks on [`ScheduleConfig::Ddpm`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learned_variance: bool,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            timesteps: TimestepConfig::default(),
            prediction: Prediction::Velocity,
            target: Target::Label,
            weighting: Weighting::None,
            floor: 0.0,
            condition_dropout: 0.1,
            encoder_dropout: EncoderDropout::default(),
            perturbation: None,
            defar: None,
            alignment: None,
            learned_variance: false,
        }
    }
}

impl ObjectiveConfig {
    /// Flow matching without alignment, for any backbone.
    pub fn flow_matching(&self) -> FlowMatching<ScheduleConfig, TimestepConfig> {
        FlowMatching {
            schedule: self.schedule,
            timesteps: self.timesteps.clone(),
            prediction: self.prediction,
            target: self.target,
            weighting: self.weighting,
            floor: self.floor,
            condition_dropout: self.condition_dropout,
            encoder_dropout: self.encoder_dropout,
            perturbation: self.perturbation,
        }
    }

    /// The objective without alignment, for any backbone.
    pub fn unaligned<B: Backbone>(&self) -> Box<dyn Objective<B>> {
        match (self.hybrid(), self.defar()) {
            (Some(hybrid), _) => Box::new(hybrid),
            (None, Some(defar)) => Box::new(defar),
            (None, None) => Box::new(self.flow_matching()),
        }
    }

    fn defar(&self) -> Option<Defar<FlowMatching<ScheduleConfig, TimestepConfig>>> {
        self.defar.map(|DefarConfig { beta }| Defar { objective: self.flow_matching(), beta })
    }

    /// Evaluations of the network in a step.
    pub fn evaluations(&self) -> u64 {
        if self.defar.is_some() { 2 } else { 1 }
    }

    /// The objective itself.
    pub fn objective(&self) -> ConfiguredObjective {
        let plain = self.flow_matching();
        match (self.hybrid(), self.defar(), self.alignment) {
            (Some(hybrid), ..) => ConfiguredObjective::Hybrid(hybrid),
            (None, Some(defar), _) => ConfiguredObjective::Defar(defar),
            (None, None, None) => ConfiguredObjective::FlowMatching(plain),
            (None, None, Some(alignment)) => ConfiguredObjective::Alignment(alignment.wrap(plain)),
        }
    }

    /// The loss of noise and variance, where `learned_variance` asks for it.
    pub fn hybrid(&self) -> Option<Hybrid> {
        self.learned_variance.then_some(Hybrid { condition_dropout: self.condition_dropout })
    }

    /// What is wrong with `weighting`, `floor`, `perturbation` and `defar`, if anything.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if !(0.0..1.0).contains(&self.floor) {
            return Err(Invalid::new("objective.floor", format!("must be in [0, 1), found {}", self.floor)));
        }
        if self.floor > 0.0 && self.prediction != Prediction::Data {
            let reason = "is for predictions of data, which alone are divided by what noise is left";
            return Err(Invalid::new("objective.floor", reason));
        }
        if self.weighting != Weighting::None && self.prediction == Prediction::Velocity {
            let reason = "is for predictions of noise, score and data: velocities are weighted alike at all times";
            return Err(Invalid::new("objective.weighting", reason));
        }
        self.check_weights()?;
        if let Some(perturbation) = &self.perturbation {
            perturbation.check().map_err(|fault| fault.within("objective.perturbation"))?;
        }
        let Some(defar) = &self.defar else { return Ok(()) };
        defar.check().map_err(|fault| fault.within("objective.defar"))?;
        let fault = |reason: &str| Err(Invalid::new("objective.defar", reason));
        let straight = matches!(self.schedule, ScheduleConfig::Linear { .. });
        if !straight || self.prediction != Prediction::Velocity {
            return fault("is for velocities on the linear path, which alone lead straight to the data");
        }
        if !matches!(self.timesteps, TimestepConfig::Law(_)) {
            return fault("is for inputs at the time of their label: it is a remedy of its own, without mixflow");
        }
        if self.alignment.is_some() {
            return fault("is without objective.alignment: leave one out");
        }
        Ok(())
    }

    /// Whether no example counts more than all others together: weights are infinite where a path has no noise or no data left, and
    /// so are velocities where its noise ends at once.
    fn check_weights(&self) -> Result<(), Invalid> {
        /// How many typical draws the outermost one that is looked at may weigh.
        const MOST: f64 = 1e6;
        if self.learned_variance {
            // A loss of its own, for noise alone.
            return Ok(());
        }
        let velocity = self.prediction == Prediction::Velocity;
        // Of so many. Squares of velocities grow no faster than `1 / (1 − t)`: what has no mean shows in the draws of a training.
        let draws = if velocity { 1e9 } else { 1e4 };
        let weight = |u: f64| {
            let t = self.timesteps.timestep([u, 0.5]).t;
            let at = self.schedule.at(t);
            match velocity {
                true => (t, self.prediction.coordinates(&at).iter().map(|part| part * part).sum()),
                false => (t, self.weighting.at(self.prediction, &at, self.floor)),
            }
        };
        let (_, middle): (f64, f64) = weight(0.5);
        let outermost = [1.0 / draws, 1.0 - 1.0 / draws].map(weight);
        let Some((t, _)) = outermost.into_iter().find(|(_, found)| *found > MOST * middle) else { return Ok(()) };
        let (part, bound, or) = match velocity {
            true => ("objective.schedule", 1e-5, ""),
            false => ("objective.weighting", 1e-3, ", or leave the weighting out"),
        };
        let (key, bound) = if t < 0.5 { ("start", bound) } else { ("end", 1.0 - bound) };
        let reason = format!(
            "has no bound near t = {t:.0}, where one example would count more than all others together: keep times from \
             there by {{\"kind\":\"truncated\",\"{key}\":{bound},\"base\":{{\"kind\":\"uniform\"}}}} in \
             objective.timesteps{or}"
        );
        Err(Invalid::new(part, reason))
    }

    /// Why a loss cannot be weighted place by place, if it cannot: the rest of a sentence on a mask.
    pub(super) fn refuses_masks(&self) -> Option<&'static str> {
        match self {
            Self { learned_variance: true, .. } => Some(
                "weights flow matching place by place, and objective.learned_variance is another loss: leave out one",
            ),
            Self { defar: Some(_), .. } => Some(
                "weights a loss place by place, and objective.defar compares directions of whole images: leave out one",
            ),
            Self { alignment: Some(_), .. } => Some(
                "weights a loss place by place, and objective.alignment compares features of whole images: leave out one",
            ),
            _ => None,
        }
    }

    /// What is wrong with `learned_variance`, if anything, for a network that `learns` one or does not.
    pub(super) fn check_variance(&self, learns: bool, compared: bool) -> Result<(), Invalid> {
        if !self.learned_variance {
            return Ok(());
        }
        let fault = |reason: &str| Invalid::new("objective.learned_variance", reason);
        let (schedule, prediction) = (ScheduleConfig::Ddpm {}, Prediction::Noise);
        let Self { condition_dropout, learned_variance, .. } = *self;
        if *self != (Self { schedule, prediction, condition_dropout, learned_variance, ..Self::default() }) {
            return Err(fault(
                "is for {\"kind\": \"ddpm\"} and noise, with uniform times, the target at the label, without weighting and \
                 alignment",
            ));
        }
        if !learns {
            return Err(fault("needs a network that says a variance, such as dit with learn_sigma"));
        }
        if compared {
            let reason = "compares by flow matching: leave out objective.learned_variance";
            return Err(Invalid::new("post_training", reason));
        }
        Ok(())
    }
}

fn no_encoders(dropout: &EncoderDropout) -> bool {
    dropout.encoders() == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// The objective that an [`ObjectiveConfig`] stands for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum ConfiguredObjective {
    FlowMatching(FlowMatching<ScheduleConfig, TimestepConfig>),
    Alignment(Alignment<FlowMatching<ScheduleConfig, TimestepConfig>>),
    Defar(Defar<FlowMatching<ScheduleConfig, TimestepConfig>>),
    Hybrid(Hybrid),
}

impl<B: AlignedBackbone> Objective<B> for ConfiguredObjective {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        match self {
            Self::FlowMatching(objective) => objective.loss(backbone, batch, seed),
            Self::Alignment(objective) => objective.loss(backbone, batch, seed),
            Self::Defar(objective) => objective.loss(backbone, batch, seed),
            Self::Hybrid(objective) => objective.loss(backbone, batch, seed),
        }
    }

    fn weighs(&self) -> bool {
        matches!(self, Self::FlowMatching(_))
    }
}

#[cfg(test)]
mod tests;
