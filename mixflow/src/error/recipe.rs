//! What is wrong with a recipe in itself.

use mixflow_backbones::Invalid;

/// What is wrong with a recipe in itself, whatever the data, the weights and the folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It cannot be read: no JSON, a key that is unknown or missing, a value of another type or refused by its type.
    #[error("{0}")]
    Unreadable(String),
    /// It is a recipe of something else.
    #[error("{0}")]
    OtherKind(&'static str),
    /// A value is out of its range, or does not go with the others.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
