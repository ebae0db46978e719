//! What a run is called.

use crate::variables::Variables;

/// What a run is called at Weights & Biases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WandbRun {
    /// The project it belongs to.
    pub project: String,
    /// The user or team; without one, that of whoever uploads it.
    pub entity: Option<String>,
    /// The run itself, for people.
    pub name: String,
}

impl WandbRun {
    /// A run of the project "mixflow".
    pub fn new(name: &str) -> Self {
        Self { project: "mixflow".into(), entity: None, name: name.into() }
    }

    /// A run of the project in `WANDB_PROJECT` and the entity in `WANDB_ENTITY`, where these are set.
    pub fn from_env(name: &str) -> Self {
        let variable = |name| Variables::of_process().text(name).ok().flatten();
        let run = Self::new(name);
        Self { project: variable("WANDB_PROJECT").unwrap_or(run.project), entity: variable("WANDB_ENTITY"), ..run }
    }
}
