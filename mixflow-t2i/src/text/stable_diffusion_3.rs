//! The three text encoders of Stable Diffusion 3 together.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::Precision;
use mixflow::known_memory;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::encoder_files::{BATCH, EncoderFiles, check_precision, encode_blocks, have_room};
use super::stream::cast_blocks;
use super::{ClipConfig, ClipTextModel, T5, T5Config, TextEncoder, Truncation, config};
use crate::embedding::EncoderSlice;
use crate::{Error, TextEmbedding};

/// CLIP-L, bigG of `OpenCLIP` and T5, each waiting in its file.
///
/// A prompt's tokens are those of both CLIPs, side by side and filled with zeros up to the width of T5, and after them
/// those of T5. Its pooled vector is that of both CLIPs, projected.
///
/// [`encode`](TextEncoder::encode) reads the encoders one after another, T5 layer after layer, and forgets them again, so
/// that the most in memory is bigG: 2.8 GB in `f32`. That takes as long as reading 11 GB (half precision) or 22 GB does.
/// [`encode_blocks`](TextEncoder::encode_blocks) of more than one block reads them once and keeps all three, 22 GB; where
/// the device has less memory, or it is not known how much, it is `encode` for every block.
///
/// # Source
/// Hugging Face diffusers 0.39.0, `StableDiffusion3Pipeline.encode_prompt`. Stability's own code,
/// `Stability-AI/sd3.5`, differs: its pooled vector of CLIP-L is not projected, and T5 has 77 tokens unless a prompt has
/// more.
#[derive(Debug)]
pub struct StableDiffusion3Encoders {
    clip_l: EncoderFiles<ClipConfig>,
    clip_g: EncoderFiles<ClipConfig>,
    t5: Option<EncoderFiles<T5Config>>,
    /// Tokens of T5, and its width, whether it is there or not.
    length: usize,
    width: usize,
    precision: Precision,
    device: Device,
}

/// Tokens and pooled vectors of a CLIP.
type ClipSays = (Tensor<3>, Tensor<2>);

impl StableDiffusion3Encoders {
    /// T5's tokens of a prompt in diffusers, unless one asks for others.
    pub const T5_LENGTH: usize = 256;

    /// Opens a folder of Stable Diffusion 3 or 3.5 as diffusers writes it: `text_encoder`, `text_encoder_2` and
    /// `text_encoder_3`, with `tokenizer`, `tokenizer_2` and `tokenizer_3`. Prompts will be encoded on `device`.
    ///
    /// Where there is no `text_encoder_3`, zeros stand for what T5 would say, as wide as `transformer/config.json` says, or
    /// 4096 numbers where there is none. Weights are in one file or in shards, in any precision; those of the variant
    /// `fp16` are taken where there are no others.
    ///
    /// # Errors
    /// If something is missing or damaged, or weights are not those of their configuration. No value is read for that.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let clip = |encoder, vocabulary| {
            let stored = EncoderFiles::open(
                folder,
                encoder,
                vocabulary,
                |path| ClipConfig::read(path),
                |config| config.vocab_size,
            )?;
            stored.config.init(device).check(&stored.weights)?;
            Ok::<_, Error>(stored)
        };
        let (clip_l, clip_g) = (clip("text_encoder", "tokenizer")?, clip("text_encoder_2", "tokenizer_2")?);
        // Both read as many tokens as the first.
        let positions = clip_l.config.max_position_embeddings.min(clip_g.config.max_position_embeddings);
        let length = clip_l.tokenizer.length().min(positions);
        let [clip_l, clip_g] = [clip_l.with_length(length)?, clip_g.with_length(length)?];

        let (path, key) = (folder.join("text_encoder_3"), "text_encoder_3/config.json: d_model");
        let (t5, width, key) = if path.exists() {
            let read = |path: &Path| T5Config::read(path);
            let stored = EncoderFiles::open(folder, "text_encoder_3", "tokenizer_3", read, |config| config.vocab_size)?;
            stored.config.init(device).check(&stored.weights)?;
            let width = stored.config.d_model;
            (Some(stored), width, key)
        } else {
            (
                None,
                transformer_width(&folder.join("transformer/config.json"))?,
                "transformer/config.json: joint_attention_dim",
            )
        };
        let widths = [clip_l.config.hidden_size, clip_g.config.hidden_size];
        if widths.iter().sum::<usize>() > width {
            let reason = format!("{key}: {width} is less than the widths of both CLIPs, {widths:?}, together");
            return Err(Error::config(folder, reason));
        }
        let (precision, device) = (Precision::F32, device.clone());
        Self { clip_l, clip_g, t5, length: 0, width, precision, device }.with_t5_length(Self::T5_LENGTH)
    }

    /// With the weights of attention and perceptrons in this precision, which are most of them: in `bf16` half the memory. The
    /// CPU widens them for each product, which takes longer.
    ///
    /// # Errors
    /// If the device does not compute so.
    pub fn in_precision(self, precision: Precision) -> Result<Self, Error> {
        check_precision(precision, &self.device)?;
        Ok(Self { precision, ..self })
    }

    /// With another number of tokens of T5, instead of [`T5_LENGTH`](Self::T5_LENGTH).
    ///
    /// # Errors
    /// If there is no room for a token besides the end token.
    pub fn with_t5_length(self, length: usize) -> Result<Self, Error> {
        let t5 = self.t5.map(|t5| t5.with_length(length)).transpose()?;
        Ok(Self { t5, length, ..self })
    }

    /// Without T5, which takes most of the time: zeros stand for what it would say.
    #[must_use]
    pub fn without_t5(self) -> Self {
        Self { t5: None, ..self }
    }

    /// What a CLIP says of prompts.
    fn clip(
        &self,
        stored: &EncoderFiles<ClipConfig>,
        network: &ClipTextModel,
        prompts: &[&str],
    ) -> Result<ClipSays, Error> {
        let ids = self.token_ids(stored, prompts)?;
        let outputs = ids.split(BATCH, 0).into_iter().map(|ids| network.forward(ids));
        let (tokens, pooled) = outputs.map(|output| (output.penultimate, output.projected)).unzip();
        Ok((Tensor::cat(tokens, 0), Tensor::cat(pooled, 0)))
    }

    /// A CLIP with its values.
    fn read_clip(&self, stored: &EncoderFiles<ClipConfig>) -> Result<ClipTextModel, Error> {
        Ok(cast_blocks(stored.config.init(&self.device).load(stored.weights.clone())?, self.precision))
    }

    /// Side by side, and T5's tokens after them: zeros where there is none.
    fn join(&self, clip_l: ClipSays, clip_g: ClipSays, t5: Option<Tensor<3>>) -> TextEmbedding {
        let ((tokens_l, pooled_l), (tokens_g, pooled_g)) = (clip_l, clip_g);
        let [batch, length, width] = tokens_l.dims();
        let rest = Tensor::zeros([batch, length, self.width - width - tokens_g.dims()[2]], &self.device);
        let clip = Tensor::cat(vec![tokens_l, tokens_g, rest], 2); // [batch, tokens, width of T5]
        let t5 = t5.unwrap_or_else(|| Tensor::zeros([batch, self.length, self.width], &self.device));
        TextEmbedding::new(Tensor::cat(vec![clip, t5], 1), Tensor::cat(vec![pooled_l, pooled_g], 1))
    }

    /// All three with their values, if there is room.
    fn read(&self) -> Result<Option<(ClipTextModel, ClipTextModel, Option<T5>)>, Error> {
        let bytes = self.clip_l.memory() + self.clip_g.memory() + self.t5.as_ref().map_or(0, EncoderFiles::memory);
        if !have_room(bytes, self.precision, known_memory(&self.device)) {
            return Ok(None);
        }
        let t5 = self.t5.as_ref().map(|t5| t5.config.init(&self.device).load_in(t5.weights.clone(), self.precision));
        Ok(Some((self.read_clip(&self.clip_l)?, self.read_clip(&self.clip_g)?, t5.transpose()?)))
    }

    /// The numbers of prompts' tokens, `[batch, tokens]`.
    fn token_ids<C>(&self, stored: &EncoderFiles<C>, prompts: &[&str]) -> Result<Tensor<2, Int>, Error> {
        let [ids, _] = stored.tokenize(prompts, &self.device)?;
        Ok(ids)
    }
}

impl TextEncoder for StableDiffusion3Encoders {
    /// SHA-256 of the names and contents of all files, and of the shape of what is said. Takes as long as reading them.
    fn identity(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.clip_l.digest(&mut digest)?;
        self.clip_g.digest(&mut digest)?;
        if let Some(t5) = &self.t5 {
            t5.digest(&mut digest)?;
        }
        let Self { length, width, .. } = self;
        digest.update(format!("{length} tokens of T5, width {width}"));
        if !self.precision.is_full() {
            digest.update(format!(", in {}", self.precision));
        }
        Ok(hex::encode(digest.finalize()))
    }

    /// CLIP-L, bigG and T5, in this order.
    fn parts(&self) -> Vec<EncoderSlice> {
        let (l, g, length) = (&self.clip_l.config, &self.clip_g.config, self.clip_l.tokenizer.length());
        let [width, pooled] = [l.hidden_size, l.projection_dim];
        let clip = |channels, pooled| EncoderSlice { tokens: 0..length, channels, pooled };
        vec![
            clip(0..width, 0..pooled),
            clip(width..width + g.hidden_size, pooled..pooled + g.projection_dim),
            EncoderSlice { tokens: length..length + self.length, channels: 0..self.width, pooled: 0..0 },
        ]
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        let clip = |stored| self.clip(stored, &self.read_clip(stored)?, prompts);
        let (clip_l, clip_g) = (clip(&self.clip_l)?, clip(&self.clip_g)?);
        let t5 = self.t5.as_ref().map(|t5| {
            let ids = self.token_ids(t5, prompts)?;
            t5.config.init(&self.device).stream(t5.weights.clone(), ids, None, BATCH, self.precision)
        });
        Ok(self.join(clip_l, clip_g, t5.transpose()?))
    }

    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let once = |(clip_l, clip_g, t5): &(ClipTextModel, ClipTextModel, Option<T5>), prompts: &[&str]| {
            let t5 = self.t5.as_ref().zip(t5.as_ref()).map(|(stored, network)| {
                let rows = self.token_ids(stored, prompts)?.split(BATCH, 0).into_iter().map(|ids| network.forward(ids));
                Ok::<_, Error>(Tensor::cat(rows.collect(), 0))
            });
            let (clip_l, clip_g) =
                (self.clip(&self.clip_l, clip_l, prompts)?, self.clip(&self.clip_g, clip_g, prompts)?);
            Ok(self.join(clip_l, clip_g, t5.transpose()?))
        };
        encode_blocks(blocks, || self.read(), once, |prompts| self.encode(prompts), sink)
    }

    fn widths(&self) -> Option<[usize; 2]> {
        Some([self.width, self.clip_l.config.projection_dim + self.clip_g.config.projection_dim])
    }

    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        let [l, g] =
            [("CLIP-L", &self.clip_l), ("CLIP-G", &self.clip_g)].map(|(name, clip)| clip.truncations(name, prompts));
        let t5 = self.t5.as_ref().map(|t5| t5.truncations("T5", prompts)).transpose()?;
        Ok([l?, g?, t5.unwrap_or_default()].concat())
    }
}

/// The width of the tokens that a transformer attends to, as its configuration says; that of all published ones where
/// there is none.
fn transformer_width(path: &Path) -> Result<usize, Error> {
    #[derive(Deserialize)]
    struct Transformer {
        joint_attention_dim: usize,
    }
    if !path.exists() {
        return Ok(4096);
    }
    let Transformer { joint_attention_dim } = config::read(path)?;
    config::sizes(path, config::WIDEST, &[("joint_attention_dim", joint_attention_dim)])?;
    Ok(joint_attention_dim)
}
