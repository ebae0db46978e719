//! The arms of a comparison, in a recipe.

use std::collections::BTreeMap;

use mixflow_backbones::Invalid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::ObjectiveConfig;
use crate::sampling::correction::CorrectionConfig;

/// An arm of a comparison beside its start: a training from there, or another way to sample from the networks of an arm.
///
/// In a recipe an object, or the name alone of one of three that it need not describe: `standard` goes on as the start was
/// trained, `mixflow` slows its times by [`PostTraining::gamma`](super::PostTraining::gamma), and `control` scales the
/// velocity of `standard` by the best of [`PostTraining::lambdas`](super::PostTraining::lambdas).
///
/// ```
/// use mixflow::Recipe;
///
/// let arms = r#"post_training.arms=["standard", "mixflow", "control",
///     { "name": "perturbed", "objective": { "perturbation": { "kind": "input", "gamma": 0.1 } } },
///     { "name": "mixflow-ssc", "of": "mixflow", "correction": { "kind": "schedule-corrector", "a": 0, "b": 1 },
///       "search": { "a": [0, 0.02, 0.05, 0.1], "b": [1, 2, 4] } }]"#;
/// let recipe = Recipe::read("digits", &[arms.into()])?;
/// assert_eq!(recipe.post_training.ok_or("it compares")?.arms.len(), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ArmConfig {
    /// What it is called, of letters, digits and `-`; a training is kept in the folder of this name and its seed.
    pub name: String,
    /// Keys of the recipe's objective that are others in this training: `timesteps`, `target`, `weighting`,
    /// `condition_dropout`, `encoder_dropout`, `perturbation` and `defar`.
    pub objective: Map<String, Value>,
    /// Samples from the networks of this arm, which may be `start`; none is a training.
    pub of: Option<String>,
    /// How, in the place of `sampling.correction`.
    pub correction: Option<Value>,
    /// Values of keys of the correction, of which each combination is tried: that with the lowest Fréchet distance counts.
    pub search: BTreeMap<String, Vec<Value>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    objective: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correction: Option<Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    search: BTreeMap<String, Vec<Value>>,
}

const KNOWN: [&str; 3] = ["standard", "mixflow", "control"];

/// Keys of an objective that do not change what a network says, so that all arms are sampled alike.
const KEYS: [&str; 7] =
    ["timesteps", "target", "weighting", "condition_dropout", "encoder_dropout", "perturbation", "defar"];

impl ArmConfig {
    fn known(name: &str) -> Self {
        Self { name: name.into(), objective: Map::new(), of: None, correction: None, search: BTreeMap::new() }
    }

    /// The arms of a recipe that names none: standard, MixFlow and the control.
    pub fn usual() -> Vec<Self> {
        KNOWN.map(Self::known).into()
    }

    fn is_known(&self) -> bool {
        KNOWN.contains(&self.name.as_str()) && *self == Self::known(&self.name)
    }

    /// Whether it is the standard arm with a constant factor on the velocity.
    pub(super) fn is_control(&self) -> bool {
        self.is_known() && self.name == "control"
    }

    /// The arm whose networks it samples from; none if it is a training.
    pub fn of(&self) -> Option<&str> {
        if self.is_control() { Some("standard") } else { self.of.as_deref() }
    }

    /// What it minimises where the recipe minimises `objective`.
    ///
    /// # Errors
    /// For keys of the objective that are unknown, out of range, or that the arms of a comparison share.
    pub fn changed(&self, objective: &ObjectiveConfig) -> Result<ObjectiveConfig, Invalid> {
        if let Some(key) = self.objective.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(self.fault(format!("its objective has `{key}`: arms may differ in {}", KEYS.join(", "))));
        }
        let mut value = serde_json::to_value(objective).expect("plain data is JSON");
        for (key, changed) in &self.objective {
            value[key] = changed.clone();
        }
        ObjectiveConfig::deserialize(value)
            .map_err(|error| self.fault(format!("its objective is none: {}", mixflow_backbones::json::explain(&error))))
    }

    /// The corrections that it chooses from: one for each combination of what it searches, with the constant factors of the
    /// control. None of a training.
    ///
    /// # Errors
    /// For what is no correction, and for a search of a key that it does not have, or of nothing.
    pub fn candidates(&self, lambdas: &[f64]) -> Result<Vec<CorrectionConfig>, Invalid> {
        if self.is_control() {
            let factor = |lambda: &f64| json!({ "kind": "schedule-corrector", "a": lambda - 1.0, "b": 0.0 });
            return lambdas.iter().map(|lambda| self.correction(factor(lambda))).collect();
        }
        let Some(correction) = &self.correction else { return Ok(vec![]) };
        let mut candidates = vec![correction.clone()];
        for (key, values) in &self.search {
            if correction.get(key).is_none() || key == "kind" {
                return Err(self.fault(format!("it searches `{key}`, which its correction does not give a number")));
            }
            if values.is_empty() {
                return Err(self.fault(format!("it searches no value of `{key}`")));
            }
            let each = |candidate: &Value| {
                values
                    .iter()
                    .map(|value| {
                        let mut candidate = candidate.clone();
                        candidate[key] = value.clone();
                        candidate
                    })
                    .collect::<Vec<_>>()
            };
            candidates = candidates.iter().flat_map(each).collect();
        }
        candidates.into_iter().map(|candidate| self.correction(candidate)).collect()
    }

    fn correction(&self, value: Value) -> Result<CorrectionConfig, Invalid> {
        CorrectionConfig::deserialize(value).map_err(|error| {
            self.fault(format!("its correction is none: {}", mixflow_backbones::json::explain(&error)))
        })
    }

    /// What is wrong with it beside others, if anything.
    pub(super) fn check(&self, others: &[Self]) -> Result<(), Invalid> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(valid) {
            return Err(self.fault("its name must be made of at most 40 letters, digits and `-`"));
        }
        if ["start", "pretraining", "real"].contains(&self.name.to_lowercase().as_str()) {
            return Err(self.fault("its name is taken"));
        }
        let alike = |other: &&Self| other.name.to_lowercase() == self.name.to_lowercase();
        if others.iter().filter(alike).count() > 1 {
            return Err(self.fault("two arms have its name"));
        }
        // Folders, results and readers do not tell them apart by capitals.
        if KNOWN.contains(&self.name.to_lowercase().as_str()) && !self.is_known() {
            return Err(self.fault("its name stands for an arm that is described already: give this one another"));
        }
        match (self.of(), &self.correction) {
            (None, None) if self.search.is_empty() => Ok(()),
            (None, _) => {
                Err(self.fault("it corrects sampling, so that it needs `of`, the arm whose networks it samples from"))
            }
            (Some(_), None) if !self.is_known() => {
                Err(self.fault("it trains nothing, so that it needs a `correction`"))
            }
            (Some(_), _) if !self.objective.is_empty() => {
                Err(self.fault("it samples from the networks of another arm, so that it has no `objective`"))
            }
            (Some("start"), _) => Ok(()),
            (Some(of), _) if others.iter().any(|other| other.name == of && other.of().is_none()) => Ok(()),
            (Some(of), _) => Err(self.fault(format!("there is no training `{of}` among the arms to sample from"))),
        }
    }

    pub(super) fn fault(&self, reason: impl std::fmt::Display) -> Invalid {
        Invalid::new("arms", format!("have `{}`: {reason}", self.name))
    }
}

impl<'de> Deserialize<'de> for ArmConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) if KNOWN.contains(&name.as_str()) => Ok(Self::known(&name)),
            Value::String(name) => {
                let known = KNOWN.join(", ");
                Err(D::Error::custom(format!("no arm `{name}` is known: {known}, or an object that describes one")))
            }
            other => {
                let Fields { name, objective, of, correction, search } =
                    Fields::deserialize(other).map_err(D::Error::custom)?;
                Ok(Self { name, objective, of, correction, search })
            }
        }
    }
}

impl Serialize for ArmConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_known() {
            return self.name.serialize(serializer);
        }
        let Self { name, objective, of, correction, search } = self.clone();
        Fields { name, objective, of, correction, search }.serialize(serializer)
    }
}
