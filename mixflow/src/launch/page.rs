//! The page of a single training that draws.

use std::path::PathBuf;

use super::Parts;
use crate::Error;
use crate::files::write_atomic;
use crate::recipe::NetworkSettings;
use crate::report::{Arm, Curve, Environment, Report, Strip, Summary};

/// The page.
pub(super) const FILE: &str = "report.html";

impl<N: NetworkSettings> Parts<'_, N> {
    /// Writes `report.html`: losses, and what the network made meanwhile.
    pub(super) fn page(&self) -> Result<PathBuf, Error> {
        let (recipe, folder) = (self.recipe, self.folder);
        // Nothing of it is drawn.
        let network = recipe.network.init(recipe.seed, self.devices.0);
        let arm = Arm::Other(recipe.name.as_str().into());
        let drawn = recipe.validation.as_ref().map(|config| config.drawn(self.data.classes()));
        let report = Report {
            title: format!("{}: a training", recipe.name),
            summary: Summary {
                data: recipe.data.describe().into(),
                shape: self.data.shape(),
                network: format!("a {}", recipe.network.name()),
                parameters: recipe.parameters_of(&network),
                pretrain_steps: recipe.training.steps,
                ..Summary::default()
            },
            recipe: recipe.to_value(),
            curves: vec![Curve::read(arm.clone(), recipe.seed, &folder.join("metrics.jsonl"))],
            strips: Strip::read(arm, folder)?.into_iter().collect(),
            drawn: drawn.unwrap_or_default(),
            environment: Environment::here(self.devices.0),
            ..Report::default()
        };
        let page = folder.join(FILE);
        write_atomic(&page, report.html().as_bytes())?;
        Ok(page)
    }
}
