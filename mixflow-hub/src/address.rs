//! Files and repositories by one text.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::cache::relative;
use crate::{Commit, Error, Kind, Repository, Revision};

/// What an address begins with.
pub(crate) const SCHEME: &str = "hf://";

/// Something on the Hub: `hf://org/name`, `hf://org/name@revision` or `hf://org/name@revision/folder/file`.
///
/// The revision is a branch, tag or commit, whose slashes are written `%2F`; none is `main`. Data sets are
/// `hf://datasets/org/name`. Very old repositories, which have no organisation, have no address.
///
/// ```
/// use mixflow_hub::Address;
///
/// let address: Address = "hf://org/name@v1.0/vae/model.safetensors".parse()?;
/// assert_eq!(address.repository.id(), "org/name");
/// assert_eq!(address.revision().as_str(), "v1.0");
/// assert_eq!(address.file.as_deref(), Some("vae/model.safetensors"));
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
///
/// # Source
/// `HfFileSystem` of Python's `huggingface_hub`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The repository.
    pub repository: Repository,
    /// Branch, tag or commit of the repository, if one is named.
    pub revision: Option<Revision>,
    /// Name of a file or folder in the repository, if one is named.
    pub file: Option<String>,
}

impl Address {
    /// Whether a text is meant as an address: it begins with `hf://`.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The revision, `main` where none is said.
    pub fn revision(&self) -> Revision {
        self.revision.clone().unwrap_or_default()
    }

    /// Refuses one file where a whole repository is meant.
    #[cfg(feature = "pipeline")]
    pub(crate) fn check_whole(&self) -> Result<(), Error> {
        let reason = "names a file, which alone is no pipeline: leave it out";
        let fault = || Error::Name { what: "the address", name: self.to_string(), reason };
        if self.file.is_none() { Ok(()) } else { Err(fault()) }
    }

    /// The address at a commit, so that what it stands for never changes.
    #[must_use]
    pub fn at(self, commit: Commit) -> Self {
        Self { revision: Some(commit.into()), ..self }
    }

    /// The address, with its commit, of a file in the cache that all programs share.
    pub fn of_cached(path: &Path) -> Option<Self> {
        // The folders of each system; a repository may have one of this name itself.
        let parts: Vec<&str> = path.components().map(|part| part.as_os_str().to_str()).collect::<Option<_>>()?;
        let mut places = parts.iter().enumerate().rev().filter(|(_, part)| **part == "snapshots");
        places.find_map(|(place, _)| Self::of_snapshot(parts[..place].last()?, &parts[place + 1..]))
    }

    /// The address of a file below `snapshots` of the folder that the cache has for a repository.
    fn of_snapshot(folder: &str, below: &[&str]) -> Option<Self> {
        let (kind, id) = folder.split_once("--")?;
        let (commit, file) = below.split_first()?;
        let (commit, file) = (Commit::parse(commit)?, file.join("/"));
        let kind = [Kind::Model, Kind::Dataset, Kind::Space].into_iter().find(|known| known.plural() == kind)?;
        let repository = Repository::new(kind, &id.replacen("--", "/", 1)).ok()?;
        let whole = repository.id().contains('/') && relative(&file);
        whole.then(|| Self { repository, revision: Some(commit.into()), file: Some(file) })
    }

    /// The address of a folder in that cache: of a whole repository, or of a folder in it.
    #[cfg(feature = "pipeline")]
    pub(crate) fn of_cached_folder(path: &Path) -> Option<Self> {
        const FILE: &str = "file";
        let Self { repository, revision, file } = Self::of_cached(&path.join(FILE))?;
        let folder = file?.strip_suffix(FILE)?.trim_end_matches('/').to_string();
        Some(Self { repository, revision, file: Some(folder).filter(|folder| !folder.is_empty()) })
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fault = || Error::Name {
            what: "the address",
            name: text.into(),
            reason: "must be hf://org/name, hf://org/name@revision or one of these with /file",
        };
        let path = text.strip_prefix(SCHEME).ok_or_else(fault)?;
        let kinds = [Kind::Model, Kind::Dataset, Kind::Space];
        let kind = kinds.into_iter().find(|kind| path.split('/').next() == Some(kind.plural()));
        let path = path.strip_prefix(kind.map_or("", Kind::plural)).unwrap_or(path).trim_start_matches('/');
        let mut parts = path.splitn(3, '/');
        let (org, name) = parts.next().zip(parts.next()).ok_or_else(fault)?;
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.replace("%2F", "/").replace("%2f", "/").parse()?)),
            None => (name, None),
        };
        let repository = Repository::new(kind.unwrap_or_default(), &format!("{org}/{name}")).map_err(|_| fault())?;
        let file = parts.next().map(String::from);
        if file.as_ref().is_some_and(|file| !relative(file)) {
            return Err(fault());
        }
        Ok(Self { repository, revision, file })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.as_str().replace('/', "%2F"))?;
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let pinned = format!("hf://org/name@{COMMIT}/a/b.pt");
        for (text, repository, revision, file) in [
            ("hf://org/name", "org/name", "main", None),
            ("hf://org/name@v1.0", "org/name", "v1.0", None),
            ("hf://org/name/a@b.pt", "org/name", "main", Some("a@b.pt")),
            ("hf://org/name@refs%2Fpr%2F3/x.pt", "org/name", "refs/pr/3", Some("x.pt")),
            ("hf://datasets/org/name@dev/x.npz", "datasets/org/name", "dev", Some("x.npz")),
            (&pinned, "org/name", COMMIT, Some("a/b.pt")),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.repository.to_string(), repository);
            assert_eq!((address.revision().as_str(), address.file.as_deref()), (revision, file));
            assert_eq!(address.to_string(), text);
        }
        for wrong in [
            "org/name",
            "hf://org",
            "hf://org/",
            "hf://datasets/org",
            "hf://org/name/",
            "hf://org/name@",
            "hf://org/name@/x",
            "hf://org/name@../x",
            "hf://org/../c",
            "hf://org/name/../c",
            "https://org/name/c",
        ] {
            assert!(matches!(wrong.parse::<Address>(), Err(Error::Name { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_is_cached_has_the_address_of_its_commit() {
        let address = |path: &str| Address::of_cached(Path::new(path)).map(|address| address.to_string());
        let pinned = |rest: &str| Some(format!("hf://{}", rest.replace('#', COMMIT)));
        for (path, expected) in [
            (format!("/h/hub/models--a--b-c/snapshots/{COMMIT}/vae/x.pt"), pinned("a/b-c@#/vae/x.pt")),
            (format!("models--a--b/snapshots/{COMMIT}/x.pt"), pinned("a/b@#/x.pt")),
            (format!("/h/datasets--a--b/snapshots/{COMMIT}/x"), pinned("datasets/a/b@#/x")),
            (format!("/h/models--a--b/snapshots/{COMMIT}/snapshots/x.pt"), pinned("a/b@#/snapshots/x.pt")),
            (format!("/h/models--a--b/snapshots/{COMMIT}"), None),
            ("/h/models--a--b/snapshots/0123/x".into(), None),
            (format!("/h/models--gpt2/snapshots/{COMMIT}/x"), None),
            (format!("/h/models--a--b/blobs/{COMMIT}"), None),
            (format!("/h/snapshots/{COMMIT}/x"), None),
            ("vae.safetensors".into(), None),
        ] {
            assert_eq!(address(&path), expected, "{path}");
        }
        #[cfg(windows)]
        assert_eq!(address(&format!(r"C:\h\hub\models--a--b\snapshots\{COMMIT}\vae\x.pt")), pinned("a/b@#/vae/x.pt"));
        #[cfg(feature = "pipeline")]
        for (path, expected) in [
            (format!("/h/models--a--b/snapshots/{COMMIT}"), pinned("a/b@#")),
            (format!("/h/models--a--b/snapshots/{COMMIT}/x/y"), pinned("a/b@#/x/y")),
            ("/h/models--a--b".into(), None),
        ] {
            let found = Address::of_cached_folder(Path::new(&path)).map(|address| address.to_string());
            assert_eq!(found, expected, "{path}");
        }
    }
}
