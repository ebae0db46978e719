//! Repositories and revisions from text, and which names they may have.

use std::str::FromStr;

use crate::repository::{Kind, Repository};
use crate::{Error, Revision};

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

impl FromStr for Revision {
    type Err = Error;

    /// Names become files below `refs`, so only those that stay there are taken; git allows no others.
    fn from_str(name: &str) -> Result<Self, Error> {
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let letter = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
        if name.len() <= 250 && name.chars().all(letter) && name.split('/').all(part) && !name.contains("..") {
            return Ok(Self(name.into()));
        }
        Err(Error::Name { what: "the revision", name: name.into(), reason: "cannot be a branch, tag or commit" })
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

    #[test]
    fn revisions_stay_below_their_folder() {
        for name in ["main", "v1.0", "refs/pr/3", "feature/x", &"a".repeat(40)] {
            assert_eq!(name.parse::<Revision>().unwrap().as_str(), name);
        }
        for name in
            ["", "..", "a/../b", "/main", "main/", "a//b", "a\\b", "a b", ".git", "a/.b", "x.lock", "a\nb", "C:x"]
        {
            assert!(name.parse::<Revision>().is_err(), "{name}");
        }
    }
}
