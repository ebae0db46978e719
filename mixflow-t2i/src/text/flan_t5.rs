//! The text encoder of MiniT2I.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::Precision;
use sha2::{Digest, Sha256};

use super::attention_bias::zeros_for_padding;
use super::encoder_files::{BATCH, EncoderFiles, check_precision, encode_blocks, in_batches};
use super::{T5, T5Config, TextEncoder, Truncation};
use crate::{Error, TextEmbedding};

/// FLAN-T5, or another T5 of version 1.1, that does not see padding; where it has no token of a prompt it says zeros.
///
/// Zeros stand for no prompt too. The empty prompt is one, of the end token alone.
///
/// # Source
/// `Hope7Happiness/minit2i-torch` at e54e15d, `diffusers/pipeline.py`, `_encode_prompt`.
#[derive(Debug)]
pub struct FlanT5 {
    stored: EncoderFiles<T5Config>,
    precision: Precision,
    device: Device,
}

impl FlanT5 {
    /// Tokens of a prompt that MiniT2I was trained with.
    pub const LENGTH: usize = 256;

    /// Opens the files of `google/flan-t5-large` in a folder, or in `text_encoder` and `tokenizer` of it; its weights are read
    /// when it is used, each time, layer after layer. Prompts will have [`LENGTH`](Self::LENGTH) tokens, on `device`.
    ///
    /// # Errors
    /// If something is missing or damaged, or weights are not those of their configuration. No value is read for that.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let [encoder, vocabulary] = match folder.join("text_encoder").is_dir() {
            true => ["text_encoder", "tokenizer"],
            false if folder.join("config.json").is_file() => [".", "."],
            false => {
                let names = vec!["text_encoder with tokenizer".into(), "the files of google/flan-t5-large".into()];
                return Err(Error::Missing { folder: folder.into(), names });
            }
        };
        let read = |path: &Path| T5Config::read(path);
        let stored = EncoderFiles::open(folder, encoder, vocabulary, read, |config| config.vocab_size)?;
        stored.config.init(device).check(&stored.weights)?;
        Self { stored, precision: Precision::F32, device: device.clone() }.with_length(Self::LENGTH)
    }

    /// With another number of tokens to a prompt.
    ///
    /// # Errors
    /// If there is no room for a token besides the end token.
    pub fn with_length(self, length: usize) -> Result<Self, Error> {
        Ok(Self { stored: self.stored.with_length(length)?, ..self })
    }

    /// With the weights of its layers in this precision: in `bf16` half the memory.
    ///
    /// # Errors
    /// If the device does not compute so.
    pub fn in_precision(self, precision: Precision) -> Result<Self, Error> {
        check_precision(precision, &self.device)?;
        Ok(Self { precision, ..self })
    }

    /// What `network` says of prompts, padding left out.
    fn embed_with(
        &self,
        prompts: &[&str],
        network: impl FnOnce([Tensor<2, Int>; 2]) -> Result<Tensor<3>, Error>,
    ) -> Result<TextEmbedding, Error> {
        let [ids, mask] = self.stored.tokenize(prompts, &self.device)?;
        let tokens = network([ids, mask.clone()])?;
        Ok(TextEmbedding::of_tokens(zeros_for_padding(tokens, mask)))
    }
}

impl TextEncoder for FlanT5 {
    fn identity(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.stored.digest(&mut digest)?;
        digest.update(format!("{} tokens without padding, in {}", self.stored.tokenizer.length(), self.precision));
        Ok(hex::encode(digest.finalize()))
    }

    fn null_is_empty_prompt(&self) -> bool {
        false
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.stored.config.d_model, 1])
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        let EncoderFiles { config, weights, .. } = &self.stored;
        let network = config.init(&self.device);
        self.embed_with(prompts, |[ids, mask]| network.stream(weights.clone(), ids, Some(mask), BATCH, self.precision))
    }

    /// Reads the weights once for all blocks.
    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = || {
            let EncoderFiles { config, weights, .. } = &self.stored;
            Ok(Some(config.init(&self.device).load_in(weights.clone(), self.precision)?))
        };
        let once = |network: &T5, prompts: &[&str]| {
            self.embed_with(prompts, |told| Ok(in_batches(told, |ids, mask| network.forward_masked(ids, Some(mask)))))
        };
        encode_blocks(blocks, read, once, |prompts| self.encode(prompts), sink)
    }

    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        self.stored.truncations("T5", prompts)
    }
}
