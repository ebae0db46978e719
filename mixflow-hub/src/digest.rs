//! What a file's content must hash to.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::revision::is_hex;

/// The hash that a repository has for a file; it is also the name of the file in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Digest {
    /// SHA-256 of the content, of large files.
    Sha256(String),
    /// SHA-1 of the content after git's header, of all other files.
    GitBlob(String),
}

impl Digest {
    /// The hash in an `ETag` header, or in a listing.
    pub(crate) fn parse(etag: &str) -> Option<Self> {
        let hash = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        if is_hex(hash, 64) {
            return Some(Self::Sha256(hash.into()));
        }
        is_hex(hash, 40).then(|| Self::GitBlob(hash.into()))
    }

    /// The hash in hexadecimal digits.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(hash) | Self::GitBlob(hash) => hash,
        }
    }

    /// Whether a file has content of this hash.
    pub(crate) fn is_of(&self, path: &Path) -> io::Result<bool> {
        Ok(self.of(path)? == *self)
    }

    /// The hash of a file, of the kind of this one.
    pub(crate) fn of(&self, path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = self.hasher(file.metadata()?.len());
        hasher.read(&mut file)?;
        Ok(hasher.finish())
    }

    /// A hasher of this kind for content of `size` bytes.
    pub(crate) fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::sha256(),
            Self::GitBlob(_) => Hasher::git_blob(size),
        }
    }
}

/// A [`Digest`] in the making.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    /// A hasher of content alone.
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// A hasher of content of `size` bytes after git's header.
    pub(crate) fn git_blob(size: u64) -> Self {
        Self::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")))
    }

    /// Hashes these bytes behind those before.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    /// Hashes what is left to read, and returns the number of bytes.
    pub(crate) fn read(&mut self, file: &mut impl Read) -> io::Result<u64> {
        let (mut block, mut read) = (vec![0; 1 << 18], 0);
        loop {
            match file.read(&mut block)? {
                0 => return Ok(read),
                count => {
                    self.update(&block[..count]);
                    read += count as u64;
                }
            }
        }
    }

    /// The hash of all bytes so far.
    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hex::encode(hasher.finalize())),
            Self::GitBlob(hasher) => Digest::GitBlob(hex::encode(hasher.finalize())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, `printf 'hello\n' | sha256sum`.
        for hash in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let digest = Digest::parse(&format!("W/\"{hash}\"")).unwrap();
            let mut hasher = digest.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), digest);
            assert_eq!(digest.to_string(), hash);
        }
        for etag in ["", "\"\"", "../../x", "main", &"A".repeat(64), &"g".repeat(40), &"a".repeat(41)] {
            assert_eq!(Digest::parse(etag), None);
        }
    }
}
