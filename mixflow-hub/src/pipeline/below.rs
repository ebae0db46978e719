//! A folder of a repository.

use std::path::{Path, PathBuf};

use mixflow::backbones::listed;

use crate::{Address, Error};

/// The files below the folder that an address names, or in all of its repository where it names none.
pub(super) struct Below {
    /// The folder with a slash at its end; empty for all of the repository.
    folder: String,
    /// Names of the files, without the folder.
    pub(super) names: Vec<String>,
}

impl Below {
    /// The files of `names` that lie there.
    ///
    /// # Errors
    /// If the address names a file, or something that is not there.
    pub(super) fn of(address: &Address, names: &[String]) -> Result<Self, Error> {
        let Some(named) = &address.file else { return Ok(Self { folder: String::new(), names: names.to_vec() }) };
        if names.contains(named) {
            address.check_whole()?;
        }
        let folder = format!("{}/", named.trim_end_matches('/'));
        let below: Vec<String> = names.iter().filter_map(|name| name.strip_prefix(&folder)).map(String::from).collect();
        if below.is_empty() {
            let (repository, file) = (address.repository.clone(), named.clone());
            return Err(Error::NoFile { repository, revision: address.revision(), file, known: names.to_vec() });
        }
        Ok(Self { folder, names: below })
    }

    /// These names with the folder before them.
    pub(super) fn with_folder(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
        names.into_iter().map(|name| format!("{}{}", self.folder, name.as_ref())).collect()
    }

    /// Path of the folder in a snapshot.
    pub(super) fn path(&self, snapshot: &Path) -> PathBuf {
        snapshot.join(self.folder.trim_end_matches('/'))
    }

    /// The first names, for people to read.
    pub(super) fn list(&self) -> String {
        match &self.names[..] {
            [] => "no files".into(),
            names => listed(names, 8),
        }
    }
}
