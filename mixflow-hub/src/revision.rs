//! Which state of a repository.

use std::fmt;

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub(crate) String);

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
    fn a_commit_is_a_whole_hash_in_lower_case() {
        let hash = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";
        assert_eq!(hash.parse::<Revision>().unwrap().commit().unwrap().as_str(), hash);
        for name in [&hash[1..], &hash.to_uppercase(), "../../../../etc/passwd", "main"] {
            assert_eq!(Commit::parse(name), None);
        }
    }
}
