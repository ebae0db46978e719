//! What turns prompts into a condition.

use burn::tensor::{Int, Tensor};
use mixflow::backbones::Condition;

use super::Truncation;
use crate::embedding::EncoderSlice;
use crate::{Error, TextEmbedding};

/// An encoder of prompts. [`StableDiffusion3Encoders`](super::StableDiffusion3Encoders) are Stable Diffusion 3's; others are as short as this:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use mixflow_t2i::text::TextEncoder;
/// use mixflow_t2i::{Error, TextEmbedding};
///
/// /// How long a prompt is.
/// struct Lengths;
///
/// impl TextEncoder for Lengths {
///     fn identity(&self) -> Result<String, Error> {
///         Ok("lengths in bytes".into())
///     }
///
///     fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
///         let lengths: Vec<f32> = prompts.iter().map(|prompt| prompt.len() as f32).collect();
///         let pooled = Tensor::<1>::from_data(lengths.as_slice(), &Device::default()).reshape([-1, 1]);
///         Ok(TextEmbedding::new(pooled.clone().unsqueeze_dim(1), pooled))
///     }
/// }
/// # assert_eq!(Lengths.encode_with_negative(&["cat", "mouse"], "").unwrap().batch(), 2);
/// ```
pub trait TextEncoder {
    /// What tells this encoder from those that say something else of a prompt: settings, and the content of its files.
    /// Where these are is no part of it.
    ///
    /// # Errors
    /// If its files cannot be read.
    fn identity(&self) -> Result<String, Error>;

    /// What a network is told of `prompts`, a row for each, against zeros. What it says of a prompt does not depend on the
    /// others.
    ///
    /// # Errors
    /// [`Error::NoPrompts`] for none, and if the encoder cannot be read.
    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error>;

    /// Tells `sink` what [`encode`](Self::encode) says of many prompts, block after block in their order; provided: one call
    /// a block. An encoder that has to read weights reads them once for all blocks.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and what `sink` returns, which ends it.
    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        blocks.iter().try_for_each(|prompts| sink(self.encode(prompts)?))
    }

    /// What of `prompts` will not be read, because it does not fit; provided: nothing.
    ///
    /// # Errors
    /// If a prompt cannot be expressed.
    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        let _ = prompts;
        Ok(vec![])
    }

    /// Widths of a token and of what is pooled, if they are known before a prompt is read; provided: they are not.
    fn widths(&self) -> Option<[usize; 2]> {
        None
    }

    /// What each of several encoders says of a prompt, where there are several; provided: one says all.
    fn parts(&self) -> Vec<EncoderSlice> {
        vec![]
    }

    /// Whether the empty prompt stands for none, as the networks that are told so were trained; provided: yes. Otherwise zeros do.
    fn null_is_empty_prompt(&self) -> bool {
        true
    }

    /// The same against `negative`: the empty prompt, or what images shall not be like. Where the empty prompt does not
    /// [stand for none](Self::null_is_empty_prompt), it is against zeros.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_with_negative(&self, prompts: &[&str], negative: &str) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        if negative.is_empty() && !self.null_is_empty_prompt() {
            return self.encode(prompts);
        }
        let all = self.encode(&[prompts, &[negative]].concat())?;
        let device = all.pooled.device();
        let count = prompts.len() as i64;
        let rows = |range| all.clone().select(Tensor::<1, Int>::arange(range, &device));
        Ok(rows(0..count).with_negative(rows(count..count + 1)))
    }
}
