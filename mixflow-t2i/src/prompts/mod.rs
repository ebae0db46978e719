//! What a network is told of captions.
//!
//! The labels of a data set are numbers of captions, or of classes whose names are read as prompts. [`PromptTable`] is the
//! [`Conditioner`] that tells a network their embeddings.

mod table;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::data::{Conditioner, Error, HostCondition, check_labels};

use crate::TextEmbedding;

pub use table::PromptTable;

/// A label is the number of a prompt; the empty prompt stands for none, or zeros do, as the encoder has it.
impl Conditioner<TextEmbedding> for PromptTable {
    fn read(&self, labels: &[usize]) -> Result<HostCondition<TextEmbedding>, Error> {
        check_labels(labels, self.prompts())?;
        let prompts = self.read_rows(labels);
        let none = self.null_is_empty_prompt().then(|| self.read_rows(&[self.prompts()]));
        let parts = self.parts();
        Ok(Box::new(move |device| {
            let prompts = embedding(prompts, device).with_parts(parts);
            none.into_iter().fold(prompts, |prompts, none| prompts.with_negative(embedding(none, device)))
        }))
    }

    fn notices(&self) -> Vec<String> {
        self.notices().to_vec()
    }
}

fn embedding([tokens, pooled]: [TensorData; 2], device: &Device) -> TextEmbedding {
    TextEmbedding::new(Tensor::from_data(tokens, device), Tensor::from_data(pooled, device))
}
