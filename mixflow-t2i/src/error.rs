//! What can be wrong with a folder of text encoders.

use std::io;
use std::path::{Path, PathBuf};

use mixflow::backbones::not_data::why_not_text;

/// A text encoder or its tokenizer that cannot be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "create" or "remove".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A folder lacks what it must hold.
    #[error("{} lacks {}: expected a whole folder, as it is published", folder.display(), names.join(" or "))]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The files that would have done.
        names: Vec<String>,
    },
    /// A configuration is not one that this crate knows to follow.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The JSON file.
        path: PathBuf,
        /// Which key, what was expected and found.
        reason: String,
    },
    /// A vocabulary is damaged, or is none of CLIP's and T5's.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to draw: the empty prompt is a prompt, an empty list is none.
    #[error("expected at least one prompt, found none; the empty prompt is one")]
    NoPrompts,
    /// Embeddings of prompts that cannot be used.
    #[error("{} {reason}", path.display())]
    Prompts {
        /// Their folder or one of its files.
        path: PathBuf,
        /// What is wrong: the rest of a sentence.
        reason: String,
    },
    /// What training and sampling refuse.
    #[error(transparent)]
    Mixflow(#[from] mixflow::Error),
    /// Weights that cannot be read, or are not those of the network.
    #[error(transparent)]
    Weights(#[from] mixflow::backbones::Error),
    /// Whatever goes wrong in a [`TextEncoder`](crate::text::TextEncoder) that is not one of this crate's.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        Self::io("read", path)
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source: why_not_text(source) }
    }

    pub(crate) fn config(path: &Path, reason: impl ToString) -> Self {
        Self::Config { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl ToString) -> Self {
        Self::Tokenizer { path: path.into(), reason: reason.to_string() }
    }
}
