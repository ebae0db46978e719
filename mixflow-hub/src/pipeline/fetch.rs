//! Weights and files of recipes, where only these are wanted.

use std::path::PathBuf;

use serde_json::Value;

use super::layout::Layout;
use crate::pattern::literally;
use crate::progress::{Progress, Tell};
use crate::{Address, Client, Error, Revision};

impl Client {
    /// The weights of a network: the file at the address, or that of the repository as [`Pipeline`](crate::Pipeline) finds
    /// it; with the address of the very file and commit. Shards come with the index that is returned for them.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); and if the repository has no network of a known layout.
    pub fn weights(&self, address: &Address, tell: impl FnMut(Progress<'_>)) -> Result<(PathBuf, Address), Error> {
        self.network(address, Layout::whole, tell)
    }

    /// As [`weights`](Self::weights), with all that is beside them for making images: recipe, autoencoder, guide.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn published(&self, address: &Address, tell: impl FnMut(Progress<'_>)) -> Result<(PathBuf, Address), Error> {
        self.network(address, Layout::wanted, tell)
    }

    fn network(
        &self,
        address: &Address,
        wanted: impl Fn(&Layout, &[String]) -> Vec<String>,
        mut tell: impl FnMut(Progress<'_>),
    ) -> Result<(PathBuf, Address), Error> {
        let tell: Tell<'_> = &mut tell;
        let repository = &address.repository;
        let (commit, names) = self.names(repository, &address.revision(), &mut *tell)?;
        let layout = match &address.file {
            Some(file) => Layout::of_file(file, &names),
            None => Layout::of(&names).map_err(|reason| {
                let folder = self.cache().folder().join(repository.folder_name());
                Error::Layout { folder, reason: format!("{reason}; name a file, as hf://{repository}/FILE") }
            })?,
        };
        if !names.contains(&layout.weights) {
            let (repository, file) = (repository.clone(), layout.weights);
            return Err(Error::NoFile { repository, revision: address.revision(), file, known: names });
        }
        let wanted: Vec<String> = wanted(&layout, &names).iter().map(|name| literally(name)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let snapshot = self.snapshot(repository, &Revision::from(commit), &wanted, tell)?;
        let file = snapshot.folder.join(&layout.weights);
        let address = Address { file: Some(layout.weights), ..address.clone() };
        Ok((file, address.at(snapshot.commit)))
    }

    /// A recipe with the files that it names by an [`Address`]: first with the commits that they were found at, which is what
    /// to keep; then with where they are now on this machine, which is what to load.
    ///
    /// # Errors
    /// As [`file`](Self::file), and if an address names no file.
    pub fn named_files(&self, recipe: &Value, mut tell: impl FnMut(Progress<'_>)) -> Result<[Value; 2], Error> {
        let (mut pinned, mut local) = (recipe.clone(), recipe.clone());
        let mut exchange = |pinned: &mut Value, local: &mut Value| {
            let Some(text) = pinned.as_str().filter(|text| Address::is_one(text)) else { return Ok(()) };
            let address: Address = text.parse()?;
            let Some(file) = &address.file else {
                let reason = "names no file: expected hf://org/name@revision/file";
                return Err(Error::Name { what: "the address", name: text.into(), reason });
            };
            let path = self.file(&address.repository, &address.revision(), file, &mut tell)?;
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
