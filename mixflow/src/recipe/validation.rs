//! Images that are drawn during a training, in a recipe.

use mixflow_backbones::Invalid;
use serde::{Deserialize, Serialize};

use super::{NetworkSettings, Recipe, SamplingConfig};
use crate::data::class_number;
use crate::sampling::{Guidance, SkipLayers};

/// What a training shows of itself: images by the moving average of its weights, each time of the same labels or prompts and
/// from the same noise. What it does not say is as in the recipe's `sampling`.
///
/// Weights and randomness of the training are the same with it and without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Steps of a training after which they are drawn, again and again; and after its last step.
    pub every: u64,
    /// How many each time, labels or prompts taken in turn; none is one of each, or 16 where none are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Classes, by name or by number as text; none are all of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Prompts, for networks that are told some; none are captions of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    /// The prompt, or the class, that guidance leads away from; none is no prompt, or no class, in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// Steps of the solver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solver_steps: Option<usize>,
    /// Guidance; a scale of 1 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// Guidance away from the network without some of its blocks, beside the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_layers: Option<SkipLayers>,
    /// Seed of the noise; none is the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Images where nothing says how many.
const IMAGES: usize = 16;

impl ValidationConfig {
    /// Images each time.
    pub fn count(&self) -> usize {
        let named = self.labels.len().max(self.prompts.len());
        self.images.unwrap_or(if named > 0 { named } else { IMAGES })
    }

    /// What they are images of, in the order that they are tiled in, the first of each row after the last of the row above:
    /// labels or prompts by name, in a network's data of these `classes`. Fewer than [`count`](Self::count) take turns.
    pub fn drawn(&self, classes: &[String]) -> Vec<String> {
        let by_name = |label: &String| match class_number(label, classes, classes.len()) {
            Ok(number) => classes[number].clone(),
            Err(_) => label.clone(),
        };
        let named: Vec<String> = match (&self.prompts[..], &self.labels[..]) {
            ([], []) => classes.to_vec(),
            ([], labels) => labels.iter().map(by_name).collect(),
            (prompts, _) => prompts.to_vec(),
        };
        named.into_iter().take(self.count()).collect()
    }

    /// How they are made in a recipe that samples so.
    ///
    /// # Errors
    /// For a number of steps that does not fit the grid.
    pub fn sampling(&self, sampling: &SamplingConfig) -> Result<SamplingConfig, Invalid> {
        let fault = |error| Invalid::new("solver_steps", format!("do not fit the grid of sampling: {error}"));
        let sampling = match self.solver_steps {
            Some(steps) => sampling.with_steps(steps).map_err(fault)?,
            None => sampling.clone(),
        };
        Ok(SamplingConfig { guidance: self.guidance.or(sampling.guidance), ..sampling })
    }

    /// What is wrong with it in this recipe, if anything.
    pub(super) fn check<N: NetworkSettings>(&self, recipe: &Recipe<N>) -> Result<(), Invalid> {
        /// More than anybody looks at.
        const MOST: usize = 1000;
        Invalid::unless_positive(&[("every", self.every), ("images", self.count() as u64)])?;
        if self.count() > MOST {
            return Err(Invalid::new("images", format!("must be at most {MOST}, found {}", self.count())));
        }
        match (recipe.network.reads_names(), &self.labels[..], &self.prompts[..]) {
            (false, _, [_, ..]) => Err(Invalid::new("prompts", "are for networks that are told some: use labels")),
            (true, [_, ..], _) => Err(Invalid::new("labels", "are for networks that know classes: use prompts")),
            _ => Ok(()),
        }?;
        let sampling = self.sampling(&recipe.sampling)?;
        if self.negative.is_some() && (!sampling.guides() || sampling.guide.is_some()) {
            let reason = "has no effect without guidance away from the network itself, such as {\"scale\": 4}";
            return Err(Invalid::new("negative", reason));
        }
        if let Some(skip) = &self.skip_layers {
            let fault = |error| Invalid::new("skip_layers", format!("cannot be used: {error}"));
            skip.guidance(&sampling.sampler.grid).map_err(fault)?;
        }
        let recipe = Recipe { sampling, ..recipe.clone() };
        recipe.check_guidance()?;
        recipe.sampling.check(recipe.network.shape(), &recipe.objective.schedule)
    }
}
