//! A folder, into a repository, as one commit.

use std::collections::BTreeSet;
use std::path::Path;

use crate::commit::Mode;
use crate::progress::{Progress, TransferProgress};
use crate::request::Subject;
use crate::upload_file::{self, UploadFile};
use crate::{Client, Commit, Error, Repository, Revision};

/// How a folder is uploaded: branch, message, and what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// Branch that gets the commit; made from `main` where it is not there. `main` unless changed.
    pub branch: String,
    /// Whether only its owners may see the repository: it is made so, and one that all can see is an error. Otherwise it
    /// stays as it is, and is made as the server does it. False unless changed.
    pub private: bool,
    /// What the commit says: a line, and more below it if need be.
    pub message: String,
    /// Files, and folders with all files, of the branch that go unless they are uploaded; all others stay. None unless
    /// changed.
    pub replaced: Vec<String>,
}

impl Upload {
    /// A commit on `main`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { branch: "main".into(), private: false, message: message.into(), replaced: vec![] }
    }

    /// The upload to another branch.
    #[must_use]
    pub fn branch(self, branch: impl Into<String>) -> Self {
        Self { branch: branch.into(), ..self }
    }

    /// The upload, after which nothing is left of this file or folder of the branch that is not uploaded.
    #[must_use]
    pub fn replacing(mut self, name: impl Into<String>) -> Self {
        self.replaced.push(name.into());
        self
    }

    /// The upload to a repository that only its owners may see.
    #[must_use]
    pub fn private(self, private: bool) -> Self {
        Self { private, ..self }
    }
}

/// The result of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploaded {
    /// The commit that has all files of the folder.
    pub commit: Commit,
    /// Address of the branch's page.
    pub address: String,
    /// Bytes of content that were sent.
    pub sent: u64,
    /// Files that are new in the branch, or have other content.
    pub files_sent: usize,
    /// Files that were there already.
    pub files_kept: usize,
    /// Files that were removed from the branch.
    pub files_removed: usize,
}

impl Client {
    /// Uploads every file of `folder` as one commit. Other files of the branch stay, unless `upload` says otherwise.
    /// `progress` is called with each step.
    ///
    /// The repository and the branch are made where they are not there. What the branch has already is left out, and
    /// where that is everything, there is no commit. Nothing is visible before the commit; where another one comes in
    /// between, it is made again upon that. Up to four large files are sent at once. One that arrived is not sent again by
    /// the next call; of one that did not, LFS sends all again, since the Hub has no way to ask for the parts that it has,
    /// and Xet what the store lacks.
    ///
    /// # Errors
    /// If the token may not write, nobody may be asked or answers, the folder has what a repository cannot have, or a
    /// file changes meanwhile. Nothing was published then; [`Error::Unsure`] says where that cannot be known.
    pub fn upload(
        &self,
        folder: &Path,
        repository: &Repository,
        upload: &Upload,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Uploaded, Error> {
        self.send_files(&upload_file::files_of(folder)?, repository, upload, &mut progress).map_err(Error::of_upload)
    }

    /// As [`upload`](Self::upload), of files that need not lie in one folder.
    pub(crate) fn send_files(
        &self,
        files: &[UploadFile],
        repository: &Repository,
        upload: &Upload,
        progress: Progress<'_>,
    ) -> Result<Uploaded, Error> {
        let branch = upload.check()?;
        if !repository.id().contains('/') {
            let reason = "must name its owner, as `org/name`, for an upload";
            return Err(Error::Name { what: "the repository", name: repository.to_string(), reason });
        }
        if self.offline {
            return Err(Error::Offline { repository: repository.clone() });
        }
        let subject = Subject { repository, revision: &branch, file: None };
        self.check_token(&subject, progress)?;
        let mut head = self.open(repository, &branch, upload.private, progress)?;
        let (mut large, mut small, mut stored) = (0, 0, BTreeSet::new());
        let (mut changed, mut removed) = (BTreeSet::new(), BTreeSet::new());
        let (mut failures, mut given_up) = (0, None);
        let (mut missing, mut surplus) = self.difference(files, upload, repository, &head, progress)?;
        loop {
            changed.extend(missing.iter().map(|file| file.name.clone()));
            removed.extend(surplus.iter().cloned());
            let done = |commit, sent| Uploaded {
                commit,
                address: self.endpoint.branch_page(repository, &branch).to_string(),
                sent,
                files_sent: changed.len(),
                files_kept: files.len() - changed.len(),
                files_removed: removed.len(),
            };
            if missing.is_empty() && surplus.is_empty() {
                return Ok(done(head, large + small));
            }
            if let Some(error) = given_up {
                return Err(error);
            }
            let sorted = self.sort(&missing, &subject, progress)?;
            let mut sending = vec![];
            for (file, _) in sorted.iter().filter(|(_, mode)| *mode == Mode::Large) {
                // The same content may be there under two names.
                if stored.insert(file.sha256()?.clone()) {
                    sending.push(*file);
                }
            }
            large += self.store_all(&sending, &subject, progress)?;
            small = sorted.iter().filter(|(_, mode)| *mode == Mode::Regular).map(|(file, _)| file.size).sum();
            progress(TransferProgress::Committing { files: sorted.len() + surplus.len() });
            let failure = match self.commit(&upload.message, &head, (&sorted, &surplus), &subject) {
                Ok(commit) => return Ok(done(commit, large + small)),
                Err(failure) if !failure.transient => return Err(failure.into()),
                Err(failure) => failure,
            };
            // Whether this commit was made, or another, the head tells; and only then is it time to give up.
            let refused = matches!(&*failure.error, Error::Conflict { .. });
            let reason = failure.error.to_string();
            failures += 1;
            given_up = self.wait(failure, failures, progress).err().map(Error::from);
            let look = self.resolve(repository, &branch, progress).and_then(|head| {
                let (missing, surplus) = self.difference(files, upload, repository, &head, progress)?;
                Ok((head, missing, surplus))
            });
            (head, missing, surplus) = look.map_err(|error| match refused {
                true => error,
                false => {
                    let page = self.endpoint.branch_page(repository, &branch).to_string();
                    Error::Unsure { repository: repository.clone(), page, reason }
                }
            })?;
        }
    }

    /// The files that a commit lacks or has with other content; and the names of those to remove from it.
    fn difference<'f>(
        &self,
        files: &'f [UploadFile],
        upload: &Upload,
        repository: &Repository,
        commit: &Commit,
        progress: Progress<'_>,
    ) -> Result<(Vec<&'f UploadFile>, Vec<String>), Error> {
        let tree = self.tree(repository, commit, progress)?;
        let mut missing = vec![];
        for file in files {
            if !tree.get(&file.name).map_or(Ok(false), |expected| file.is(expected))? {
                missing.push(file);
            }
        }
        let replaced = |name: &str| {
            upload.replaced.iter().any(|folder| {
                name.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let ours = |name: &str| files.iter().any(|file| file.name == name);
        let surplus = tree.keys().filter(|name| replaced(name) && !ours(name)).cloned().collect();
        Ok((missing, surplus))
    }
}

impl Upload {
    /// The branch; an error if it cannot be one, or the message is empty.
    fn check(&self) -> Result<Revision, Error> {
        let fault = |what, name: &str, reason| Err(Error::Name { what, name: name.into(), reason });
        let branch: Revision = self.branch.parse()?;
        if branch.commit().is_some() {
            return fault("the branch", &self.branch, "is a commit: name a branch");
        }
        if self.message.trim().is_empty() {
            return fault("the message", &self.message, "must say something");
        }
        Ok(branch)
    }
}
