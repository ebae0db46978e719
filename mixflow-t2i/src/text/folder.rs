//! Where diffusers keeps an encoder and its vocabulary.

use std::path::Path;

use mixflow::backbones::weights::Weights;

use super::Tokenizer;
use crate::Error;

/// What weights are called, alone or in shards; the full precision is preferred to the half one.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
];

/// An encoder that waits in its file.
#[derive(Debug)]
pub(super) struct Stored<C> {
    pub(super) tokenizer: Tokenizer,
    pub(super) config: C,
    pub(super) weights: Weights,
}

impl<C> Stored<C> {
    /// Opens `encoder` and `vocabulary` in `folder`. `size` is the number of tokens that the encoder knows.
    pub(super) fn open(
        folder: &Path,
        encoder: &str,
        vocabulary: &str,
        read: impl FnOnce(&Path) -> Result<C, Error>,
        size: impl FnOnce(&C) -> usize,
    ) -> Result<Self, Error> {
        if let Some(name) = [encoder, vocabulary].iter().find(|name| !folder.join(name).is_dir()) {
            return Err(missing(folder, &[name]));
        }
        let tokenizer = Tokenizer::from_folder(folder.join(vocabulary))?;
        let folder = folder.join(encoder);
        let path = folder.join("config.json");
        let config = read(&path)?;
        let (highest, known) = (tokenizer.highest() as usize, size(&config));
        if highest >= known {
            let reason = format!("vocab_size: {known}, but `{vocabulary}` has a token of number {highest}");
            return Err(Error::config(&path, reason));
        }
        let file = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.exists());
        let weights = Weights::read(file.ok_or_else(|| missing(&folder, &WEIGHTS))?)?;
        Ok(Self { tokenizer, config, weights })
    }

    /// Bytes of the weights in memory, in `f32`.
    pub(super) fn memory(&self) -> u64 {
        self.weights.iter().map(|(_, tensor)| 4 * tensor.num_elements() as u64).sum()
    }
}

fn missing(folder: &Path, names: &[&str]) -> Error {
    Error::Missing { folder: folder.into(), names: names.iter().map(ToString::to_string).collect() }
}
