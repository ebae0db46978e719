//! What an encoder does not read of a prompt.

use std::collections::BTreeSet;
use std::fmt;

use mixflow::numbers::counted;

/// The end of a prompt that an encoder does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Which prompt, counted from 0.
    pub prompt: usize,
    /// `CLIP-L`, `CLIP-G`, `CLIP`, `T5`, `Qwen3` or `words`.
    pub encoder: &'static str,
    /// How many tokens it reads, those that start and end a prompt among them.
    pub tokens: usize,
    /// What it does not read.
    pub unread: String,
}

impl Truncation {
    /// How many of so many prompts are cut, by one encoder or several, and the first of them; nothing where none is.
    pub fn summary(cuts: &[Self], prompts: usize) -> Option<String> {
        let first = cuts.iter().min_by_key(|cut| cut.prompt)?;
        let cut: BTreeSet<_> = cuts.iter().map(|cut| cut.prompt).collect();
        let are = if cut.len() == 1 { "is" } else { "are" };
        let (cut, prompts) = (cut.len(), counted(prompts as u64, "prompt"));
        Some(format!("{cut} of {prompts} {are} longer than the encoders read; the first: {first}"))
    }
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompt, encoder, tokens, unread } = self;
        write!(f, "{encoder} reads {tokens} tokens and does not see the end of prompt {}: `{unread}`", prompt + 1)
    }
}
