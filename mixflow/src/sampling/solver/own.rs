use std::sync::Arc;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{NoiseSource, SampleError, Solver};
use crate::sampling::Flow;

/// A solver of a program's own where a recipe names one:
/// `recipe.sampling.sampler.solver = OwnSolver::new("Adams–Bashforth 2", AdamsBashforth2).into()`.
///
/// In JSON it is its name, `{"kind": "own", "name": "Adams–Bashforth 2"}`. Whoever reads that puts the solver into the recipe
/// again: training goes on without, sampling is refused. Two of one name are taken for the same, so that a name tells
/// settings too. How often it asks the network is known once it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSolver {
    name: String,
    #[serde(skip)]
    solver: Option<Arc<dyn Solver>>,
}

impl OwnSolver {
    /// `name` is what reports and files call it.
    pub fn new(name: impl Into<String>, solver: impl Solver + 'static) -> Self {
        Self { name: name.into(), solver: Some(Arc::new(solver)) }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The solver itself.
    ///
    /// # Errors
    /// If this was read from a file, and nobody has put the solver into it.
    pub fn solver(&self) -> Result<&dyn Solver, SampleError> {
        self.solver.as_deref().ok_or_else(|| SampleError::NoSolver { name: self.name.clone() })
    }
}

impl PartialEq for OwnSolver {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Solver for OwnSolver {
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        noise: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        self.solver()?.solve(flow, x, times, noise, visit)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::Error;
    use crate::compare::check_sampling;
    use crate::data::Classes;
    use crate::recipe::Recipe;
    use crate::sampling::solver::Heun;

    #[test]
    fn a_recipe_samples_with_it_and_says_so_and_a_file_of_it_needs_it_again() {
        let changes = ["network.width=24", "network.depth=1", "sampling.grid.steps=2"].map(String::from);
        let recipe = Recipe::read("digits", &changes).unwrap();
        let network = recipe.network.init(0, &Device::default());
        let images = |recipe: &Recipe| recipe.generator(&network, &Classes(10)).images(&[3, 7], 0);
        let mut own = recipe.clone();
        own.sampling.sampler.solver = OwnSolver::new("mine", Heun).into();
        assert_eq!(images(&own).unwrap(), images(&recipe).unwrap(), "digits samples with Heun");
        assert_eq!((own.sampling.describe().as_str(), own.sampling.evaluations()), ("mine", None));

        let read = Recipe::from_value(own.to_value()).unwrap();
        assert_eq!(own.to_value()["sampling"]["solver"], serde_json::json!({ "kind": "own", "name": "mine" }));
        assert_eq!(read, own);
        assert_eq!(check_sampling(&own, &[]).ok(), Some(()));
        for error in [images(&read).unwrap_err(), check_sampling(&read, &[]).unwrap_err()] {
            assert!(matches!(&error, Error::Sample(SampleError::NoSolver { name }) if name == "mine"), "{error}");
        }
    }
}
