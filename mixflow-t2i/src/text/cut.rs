//! What an encoder does not read of a prompt.

use std::fmt;

/// The end of a prompt that an encoder does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which prompt, counted from 0.
    pub prompt: usize,
    /// `CLIP-L`, `CLIP-G`, `T5` or `words`.
    pub encoder: &'static str,
    /// How many tokens it reads, those that start and end a prompt among them.
    pub tokens: usize,
    /// What it does not read.
    pub unread: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompt, encoder, tokens, unread } = self;
        write!(f, "{encoder} reads {tokens} tokens and does not see the end of prompt {}: `{unread}`", prompt + 1)
    }
}
