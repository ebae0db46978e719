//! Prompts as words without meaning of their own.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::Invalid;
use mixflow::random::{self, Stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::Truncation;
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
    /// Whether a token also says the place of its word, for networks such as [`MmDit`](crate::MmDit) that see no order of
    /// tokens: without it "a circle left of a square" is to them what "a square left of a circle" is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub places: bool,
}

impl Words {
    /// Numbers of a token, and tokens of a prompt, at most: also those that other encoders are asked for.
    pub(crate) const MOST: usize = 65_536;

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        for (name, value) in [("width", self.width), ("tokens", self.tokens)] {
            if !(1..=Self::MOST).contains(&value) {
                return Err(Invalid::new(name, format!("must be from 1 to {}, found {value}", Self::MOST)));
            }
        }
        Ok(())
    }

    /// The vector of a word, normally distributed.
    fn vector(&self, word: &str) -> Vec<f32> {
        let hash: [u8; 32] = Sha256::digest(word).into();
        self.drawn(u64::from_le_bytes(std::array::from_fn(|i| hash[i])), 0)
    }

    fn drawn(&self, seed: u64, position: u64) -> Vec<f32> {
        let mut vector = vec![0.0; self.width];
        random::normal(&mut random::rng(seed, Stream::Words, position), &mut vector);
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

/// Tokens are the words' vectors in their order, each with that of its place if these are told; pooled they are the words' sum
/// over the root of their number.
impl TextEncoder for Words {
    fn identity(&self) -> Result<String, Error> {
        let Self { width, tokens, places } = self;
        Ok(format!("words of width {width}, {tokens} tokens{}", if *places { " with their places" } else { "" }))
    }

    fn truncations(&self, prompts: &[&str]) -> Result<Vec<Truncation>, Error> {
        let cut = |(prompt, text): (usize, &&str)| {
            let unread = from_word(text, self.tokens)?.into();
            Some(Truncation { prompt, encoder: "words", tokens: self.tokens, unread })
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
                let token = &mut tokens[(row * length + place) * width..][..width];
                token.copy_from_slice(vector);
                if self.places {
                    let place = self.drawn(place as u64, 1);
                    token.iter_mut().zip(place).for_each(|(sum, value)| *sum += value);
                }
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

    const WORDS: Words = Words { width: 4, tokens: 3, places: false };

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
    fn the_place_of_a_word_is_told_where_it_is_wanted() {
        let ordered = Words { places: true, ..WORDS };
        let of = |words: Words, prompt: &str| -> (Vec<f32>, Vec<f32>) {
            let text = words.encode(&[prompt]).unwrap();
            (text.tokens.into_data().iter().collect(), text.pooled.into_data().iter().collect())
        };
        let sum = |tokens: &[f32]| (0..4).map(|i| tokens[i] + tokens[4 + i] + tokens[8 + i]).collect::<Vec<_>>();
        let sorted = |tokens: &[f32]| {
            let mut words: Vec<Vec<u32>> =
                tokens.chunks(4).map(|word| word.iter().map(|x| x.to_bits()).collect()).collect();
            words.sort();
            words
        };
        let [(one, pooled), (other, same)] = ["red above blue", "blue above red"].map(|prompt| of(ordered, prompt));
        assert_ne!(sorted(&one), sorted(&other), "as a set of tokens they differ, too");
        assert_eq!(one[4..8], other[4..8]);
        // Words and places are added up.
        let places: Vec<f32> = one.iter().zip(of(WORDS, "red above blue").0).map(|(both, word)| both - word).collect();
        let again: Vec<f32> = other.iter().zip(of(WORDS, "blue above red").0).map(|(both, word)| both - word).collect();
        assert!(places.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-5), "{places:?}, {again:?}");
        assert!(sum(&places).iter().any(|x| x.abs() > 0.1));
        assert!(pooled.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-6));
        // Without a word there is no token.
        assert_eq!(of(ordered, "red").0[4..], [0.0; 8]);
        assert_ne!(ordered.identity().unwrap(), WORDS.identity().unwrap());
        let [one, other] = ["red above blue", "blue above red"].map(|prompt| of(WORDS, prompt).0);
        assert_eq!(sorted(&one), sorted(&other), "without places they are the same set");
    }

    #[test]
    fn no_prompts_are_an_error_and_the_empty_one_is_a_prompt() {
        for none in [WORDS.encode(&[]), WORDS.encode_with_negative(&[], "")] {
            assert!(none.unwrap_err().to_string().contains("at least one prompt"));
        }
        assert_eq!(WORDS.encode_with_negative(&[""], "").unwrap().batch(), 1);
    }

    #[test]
    fn no_words_are_zeros_and_too_many_are_cut() {
        assert_eq!(numbers(" — "), (vec![0.0; 12], vec![0.0; 4]));
        assert_eq!(numbers("one two three four"), numbers("one two three"));
        let cuts = WORDS.truncations(&["one — two three", "one, two (three) four, five"]).unwrap();
        let told: Vec<_> = cuts.iter().map(|cut| (cut.prompt, cut.unread.as_str())).collect();
        assert_eq!(told, [(1, "four, five")]);
    }

    #[test]
    fn pooled_words_are_as_large_as_one() {
        let wide = Words { width: 4096, tokens: 8, places: false };
        for prompt in ["one", "one two three four five"] {
            let pooled = wide.encode(&[prompt]).unwrap().pooled;
            let square: f32 = pooled.square().mean().into_scalar();
            assert!((square - 1.0).abs() < 0.1, "{prompt}: {square}");
        }
    }
}
