//! Class labels as vectors.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use crate::init::Initializer;

/// A learned vector a class, and one for no class.
#[derive(Module, Debug)]
pub struct LabelEmbedding {
    /// The table, under the name that published checkpoints give it.
    pub embedding_table: LabelTable,
}

/// The rows of a [`LabelEmbedding`].
#[derive(Module, Debug)]
pub struct LabelTable {
    /// `[labels, width]`
    pub weight: Param<Tensor<2>>,
}

impl LabelEmbedding {
    /// `labels` rows drawn from `N(0, 0.02²)`, the null label included.
    pub fn new(labels: usize, width: usize, init: &Initializer) -> Self {
        Self { embedding_table: LabelTable { weight: init.normal([labels, width], 0.02) } }
    }

    /// # Shapes
    /// - labels: `[batch]`
    /// - output: `[batch, width]`
    pub fn forward(&self, labels: Tensor<1, Int>) -> Tensor<2> {
        self.embedding_table.weight.val().select(0, labels)
    }
}
