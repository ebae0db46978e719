//! The two text encoders of FLUX.1 together.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::Precision;
use mixflow::known_memory;
use sha2::{Digest, Sha256};

use super::encoder_files::{BATCH, EncoderFiles, check_precision, encode_blocks, have_room};
use super::stream::cast_blocks;
use super::{ClipConfig, ClipTextModel, T5, T5Config, TextEncoder, Truncation};
use crate::embedding::EncoderSlice;
use crate::{Error, TextEmbedding};

/// CLIP-L and T5, each waiting in its file. A prompt's tokens are those of T5, which sees padding; its pooled vector is CLIP's,
/// not projected.
///
/// [`encode`](TextEncoder::encode) reads T5 layer after layer and forgets it again; [`encode_blocks`](TextEncoder::encode_blocks)
/// of more than one block reads both once and keeps them, 20 GB, where the device is known to have the memory.
///
/// # Source
/// Hugging Face diffusers 0.42.1, `FluxPipeline.encode_prompt`.
#[derive(Debug)]
pub struct FluxEncoders {
    clip: EncoderFiles<ClipConfig>,
    t5: EncoderFiles<T5Config>,
    precision: Precision,
    device: Device,
}

impl FluxEncoders {
    /// T5's tokens of a prompt of FLUX.1-dev, unless one asks for others.
    pub const T5_LENGTH: usize = 512;

    /// Those of FLUX.1-schnell.
    pub const SCHNELL_T5_LENGTH: usize = 256;

    /// Opens a folder of FLUX.1 as diffusers writes it: `text_encoder` and `text_encoder_2`, with `tokenizer` and `tokenizer_2`.
    /// Prompts will be encoded on `device`.
    ///
    /// # Errors
    /// If something is missing or damaged, or weights are not those of their configuration. No value is read for that.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let read = |path: &Path| ClipConfig::read(path);
        let mut clip = EncoderFiles::open(folder, "text_encoder", "tokenizer", read, |config| config.vocab_size)?;
        clip.config.init(device).without_projection().check(&clip.weights)?;
        let length = clip.tokenizer.length().min(clip.config.max_position_embeddings);
        clip = clip.with_length(length)?;
        let read = |path: &Path| T5Config::read(path);
        let t5 = EncoderFiles::open(folder, "text_encoder_2", "tokenizer_2", read, |config| config.vocab_size)?;
        t5.config.init(device).check(&t5.weights)?;
        Self { clip, t5, precision: Precision::F32, device: device.clone() }.with_t5_length(Self::T5_LENGTH)
    }

    /// With another number of tokens of T5, instead of [`T5_LENGTH`](Self::T5_LENGTH).
    ///
    /// # Errors
    /// If there is no room for a token besides the end token.
    pub fn with_t5_length(self, length: usize) -> Result<Self, Error> {
        Ok(Self { t5: self.t5.with_length(length)?, ..self })
    }

    /// With the weights of attention and perceptrons in this precision: in `bf16` half the memory.
    ///
    /// # Errors
    /// If the device does not compute so.
    pub fn in_precision(self, precision: Precision) -> Result<Self, Error> {
        check_precision(precision, &self.device)?;
        Ok(Self { precision, ..self })
    }

    /// CLIP with its values.
    fn read_clip(&self) -> Result<ClipTextModel, Error> {
        let network = self.clip.config.init(&self.device).without_projection();
        Ok(cast_blocks(network.load(self.clip.weights.clone())?, self.precision))
    }

    /// What both say of prompts; `t5` is given the numbers of their tokens.
    fn embed_with(
        &self,
        prompts: &[&str],
        clip: &ClipTextModel,
        t5: impl FnOnce(Tensor<2, Int>) -> Result<Tensor<3>, Error>,
    ) -> Result<TextEmbedding, Error> {
        let [ids, _] = self.clip.tokenize(prompts, &self.device)?;
        let pooled = ids.split(BATCH, 0).into_iter().map(|ids| clip.forward(ids).pooled);
        let [ids, _] = self.t5.tokenize(prompts, &self.device)?;
        Ok(TextEmbedding::new(t5(ids)?, Tensor::cat(pooled.collect(), 0)))
    }
}

impl TextEncoder for FluxEncoders {
    /// SHA-256 of the names and contents of all files, and of the shape of what is said. Takes as long as reading them.
    fn identity(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.clip.digest(&mut digest)?;
        self.t5.digest(&mut digest)?;
        digest.update(format!("{} tokens of T5 for FLUX.1, in {}", self.t5.tokenizer.length(), self.precision));
        Ok(hex::encode(digest.finalize()))
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.t5.config.d_model, self.clip.config.hidden_size])
    }

    /// CLIP says the prompt as a whole, T5 its tokens.
    fn parts(&self) -> Vec<EncoderSlice> {
        let (tokens, [width, pooled]) =
            (self.t5.tokenizer.length(), [self.t5.config.d_model, self.clip.config.hidden_size]);
        let part =
            |tokens, channels, pooled| EncoderSlice { tokens: 0..tokens, channels: 0..channels, pooled: 0..pooled };
        vec![part(0, 0, pooled), part(tokens, width, 0)]
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        let EncoderFiles { config, weights, .. } = &self.t5;
        self.embed_with(prompts, &self.read_clip()?, |ids| {
            config.init(&self.device).stream(weights.clone(), ids, None, BATCH, self.precision)
        })
    }

    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = || {
            let bytes = self.clip.memory() + self.t5.memory();
            if !have_room(bytes, self.precision, known_memory(&self.device)) {
                return Ok(None);
            }
            let EncoderFiles { config, weights, .. } = &self.t5;
            let t5 = config.init(&self.device).load_in(weights.clone(), self.precision)?;
            Ok(Some((self.read_clip()?, t5)))
        };
        let once = |(clip, t5): &(ClipTextModel, T5), prompts: &[&str]| {
            let rows = |ids: Tensor<2, Int>| ids.split(BATCH, 0).into_iter().map(|ids| t5.forward(ids)).collect();
            self.embed_with(prompts, clip, |ids| Ok(Tensor::cat(rows(ids), 0)))
        };
        encode_blocks(blocks, read, once, |prompts| self.encode(prompts), sink)
    }

    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        Ok([self.clip.truncations("CLIP-L", prompts)?, self.t5.truncations("T5", prompts)?].concat())
    }
}
