//! Files and whole repositories, into the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::agent::FETCHED_AT_ONCE;
use crate::cache::{holdable, relative};
use crate::digest::Digest;
use crate::listing::Expected;
use crate::pattern::matches;
use crate::progress::{Progress, TransferProgress};
use crate::request::{RequestError, Subject};
use crate::{Client, Commit, Error, Repository, Revision};

/// A repository at one commit, or the part of it that was asked for, in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySnapshot {
    /// The folder, in the cache: to be read, not changed.
    pub folder: PathBuf,
    /// The commit that the revision was.
    pub commit: Commit,
    /// Names of the files that were asked for, sorted.
    pub files: Vec<String>,
}

impl Client {
    /// One file of a repository, from the cache where it has it. `progress` is called with each step.
    ///
    /// A commit that is cached is not asked for again. Where nobody answers, the cache stands in with what the revision
    /// was when it was last asked for.
    ///
    /// # Errors
    /// If there is no such file, revision or repository, nobody may see it or answers, or the content cannot be trusted
    /// or written. What came before a line broke is kept, and the next call goes on with it.
    pub fn file(
        &self,
        repository: &Repository,
        revision: &Revision,
        file: &str,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<PathBuf, Error> {
        let progress: Progress<'_> = &mut progress;
        if !relative(file) {
            return Err(Error::Escape { repository: repository.clone(), name: file.into() });
        }
        self.check_names(repository, [file])?;
        let cached = |commit: Option<Commit>| self.right(repository, &commit?, file);
        if let Some(path) = cached(revision.commit()) {
            return Ok(path);
        }
        if self.offline {
            let path = cached(self.cache.commit(repository, revision));
            return path.ok_or_else(|| self.not_cached(repository, revision, file));
        }
        let subject = Subject { repository, revision, file: Some(file) };
        let (commit, expected) = match self.expected(&subject, file, progress) {
            Ok(found) => found,
            Err(RequestError { error, commit, .. }) => {
                if let (Error::NoFile { .. }, Some(commit)) = (&*error, commit) {
                    // Notes for later: without them, all is as it was. Nothing of this commit is here, perhaps all of another.
                    if self.cache.commit(repository, revision).is_none() {
                        let _ = self.cache.keep_commit(repository, revision, &commit);
                    }
                    let _ = self.cache.keep_absence(repository, &commit, file);
                }
                let path = cached(self.cache.commit(repository, revision)).filter(|_| error.is_outage());
                let Some(path) = path else { return Err(*error) };
                progress(TransferProgress::Cached { reason: &error.to_string() });
                return Ok(path);
            }
        };
        if let Some(path) = self.whole(repository, &commit, file, &expected) {
            // A cache that may only be read is good enough.
            let _ = self.cache.keep_commit(repository, revision, &commit);
            return Ok(path);
        }
        let path = self.fetch(repository, &commit, file, &expected, FETCHED_AT_ONCE, progress)?;
        self.cache.keep_commit(repository, revision, &commit)?;
        Ok(path)
    }

    /// The files of a repository whose names match one of `patterns`, all where there is none, at one commit.
    ///
    /// A pattern is a name, a folder with a slash at the end, or has wildcards as in Python's `fnmatch`: `*` is any text,
    /// slashes too. Up to eight files come at once.
    ///
    /// # Errors
    /// As [`file`](Self::file); and [`Error::NoFile`], if a pattern matches nothing.
    pub fn snapshot(
        &self,
        repository: &Repository,
        revision: &Revision,
        patterns: &[&str],
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<RepositorySnapshot, Error> {
        self.snapshot_as(repository, revision, revision, patterns, &mut progress)
    }

    /// As [`snapshot`](Self::snapshot), of the commit that a revision `named` was: that is kept once all is here.
    pub(crate) fn snapshot_as(
        &self,
        repository: &Repository,
        revision: &Revision,
        named: &Revision,
        patterns: &[&str],
        progress: Progress<'_>,
    ) -> Result<RepositorySnapshot, Error> {
        if self.offline {
            return self
                .cached_snapshot(repository, revision, patterns)?
                .map_err(|file| self.not_cached(repository, revision, file.as_deref().unwrap_or("a snapshot")));
        }
        let listed = self.resolve(repository, revision, progress).and_then(|commit| {
            let tree = self.tree(repository, &commit, progress)?;
            Ok((commit, tree))
        });
        let (commit, tree) = match listed {
            Err(error) if error.is_outage() => {
                let Ok(snapshot) = self.cached_snapshot(repository, revision, patterns)? else { return Err(error) };
                progress(TransferProgress::Cached { reason: &error.to_string() });
                return Ok(snapshot);
            }
            listed => listed?,
        };
        let files = chosen(&tree, patterns).map_err(|pattern| Error::NoFile {
            repository: repository.clone(),
            revision: revision.clone(),
            file: pattern.into(),
            known: tree.keys().cloned().collect(),
        })?;
        self.check_names(repository, files.iter().map(String::as_str))?;
        let missing = |file: &&String| self.whole(repository, &commit, file, &tree[*file]).is_none();
        let mut missing: Vec<&String> = files.iter().filter(missing).collect();
        // The largest first: nothing waits for them at the end.
        missing.sort_by_key(|file| std::cmp::Reverse(tree[*file].size));
        let lines = FETCHED_AT_ONCE / missing.len().clamp(1, FETCHED_AT_ONCE);
        self.each(&missing, FETCHED_AT_ONCE, progress, |client, file, progress| {
            client.fetch(repository, &commit, file, &tree[*file], lines, progress)
        })?;
        match self.cache.keep_commit(repository, named, &commit) {
            Err(error) if !missing.is_empty() => return Err(error),
            _ => {}
        }
        Ok(RepositorySnapshot { folder: self.cache.snapshot(repository, &commit), commit, files })
    }

    /// The commit of a revision, and the names of all its files, sorted: those in the cache where nobody may be asked or
    /// answers.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn names(
        &self,
        repository: &Repository,
        revision: &Revision,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<(Commit, Vec<String>), Error> {
        let progress: Progress<'_> = &mut progress;
        let listed = if self.offline {
            Err(self.not_cached(repository, revision, "a snapshot"))
        } else {
            self.resolve(repository, revision, progress).and_then(|commit| {
                let tree = self.tree(repository, &commit, progress)?;
                Ok((commit, tree.into_keys().collect()))
            })
        };
        let error = match listed {
            Err(error) if self.offline || error.is_outage() => error,
            listed => return listed,
        };
        let Some(commit) = self.cache.commit(repository, revision) else { return Err(error) };
        let names = match self.cached_tree(repository, &commit)? {
            Some(tree) => tree.into_keys().collect(),
            None => self.cache.files(repository, &commit),
        };
        if names.is_empty() { Err(error) } else { Ok((commit, names)) }
    }

    /// The files of a revision in the cache; or the name of a file that it lacks, where that is known.
    fn cached_snapshot(
        &self,
        repository: &Repository,
        revision: &Revision,
        patterns: &[&str],
    ) -> Result<Result<RepositorySnapshot, Option<String>>, Error> {
        let Some(commit) = self.cache.commit(repository, revision) else { return Ok(Err(None)) };
        let cached = self.cache.files(repository, &commit);
        let files = match self.cached_tree(repository, &commit)? {
            Some(tree) => chosen(&tree, patterns),
            // Nobody listed this commit: what is there is taken for all.
            None => chosen(&cached.iter().map(|name| (name.clone(), ())).collect(), patterns),
        };
        let files = match files {
            Ok(files) if !files.is_empty() => files,
            Ok(_) => return Ok(Err(None)),
            Err(pattern) => return Ok(Err(Some(pattern.into()))),
        };
        let lacks =
            |file: &&String| cached.binary_search(file).is_err() || self.right(repository, &commit, file).is_none();
        if let Some(missing) = files.iter().find(lacks) {
            return Ok(Err(Some(missing.clone())));
        }
        Ok(Ok(RepositorySnapshot { folder: self.cache.snapshot(repository, &commit), commit, files }))
    }

    /// The path of a cached file, if its content has the expected hash: other programs write to the same cache.
    fn whole(&self, repository: &Repository, commit: &Commit, file: &str, expected: &Expected) -> Option<PathBuf> {
        let path = self.cache.file(repository, commit, file)?;
        self.cache.is_right(repository, &expected.digest, &path).then_some(path)
    }

    /// The path of a cached file, if its content has the hash that the cache notes, or if none is noted.
    fn right(&self, repository: &Repository, commit: &Commit, file: &str) -> Option<PathBuf> {
        let path = self.cache.file(repository, commit, file)?;
        let link = fs::read_link(&path).ok();
        let named = link.as_deref().and_then(|blob| Digest::parse(blob.file_name()?.to_str()?));
        let listed = || Some(self.cached_tree(repository, commit).ok()??.remove(file)?.digest);
        match named.or_else(listed) {
            Some(digest) => self.cache.is_right(repository, &digest, &path).then_some(path),
            None => Some(path),
        }
    }

    /// Refuses names that this system cannot hold.
    fn check_names<'n>(&self, repository: &Repository, names: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
        match names.into_iter().find(|name| !holdable(name)) {
            Some(name) => Err(Error::Unholdable { repository: repository.clone(), name: name.into() }),
            None => Ok(()),
        }
    }

    fn not_cached(&self, repository: &Repository, revision: &Revision, file: &str) -> Error {
        let cache = self.cache.folder().into();
        Error::NotCached { repository: repository.clone(), revision: revision.clone(), file: file.into(), cache }
    }
}

/// The names that match, sorted; or the pattern that matches none.
fn chosen<'p, T>(tree: &BTreeMap<String, T>, patterns: &[&'p str]) -> Result<Vec<String>, &'p str> {
    if let Some(pattern) = patterns.iter().find(|pattern| !tree.keys().any(|name| matches(pattern, name))) {
        return Err(pattern);
    }
    let wanted = |name: &&String| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name));
    Ok(tree.keys().filter(wanted).cloned().collect())
}
