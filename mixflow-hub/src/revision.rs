//! Which state of a repository.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// The commit, where this is a whole hash: what it stands for never changes.
    pub fn commit(&self) -> Option<Commit> {
        Commit::parse(&self.0)
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self("main".into())
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

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole commit hash: 40 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit(String);

impl Commit {
    /// The commit that `text` is the hash of, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self(text.into()))
    }

    /// The hash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Commit> for Revision {
    fn from(commit: Commit) -> Self {
        Self(commit.0)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is so many hexadecimal digits in lower case.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_commit_is_a_whole_hash_in_lower_case() {
        let hash = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";
        assert_eq!(hash.parse::<Revision>().unwrap().commit().unwrap().as_str(), hash);
        for name in [&hash[1..], &hash.to_uppercase(), "../../../../etc/passwd", "main"] {
            assert_eq!(Commit::parse(name), None);
        }
    }
}
