//! A loss and what it is made of.

use burn::tensor::Tensor;

/// What a step minimises, with its parts for the log.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The mean over the batch, `[1]`, on the network's device, with gradients.
    pub total: Tensor<1>,
    /// Its parts by name, `[1]` each and without gradients, as they are logged: each batch of an objective has the same.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

impl Loss {
    /// The same with one more part.
    ///
    /// # Panics
    /// If a line of the log calls something else so: `step`, `loss`, `gradient_norm`, `learning_rate` and `skipped`.
    #[must_use]
    pub fn with(mut self, name: &'static str, term: Tensor<1>) -> Self {
        let taken = ["step", "loss", "gradient_norm", "learning_rate", "skipped"];
        assert!(!taken.contains(&name), "a term of a loss is called `{name}`, as something else in the log is");
        self.terms.push((name, term.detach()));
        self
    }
}

/// A loss of one part.
impl From<Tensor<1>> for Loss {
    fn from(total: Tensor<1>) -> Self {
        Self { total, terms: vec![] }
    }
}
