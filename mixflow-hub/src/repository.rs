//! Names of repositories.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// What a repository holds. The Hub keeps the three under different addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Weights.
    #[default]
    Model,
    /// Data.
    Dataset,
    /// A program.
    Space,
}

impl Kind {
    /// The word in addresses and folders.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// The word in requests.
    pub(crate) fn singular(self) -> &'static str {
        self.plural().trim_end_matches('s')
    }
}

/// A repository on the Hub: `org/name`, or `datasets/org/name`.
///
/// ```
/// use mixflow_hub::Repository;
///
/// let repository: Repository = "nyu-visionx/RAE-collections".parse()?;
/// assert_eq!(repository.folder_name(), "models--nyu-visionx--RAE-collections");
/// assert!("../../etc".parse::<Repository>().is_err());
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    kind: Kind,
    id: String,
}

impl Repository {
    /// A repository by its kind and `org/name`; very old models have no organisation.
    ///
    /// # Errors
    /// [`Error::Name`], if the Hub could have no repository of that name.
    pub fn new(kind: Kind, id: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() <= 2 && parts.iter().all(|part| is_name(part)) {
            return Ok(Self { kind, id: id.into() });
        }
        let reason = "must be `org/name`, of letters, digits, `-`, `_` and `.`";
        Err(Error::Name { what: "the repository", name: id.into(), reason })
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `org/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder in the cache, such as `models--org--name`.
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// Its place below the server's name: `org/name`, or `datasets/org/name`.
    pub(crate) fn path(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            kind => format!("{}/{}", kind.plural(), self.id),
        }
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        for kind in [Kind::Model, Kind::Dataset, Kind::Space] {
            if let Some(id) = text.strip_prefix(kind.plural()).and_then(|id| id.strip_prefix('/')) {
                return Self::new(kind, id);
            }
        }
        Self::new(Kind::Model, text)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// The Hub's own rule for one part of a name.
fn is_name(part: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    (1..=96).contains(&part.len())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ends(part.chars().next())
        && ends(part.chars().last())
        && !part.contains("--")
        && !part.contains("..")
        && !part.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_hub_allows() {
        for (text, kind, path) in [
            ("org/name", Kind::Model, "org/name"),
            ("gpt2", Kind::Model, "gpt2"),
            ("datasets/org/a.b_c-d", Kind::Dataset, "datasets/org/a.b_c-d"),
            ("spaces/org/name", Kind::Space, "spaces/org/name"),
            ("models/org/name", Kind::Model, "org/name"),
        ] {
            let found: Repository = text.parse().unwrap();
            assert_eq!((found.kind(), found.to_string().as_str()), (kind, path));
        }
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "../a",
            "a/..",
            "a/.b",
            "a--b/c",
            "a/b.git",
            "a\\b",
            "a/b c",
            "a/ü",
            "-a/b",
            "a/b\0",
            "https://huggingface.co/a/b",
            &"x".repeat(97),
        ] {
            assert!(matches!(text.parse::<Repository>(), Err(Error::Name { .. })), "{text}");
        }
    }
}
