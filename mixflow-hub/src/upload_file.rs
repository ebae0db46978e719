//! What is to be uploaded: the files of a folder, with names that a repository may have.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Error;
use crate::cache::relative;
use crate::digest::{Digest, Hasher};
use crate::listing::Expected;

/// Bytes of a file that the Hub wants to see to tell text from data.
const SAMPLE: u64 = 512;

/// A file on this machine, under the name that it is to have in the repository.
#[derive(Clone, Debug)]
pub(crate) struct UploadFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    sha256: OnceLock<Digest>,
    git_blob: OnceLock<Digest>,
}

/// All files of `folder`, sorted by name.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<UploadFile>, Error> {
    let root = folder.canonicalize().map_err(Error::io("read", folder))?;
    let mut files = vec![];
    walk(&root, &root, "", &mut files)?;
    if files.is_empty() {
        return Err(fault(folder, "it holds no file"));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn walk(root: &Path, folder: &Path, above: &str, files: &mut Vec<UploadFile>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| fault(&path, "its name is not UTF-8"))?;
        if name.eq_ignore_ascii_case(".git") {
            return Err(fault(&path, "a repository cannot hold another: give a folder without .git"));
        }
        let name = format!("{above}{name}");
        if !relative(&name) {
            return Err(fault(
                &path,
                "no repository has a name like this: it is too long, or has a line end, `\\` or a drive in it",
            ));
        }
        let is_link = entry.file_type().map_err(Error::io("read", &path))?.is_symlink();
        if is_link && !path.canonicalize().map_err(Error::io("read", &path))?.starts_with(root) {
            return Err(fault(&path, "it is a link that leads out of the folder: put the file itself there"));
        }
        let found = fs::metadata(&path).map_err(Error::io("read", &path))?;
        if found.is_file() {
            files.push(UploadFile::of(name, path, found.len()));
        } else if found.is_dir() && !is_link {
            walk(root, &path, &format!("{name}/"), files)?;
        } else {
            return Err(fault(&path, "it is neither a file nor a folder"));
        }
    }
    Ok(())
}

impl UploadFile {
    /// The file at `path`, to be called `name`.
    #[cfg(feature = "pipeline")]
    pub(crate) fn at(name: &str, path: PathBuf) -> Result<Self, Error> {
        let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        Ok(Self::of(name.into(), path, size))
    }

    fn of(name: String, path: PathBuf, size: u64) -> Self {
        Self { name, path, size, sha256: OnceLock::new(), git_blob: OnceLock::new() }
    }

    /// Whether a repository has this very content; reads the file only where the sizes are equal.
    pub(crate) fn is(&self, expected: &Expected) -> Result<bool, Error> {
        if self.size != expected.size {
            return Ok(false);
        }
        let found = match expected.digest {
            Digest::Sha256(_) => self.sha256()?,
            Digest::GitBlob(_) => self.git_blob()?,
        };
        Ok(*found == expected.digest)
    }

    /// Hash of the content as a large file, from the first time that it is asked for.
    pub(crate) fn sha256(&self) -> Result<&Digest, Error> {
        self.digest(&self.sha256, Hasher::sha256())
    }

    /// Hash of the content as a small file, from the first time that it is asked for.
    pub(crate) fn git_blob(&self) -> Result<&Digest, Error> {
        self.digest(&self.git_blob, Hasher::git_blob(self.size))
    }

    /// The first bytes, up to [`SAMPLE`].
    pub(crate) fn sample(&self) -> Result<Vec<u8>, Error> {
        let mut sample = vec![];
        self.open()?.take(SAMPLE).read_to_end(&mut sample).map_err(Error::io("read", &self.path))?;
        Ok(sample)
    }

    /// The whole content, of a small file.
    pub(crate) fn content(&self) -> Result<Vec<u8>, Error> {
        let digest = self.git_blob()?;
        let mut content = vec![];
        self.open()?.take(self.size + 1).read_to_end(&mut content).map_err(Error::io("read", &self.path))?;
        let mut hasher = Hasher::git_blob(self.size);
        hasher.update(&content);
        if hasher.finish() == *digest { Ok(content) } else { Err(self.changed()) }
    }

    /// The file, if it still has its length.
    pub(crate) fn open(&self) -> Result<File, Error> {
        let file = File::open(&self.path).map_err(Error::io("read", &self.path))?;
        let length = file.metadata().map_err(Error::io("read", &self.path))?.len();
        if length == self.size { Ok(file) } else { Err(self.changed()) }
    }

    /// The error of a file that changed since it was listed.
    pub(crate) fn changed(&self) -> Error {
        Error::Changed { path: self.path.clone() }
    }

    fn digest<'d>(&self, cell: &'d OnceLock<Digest>, mut hasher: Hasher) -> Result<&'d Digest, Error> {
        if let Some(digest) = cell.get() {
            return Ok(digest);
        }
        let read = hasher.read(&mut self.open()?).map_err(Error::io("read", &self.path))?;
        if read != self.size {
            return Err(self.changed());
        }
        Ok(cell.get_or_init(|| hasher.finish()))
    }
}

fn fault(path: &Path, reason: &'static str) -> Error {
    Error::Folder { path: path.into(), reason }
}
