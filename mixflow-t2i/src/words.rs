//! Prompts as words without meaning of their own.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::Invalid;
use mixflow::random::{self, Stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::Cut;
use crate::{Error, TextEmbedding, TextEncoder};

/// A text encoder that needs no weights: every word is a vector of its own, drawn once and for all.
///
/// Nothing is known of meanings or of grammar: a network that is trained with it learns both from its data. Made for small
/// networks that are trained from nothing; published ones were trained with other encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Width of a token and of the pooled prompt.
    pub width: usize,
    /// Tokens of a prompt: later words are left out, missing ones are zeros.
    pub tokens: usize,
}

impl Words {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        for (name, value) in [("width", self.width), ("tokens", self.tokens)] {
            if !(1..=65_536).contains(&value) {
                return Err(Invalid::new(name, format!("must be from 1 to 65536, found {value}")));
            }
        }
        Ok(())
    }

    /// The vector of a word, normally distributed.
    fn vector(&self, word: &str) -> Vec<f32> {
        let hash: [u8; 32] = Sha256::digest(word).into();
        let seed = u64::from_le_bytes(std::array::from_fn(|i| hash[i]));
        let mut vector = vec![0.0; self.width];
        random::normal(&mut random::rng(seed, Stream::Words, 0), &mut vector);
        vector
    }
}

/// The words of a prompt in lower case, without punctuation around them.
fn words(prompt: &str) -> impl Iterator<Item = String> {
    prompt
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
}

/// What stands in a prompt from its `n`-th word on, if there are so many.
fn from_word(prompt: &str, n: usize) -> Option<&str> {
    let mut words = prompt.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
    let start = words.nth(n)?.as_ptr() as usize - prompt.as_ptr() as usize;
    Some(&prompt[start..])
}

/// Tokens are the words' vectors in their order; pooled they are the sum of all over the root of their number.
impl TextEncoder for Words {
    fn identity(&self) -> Result<String, Error> {
        let Self { width, tokens } = self;
        Ok(format!("words of width {width}, {tokens} tokens"))
    }

    fn cuts(&self, prompts: &[&str]) -> Result<Vec<Cut>, Error> {
        let cut = |(prompt, text): (usize, &&str)| {
            let unread = from_word(text, self.tokens)?.into();
            Some(Cut { prompt, encoder: "words", tokens: self.tokens, unread })
        };
        Ok(prompts.iter().enumerate().filter_map(cut).collect())
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        if prompts.is_empty() {
            return Err(Error::NoPrompts);
        }
        let (width, length) = (self.width, self.tokens);
        let mut tokens = vec![0.0; prompts.len() * length * width];
        let mut pooled = vec![0.0; prompts.len() * width];
        for (row, prompt) in prompts.iter().enumerate() {
            let vectors: Vec<Vec<f32>> = words(prompt).take(length).map(|word| self.vector(&word)).collect();
            let scale = (vectors.len().max(1) as f32).sqrt().recip();
            for (place, vector) in vectors.iter().enumerate() {
                tokens[(row * length + place) * width..][..width].copy_from_slice(vector);
                pooled[row * width..][..width].iter_mut().zip(vector).for_each(|(sum, value)| *sum += scale * value);
            }
        }
        // Moved by whoever asks to where the network is.
        let device = Device::flex();
        let tokens = Tensor::from_data(TensorData::new(tokens, [prompts.len(), length, width]), &device);
        Ok(TextEmbedding::new(tokens, Tensor::from_data(TensorData::new(pooled, [prompts.len(), width]), &device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words { width: 4, tokens: 3 };

    /// Tokens and pooled numbers of a prompt.
    fn numbers(prompt: &str) -> (Vec<f32>, Vec<f32>) {
        let text = WORDS.encode(&[prompt]).unwrap();
        (text.tokens.into_data().iter().collect(), text.pooled.into_data().iter().collect())
    }

    #[test]
    fn a_word_is_the_same_wherever_it_stands() {
        let ((one, _), (two, _)) = (numbers("a RED circle"), numbers("red, star!"));
        assert_eq!(one[4..8], two[0..4]);
        assert_ne!(one[8..12], two[4..8]);
        assert_eq!(two[8..], [0.0; 4]);
        // A number that another platform has to draw as well.
        assert_eq!(WORDS.vector("red"), WORDS.vector("red"));
        assert_ne!(WORDS.vector("red"), WORDS.vector("Red"));
    }

    #[test]
    fn no_prompts_are_an_error_and_the_empty_one_is_a_prompt() {
        for none in [WORDS.encode(&[]), WORDS.encode_against(&[], "")] {
            assert!(none.unwrap_err().to_string().contains("at least one prompt"));
        }
        assert_eq!(WORDS.encode_against(&[""], "").unwrap().batch(), 1);
    }

    #[test]
    fn no_words_are_zeros_and_too_many_are_cut() {
        assert_eq!(numbers(" — "), (vec![0.0; 12], vec![0.0; 4]));
        assert_eq!(numbers("one two three four"), numbers("one two three"));
        let cuts = WORDS.cuts(&["one — two three", "one, two (three) four, five"]).unwrap();
        let told: Vec<_> = cuts.iter().map(|cut| (cut.prompt, cut.unread.as_str())).collect();
        assert_eq!(told, [(1, "four, five")]);
    }

    #[test]
    fn pooled_words_are_as_large_as_one() {
        let wide = Words { width: 4096, tokens: 8 };
        for prompt in ["one", "one two three four five"] {
            let pooled = wide.encode(&[prompt]).unwrap().pooled;
            let square: f32 = pooled.square().mean().into_scalar();
            assert!((square - 1.0).abs() < 0.1, "{prompt}: {square}");
        }
    }
}
