//! Before an upload: who may write, and where to.

use serde_json::{Value, json};

use crate::progress::{Progress, TransferProgress};
use crate::request::{RequestError, Subject};
use crate::send::refusal;
use crate::{Client, Commit, Error, Repository, Revision};

/// What the Hub says where two repositories of a user are made at once; to be tried again, as `huggingface_hub` does
/// (`hf_api.py` of 2.4.0, `create_repo`).
const MADE_AT_ONCE: &str = "another conflicting operation is in progress";

impl Client {
    /// Makes sure that there is a token that may write, as far as the server tells.
    pub(crate) fn check_token(&self, subject: &Subject<'_>, progress: Progress<'_>) -> Result<(), Error> {
        let lacking = |reason| Error::WriteToken { endpoint: self.endpoint.to_string(), reason };
        if self.token.is_none() {
            return Err(lacking("there is none"));
        }
        let url = self.endpoint.identity();
        let answer = self.json(&url, subject, progress)?;
        let token = &answer["auth"]["accessToken"];
        match token["role"].as_str() {
            Some("read") => Err(lacking("this one may only read")),
            Some("fineGrained") if !may_write(token) => Err(lacking("this one has no right to write anywhere")),
            _ => Ok(()),
        }
    }

    /// Makes the repository and the branch where they are not yet; gives the branch's head.
    pub(crate) fn open(
        &self,
        repository: &Repository,
        branch: &Revision,
        private: bool,
        progress: Progress<'_>,
    ) -> Result<Commit, Error> {
        let mut head = self.resolve(repository, branch, progress);
        if let Err(Error::NoRepository { .. }) = head {
            self.create(repository, private, progress)?;
            head = self.resolve(repository, branch, progress);
        }
        if private && !matches!(head, Err(Error::NoRepository { .. })) {
            self.check_private(repository, progress)?;
        }
        if let Err(Error::NoRevision { .. }) = head {
            let subject = Subject { repository, revision: branch, file: None };
            let url = self.endpoint.action(repository, "branch", branch);
            let made = self.patiently(progress, || match self.post(&url, "application/json", b"{}", &subject) {
                // Somebody made it, or we did and the answer was lost.
                Err(failure) if refusal(&failure, &[409]).is_some() => Ok(()),
                answer => answer.map(drop),
            });
            made?;
            head = self.resolve(repository, branch, progress);
        }
        head
    }

    fn create(&self, repository: &Repository, private: bool, progress: Progress<'_>) -> Result<(), Error> {
        let main = Revision::default();
        let subject = Subject { repository, revision: &main, file: None };
        let (owner, name) = repository.id().split_once('/').unwrap_or_default();
        let mut body = json!({ "name": name, "organization": owner, "type": repository.kind().singular() });
        // Without this word the server decides, as it was told by the organisation.
        if private {
            body["visibility"] = "private".into();
        }
        let (url, body) = (self.endpoint.creation(), body.to_string());
        let made = self.patiently(progress, || match self.post(&url, "application/json", body.as_bytes(), &subject) {
            Err(failure) => match refusal(&failure, &[409]) {
                Some(message) if message.contains(MADE_AT_ONCE) => Err(RequestError { transient: true, ..failure }),
                // Somebody made it, or we did and the answer was lost.
                Some(_) => Ok(()),
                None => Err(failure),
            },
            answer => answer.map(drop),
        });
        made?;
        progress(TransferProgress::Created { address: &self.endpoint.page(repository).to_string() });
        Ok(())
    }

    /// Makes sure that not all can see what is meant for some: a server may not know the word, and a repository that was
    /// there before may be public.
    fn check_private(&self, repository: &Repository, progress: Progress<'_>) -> Result<(), Error> {
        let main = Revision::default();
        let url = self.endpoint.revision(repository, &main);
        let answer = self.json(&url, &Subject { repository, revision: &main, file: None }, progress)?;
        if answer["private"] == true {
            return Ok(());
        }
        Err(Error::Public { repository: repository.clone(), page: self.endpoint.page(repository).to_string() })
    }
}

/// Whether a token of chosen rights has one to write, anywhere.
fn may_write(token: &Value) -> bool {
    // A server that does not list them is asked for the commit.
    let Some(scopes) = token["fineGrained"]["scoped"].as_array() else { return true };
    let rights = scopes.iter().filter_map(|scope| scope["permissions"].as_array()).flatten();
    rights.filter_map(Value::as_str).any(|right| right == "repo.write")
}
