//! What is wrong with a recipe in itself.

use mixflow_backbones::Invalid;

/// What is wrong with a recipe in itself, whatever the data, the weights and the folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It cannot be read: no JSON, a key that is unknown or missing, a value of another type or refused by its type.
    #[error("{}{reason}", place(key))]
    Unreadable {
        /// Path of the key that it is about, as far as that is known; empty for the whole.
        key: String,
        /// What was expected and found.
        reason: String,
    },
    /// It is a recipe of something else.
    #[error("{0}")]
    OtherKind(&'static str),
    /// A value is out of its range, or does not go with the others.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Fault {
    pub(crate) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unreadable { key: String::new(), reason: reason.into() }
    }
}

fn place(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}
