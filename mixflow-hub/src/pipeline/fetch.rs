//! Weights and files of recipes, where only these are wanted.

use std::path::PathBuf;

use mixflow::backbones::lora::Adapter;
use mixflow::pipeline::Layout;
use serde_json::Value;

use super::ENCODER;
use crate::download::RepositorySnapshot;
use crate::pattern::literally;
use crate::progress::{Progress, TransferProgress};
use crate::{Address, Client, Error, Repository, Revision};

impl Client {
    /// The weights of a network: the file at the address, or that of the repository as [`Layout`] finds it;
    /// with the address of the very file and commit. Shards come with the index that is returned for them.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); and if the repository has no network of a known layout.
    pub fn weights(
        &self,
        address: &Address,
        progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<(PathBuf, Address), Error> {
        self.network(address, Layout::whole, progress)
    }

    /// As [`weights`](Self::weights), with all that is beside them for making images: recipe, autoencoder, guide.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn published(
        &self,
        address: &Address,
        progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<(PathBuf, Address), Error> {
        self.network(address, Layout::wanted, progress)
    }

    /// The low-rank adapter at an address: the file there, or that of a repository, which is the first of [`Adapter::FILES`] that
    /// it has, or the only `.safetensors`; with the settings that lie beside it.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); and if the repository has no adapter, or several.
    pub fn adapter(
        &self,
        address: &Address,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<PathBuf, Error> {
        let repository = &address.repository;
        let choose = |names: &[String]| {
            let has = |name: &str| names.iter().any(|known| known == name);
            let mut others = names.iter().filter(|name| name.ends_with(".safetensors"));
            let file = match (&address.file, Adapter::FILES.into_iter().find(|name| has(name))) {
                (Some(file), _) if !has(file) => {
                    let (repository, file, known) = (repository.clone(), file.clone(), names.to_vec());
                    return Err(Error::NoFile { repository, revision: address.revision(), file, known });
                }
                (Some(file), _) => file.clone(),
                (None, Some(known)) => known.into(),
                (None, None) => match (others.next(), others.next()) {
                    (Some(only), None) => only.clone(),
                    (first, _) => {
                        let found = if first.is_some() { "several files .safetensors" } else { "no file .safetensors" };
                        let expected = Adapter::FILES.join(" or ");
                        let reason = format!(
                            "has no {expected}, but {found}; name the file of the adapter, as hf://{repository}/FILE"
                        );
                        return Err(self.unknown(repository, reason));
                    }
                },
            };
            let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let settings = format!("{folder}adapter_config.json");
            let wanted = if has(&settings) { vec![file.clone(), settings] } else { vec![file.clone()] };
            Ok((file, wanted))
        };
        let (file, snapshot) = self.chosen(address, choose, &mut progress)?;
        Ok(snapshot.folder.join(file))
    }

    fn network(
        &self,
        address: &Address,
        wanted: impl Fn(&Layout, &[String]) -> Vec<String>,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<(PathBuf, Address), Error> {
        let repository = &address.repository;
        let choose = |names: &[String]| {
            let layout = match &address.file {
                Some(file) => Layout::of_file(file, names),
                None => Layout::of(names).map_err(|unknown| {
                    self.unknown(repository, format!("{unknown}; name a file, as hf://{repository}/FILE"))
                })?,
            };
            if !names.contains(&layout.weights) {
                let (repository, file, known) = (repository.clone(), layout.weights, names.to_vec());
                return Err(Error::NoFile { repository, revision: address.revision(), file, known });
            }
            let wanted = wanted(&layout, names);
            Ok((layout.weights, wanted))
        };
        let (weights, snapshot) = self.chosen(address, choose, &mut progress)?;
        let file = snapshot.folder.join(&weights);
        let address = Address { file: Some(weights), ..address.clone() };
        Ok((file, address.at(snapshot.commit)))
    }

    /// The files of a repository that `choose` takes by their names, with what else it says.
    pub(super) fn chosen<T>(
        &self,
        address: &Address,
        choose: impl FnOnce(&[String]) -> Result<(T, Vec<String>), Error>,
        progress: Progress<'_>,
    ) -> Result<(T, RepositorySnapshot), Error> {
        let (repository, revision) = (&address.repository, address.revision());
        let (commit, names) = self.names(repository, &revision, &mut *progress)?;
        let (said, wanted) = choose(&names)?;
        let wanted: Vec<String> = wanted.iter().map(|name| literally(name)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        Ok((said, self.snapshot_as(repository, &Revision::from(commit), &revision, &wanted, progress)?))
    }

    /// The error of a repository that holds something else than was expected.
    pub(super) fn unknown(&self, repository: &Repository, reason: String) -> Error {
        Error::Layout { folder: self.cache().folder().join(repository.folder_name()), reason }
    }

    /// The file at an address: the address with its commit, and the path in the cache.
    pub(super) fn addressed(&self, address: &str, progress: Progress<'_>) -> Result<(Address, PathBuf), Error> {
        let address: Address = address.parse()?;
        let Some(file) = &address.file else {
            let reason = "names no file: expected hf://org/name@revision/file";
            return Err(Error::Name { what: "the address", name: address.to_string(), reason });
        };
        let path = self.file(&address.repository, &address.revision(), file, progress)?;
        Ok((address, path))
    }

    /// A recipe with the files that it names by an [`Address`]: first with the commits that they were found at, which is what
    /// to keep; then with where they are now on this machine, which is what to load.
    ///
    /// What `network.text.folder` names is a folder, see [`text_encoders`](Self::text_encoders).
    ///
    /// # Errors
    /// As [`file`](Self::file), and if another address names no file.
    pub fn named_files(
        &self,
        recipe: &Value,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<[Value; 2], Error> {
        let (mut pinned, mut local) = (recipe.clone(), recipe.clone());
        let encoder = format!("/{}", ENCODER.replace('.', "/"));
        if let (Some(pinned), Some(local)) = (pinned.pointer_mut(&encoder), local.pointer_mut(&encoder))
            && let Some(text) = local.as_str().filter(|text| Address::is_one(text))
        {
            let (address, folder) = self.text_encoders(&text.parse()?, &mut progress)?;
            (*pinned, *local) = (address.to_string().into(), folder.to_string_lossy().into());
        }
        let mut exchange = |pinned: &mut Value, local: &mut Value| -> Result<(), Error> {
            let Some(text) = local.as_str().filter(|text| Address::is_one(text)) else { return Ok(()) };
            let (address, path) = self.addressed(text, &mut progress)?;
            *local = path.to_string_lossy().into();
            *pinned = Address::of_cached(&path).unwrap_or(address).to_string().into();
            Ok(())
        };
        both(&mut pinned, &mut local, &mut exchange)?;
        Ok([pinned, local])
    }
}

/// Calls `f` with all that is no list or object, of two values of one shape.
fn both<E>(a: &mut Value, b: &mut Value, f: &mut impl FnMut(&mut Value, &mut Value) -> Result<(), E>) -> Result<(), E> {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.iter_mut().zip(b).try_for_each(|(a, b)| both(a, b, f)),
        (Value::Object(a), Value::Object(b)) => a.values_mut().zip(b.values_mut()).try_for_each(|(a, b)| both(a, b, f)),
        (a, b) => f(a, b),
    }
}
