//! Where diffusers keeps an encoder and its vocabulary.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::Precision;
use mixflow::backbones::weights::Weights;
use mixflow::files::WeightsFile;
use sha2::{Digest, Sha256};

use super::{Tokenizer, Tokens, Truncation};
use crate::{Error, TextEmbedding};

/// What weights are called, alone or in shards; the full precision is preferred to the half one.
const WEIGHTS: [&str; 5] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin",
];

/// Prompts that are in the networks at a time.
pub(super) const BATCH: usize = 8;

/// An encoder that waits in its file.
#[derive(Debug)]
pub(crate) struct EncoderFiles<C> {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) config: C,
    pub(crate) weights: Weights,
    /// All that it was opened from.
    pub(super) files: Vec<PathBuf>,
}

impl<C> EncoderFiles<C> {
    /// Opens `encoder` and `vocabulary` in `folder`. `size` is the number of tokens that the encoder knows.
    pub(crate) fn open(
        folder: &Path,
        encoder: &str,
        vocabulary: &str,
        read: impl FnOnce(&Path) -> Result<C, Error>,
        size: impl FnOnce(&C) -> usize,
    ) -> Result<Self, Error> {
        if let Some(name) = [encoder, vocabulary].iter().find(|name| !folder.join(name).is_dir()) {
            return Err(missing(folder, &[name]));
        }
        let vocabulary_folder = folder.join(vocabulary);
        let tokenizer = Tokenizer::from_folder(&vocabulary_folder)?;
        let folder = folder.join(encoder);
        let path = folder.join("config.json");
        let config = read(&path)?;
        let (highest, known) = (tokenizer.max_token_id() as usize, size(&config));
        if highest >= known {
            let reason = format!("vocab_size: {known}, but `{vocabulary}` has a token of number {highest}");
            return Err(Error::config(&path, reason));
        }
        let file = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.exists());
        let file = file.ok_or_else(|| missing(&folder, &WEIGHTS))?;
        let files = Tokenizer::FILES.iter().map(|name| vocabulary_folder.join(name)).filter(|path| path.exists());
        let files = files.chain([path]).chain(Weights::files(&file)?).collect();
        Ok(Self { tokenizer, config, weights: Weights::read(file)?, files })
    }

    /// With another number of tokens to a prompt.
    ///
    /// # Errors
    /// If there is no room for a token besides those that every prompt has.
    pub(crate) fn with_length(self, length: usize) -> Result<Self, Error> {
        Ok(Self { tokenizer: self.tokenizer.with_length(length)?, ..self })
    }

    /// Digests the names and contents of all files, each read once. Their folder is no part of it.
    pub(crate) fn digest(&self, digest: &mut Sha256) -> Result<(), Error> {
        for path in &self.files {
            let WeightsFile { file, sha256 } = WeightsFile::read(path)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            digest.update(format!("{name} {sha256}\n"));
        }
        Ok(())
    }

    /// The numbers of prompts' tokens, and where these are and no padding: `[batch, tokens]` each.
    pub(crate) fn tokenize(&self, prompts: &[&str], device: &Device) -> Result<[Tensor<2, Int>; 2], Error> {
        let length = self.tokenizer.length();
        let (mut token_ids, mut mask) = (vec![], vec![]);
        for prompt in prompts {
            let Tokens { ids, count, .. } = self.tokenizer.encode(prompt)?;
            token_ids.extend(ids.into_iter().map(i64::from));
            mask.extend((0..length).map(|token| i64::from(token < count)));
        }
        Ok([token_ids, mask].map(|all| Tensor::from_data(TensorData::new(all, [prompts.len(), length]), device)))
    }

    /// What of prompts does not fit, of the encoder of this name.
    pub(crate) fn truncations(&self, encoder: &'static str, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        let mut cuts = vec![];
        for (prompt, text) in prompts.iter().enumerate() {
            if let Some(start) = self.tokenizer.encode(text)?.cut {
                let unread = text.get(start..).unwrap_or_default().into();
                cuts.push(Truncation { prompt, encoder, tokens: self.tokenizer.length(), unread });
            }
        }
        Ok(cuts)
    }

    /// Bytes of the weights in memory, in `f32`.
    pub(super) fn memory(&self) -> u64 {
        self.weights.iter().map(|(_, tensor)| 4 * tensor.num_elements() as u64).sum()
    }
}

/// Tells `sink` of blocks of prompts: by networks that are read once, where there are several blocks and `read` finds room for them,
/// or else by `each`, which reads them anew.
pub(super) fn encode_blocks<N>(
    blocks: &[&[&str]],
    read: impl FnOnce() -> Result<Option<N>, Error>,
    once: impl Fn(&N, &[&str]) -> Result<TextEmbedding, Error>,
    each: impl Fn(&[&str]) -> Result<TextEmbedding, Error>,
    sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
) -> Result<(), Error> {
    if blocks.iter().any(|prompts| prompts.is_empty()) {
        return Err(Error::NoPrompts);
    }
    let networks = if blocks.len() > 1 { read()? } else { None };
    blocks.iter().try_for_each(|prompts| {
        sink(match &networks {
            Some(networks) => once(networks, prompts)?,
            None => each(prompts)?,
        })
    })
}

/// Refuses a precision of text encoders that `device` does not compute in.
pub(super) fn check_precision(precision: Precision, device: &Device) -> Result<(), Error> {
    if precision.is_supported(device) {
        return Ok(());
    }
    let device = mixflow::device::describe(device);
    let reason = format!("{device} does not compute in {precision}: leave out `precision` of the text encoders");
    Err(Error::config(Path::new("network.text"), reason))
}

/// What `network` says of rows of tokens `[rows, tokens]` and of where these are and no padding, [`BATCH`] at a time:
/// `[rows, tokens, width]`.
pub(super) fn in_batches(
    rows: [Tensor<2, Int>; 2],
    network: impl Fn(Tensor<2, Int>, Tensor<2, Int>) -> Tensor<3>,
) -> Tensor<3> {
    let [ids, mask] = rows.map(|rows| rows.split(BATCH, 0));
    Tensor::cat(ids.into_iter().zip(mask).map(|(ids, mask)| network(ids, mask)).collect(), 0)
}

/// Whether encoders of so many bytes in `f32` fit a device of so much memory, a quarter more than they take. On a GPU, whose memory is
/// not known and holds the network that is to be trained, they do not: they are read again for every block.
pub(super) fn have_room(bytes: u64, precision: Precision, memory: Option<u64>) -> bool {
    // Tables of tokens stay as they are: a twentieth.
    let bytes = if precision.is_full() { bytes } else { bytes * 11 / 20 };
    memory.is_some_and(|memory| bytes + bytes / 4 <= memory)
}

fn missing(folder: &Path, names: &[&str]) -> Error {
    Error::Missing { folder: folder.into(), names: names.iter().map(ToString::to_string).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_stay_where_there_is_room_for_them() {
        let room = |precision, memory| have_room(20_000, precision, memory);
        assert!(room(Precision::F32, Some(25_000)) && !room(Precision::F32, Some(24_999)));
        assert!(room(Precision::Bf16, Some(13_750)) && !room(Precision::Bf16, Some(13_749)));
        assert!(!room(Precision::Bf16, None));
    }
}
