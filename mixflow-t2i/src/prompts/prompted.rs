//! A network that is told prompts by their numbers.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;
use mixflow::backbones::{Backbone, ClassLabels};

use super::PromptTable;
use crate::TextEmbedding;

/// A network for text as one for class labels: a label is the number of a prompt, the null label is no prompt.
#[derive(Module, Debug)]
pub struct Prompted<B: Module> {
    /// The network for text.
    pub network: B,
    #[module(skip)]
    prompts: Arc<PromptTable>,
}

impl<B: Backbone<Condition = TextEmbedding>> Prompted<B> {
    /// `network` with these prompts.
    pub fn new(network: B, prompts: Arc<PromptTable>) -> Self {
        Self { network, prompts }
    }

    /// The same with another network made of its own.
    ///
    /// # Errors
    /// As `change`.
    pub fn try_map<E>(self, change: impl FnOnce(B) -> Result<B, E>) -> Result<Self, E> {
        Ok(Self { network: change(self.network)?, prompts: self.prompts })
    }
}

impl<B: Backbone<Condition = TextEmbedding> + ModuleDisplay> Backbone for Prompted<B> {
    type Condition = ClassLabels;

    /// # Panics
    /// If a label is beyond the prompts, or the table's file can no longer be read.
    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let labels: Vec<usize> = condition.labels.into_data().iter::<i64>().map(|label| label as usize).collect();
        let text = self.prompts.rows(&labels, &x.device());
        self.network.forward(x, time, text)
    }
}
