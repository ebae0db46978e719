//! The text encoder of Z-Image.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::Precision;
use mixflow::known_memory;
use sha2::{Digest, Sha256};

use super::attention_bias::zeros_for_padding;
use super::encoder_files::{BATCH, EncoderFiles, check_precision, encode_blocks, have_room, in_batches};
use super::{Qwen3, Qwen3Config, TextEncoder, Truncation};
use crate::{Error, TextEmbedding};

/// Qwen3, which is told a prompt as a chat with it begins, and read at its last block but one; where it has no token of a prompt it
/// says zeros.
///
/// The empty prompt stands for none. [`encode`](TextEncoder::encode) reads Qwen3 block after block and forgets it again;
/// [`encode_blocks`](TextEncoder::encode_blocks) of more than one block of prompts reads it once and keeps it, 16 GB of Qwen3-4B in
/// `f32`, where the device is known to have the memory.
///
/// # Source
/// Hugging Face diffusers 0.42.1, `ZImagePipeline.encode_prompt`.
#[derive(Debug)]
pub struct ZImageEncoder {
    stored: EncoderFiles<Qwen3Config>,
    precision: Precision,
    device: Device,
}

impl ZImageEncoder {
    /// Tokens of a prompt in diffusers, those of the chat among them, unless one asks for others.
    pub const LENGTH: usize = 512;

    /// Opens a folder of Z-Image as diffusers writes it: `text_encoder` and `tokenizer`. Prompts will be encoded on `device`.
    ///
    /// # Errors
    /// If something is missing or damaged, or weights are not those of their configuration. No value is read for that.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let read = |path: &Path| Qwen3Config::read(path);
        let stored =
            EncoderFiles::open(folder.as_ref(), "text_encoder", "tokenizer", read, |config| config.vocab_size)?;
        stored.config.init(device).check(&stored.weights)?;
        Self { stored, precision: Precision::F32, device: device.clone() }.with_length(Self::LENGTH)
    }

    /// With another number of tokens to a prompt.
    ///
    /// # Errors
    /// If there is no room for a token besides those of the chat.
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

    /// The state that is read.
    fn hidden_layer_index(&self) -> usize {
        self.stored.config.num_hidden_layers - 1
    }

    /// What `network` says of prompts, zeros behind them. Only as many tokens are run as the longest prompt has: none sees those after
    /// it.
    fn embed_with(
        &self,
        prompts: &[&str],
        network: impl FnOnce([Tensor<2, Int>; 2]) -> Result<Tensor<3>, Error>,
    ) -> Result<TextEmbedding, Error> {
        let [ids, mask] = self.stored.tokenize(prompts, &self.device)?;
        let longest = mask.clone().sum_dim(1).max().into_scalar::<i64>() as usize;
        let [ids, mask] = [ids, mask].map(|all| all.narrow(1, 0, longest));
        let tokens = network([ids, mask.clone()])?;
        let [batch, _, width] = tokens.dims();
        let none = Tensor::zeros([batch, self.stored.tokenizer.length() - longest, width], &self.device);
        Ok(TextEmbedding::of_tokens(Tensor::cat(vec![zeros_for_padding(tokens, mask), none], 1)))
    }
}

impl TextEncoder for ZImageEncoder {
    fn identity(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.stored.digest(&mut digest)?;
        digest.update(format!("{} tokens of Qwen3 for Z-Image, in {}", self.stored.tokenizer.length(), self.precision));
        Ok(hex::encode(digest.finalize()))
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.stored.config.hidden_size, 1])
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        let EncoderFiles { config, weights, .. } = &self.stored;
        let network = config.init(&self.device);
        self.embed_with(prompts, |told| {
            network.stream(weights.clone(), self.hidden_layer_index(), told, BATCH, self.precision)
        })
    }

    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = || {
            let EncoderFiles { config, weights, .. } = &self.stored;
            if !have_room(self.stored.memory(), self.precision, known_memory(&self.device)) {
                return Ok(None);
            }
            Ok(Some(config.init(&self.device).load_in(weights.clone(), self.precision)?))
        };
        let once = |network: &Qwen3, prompts: &[&str]| {
            self.embed_with(prompts, |told| {
                Ok(in_batches(told, |ids, mask| network.hidden_state(self.hidden_layer_index(), ids, Some(mask))))
            })
        };
        encode_blocks(blocks, read, once, |prompts| self.encode(prompts), sink)
    }

    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        self.stored.truncations("Qwen3", prompts)
    }
}
