//! Which server.

use std::fmt;

use crate::url::{Url, escape};
use crate::{Error, Repository, Revision};

/// Address of the official server.
const HUB: &str = "https://huggingface.co";

/// The address of a Hub: huggingface.co, a mirror, or a server of one's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The Hub at `address`.
    ///
    /// # Errors
    /// [`Error::Name`], if it is no `http` or `https` address, or has a user name in it.
    pub fn new(address: &str) -> Result<Self, Error> {
        let url = Url::of_server(address);
        url.map(Self).map_err(|(name, reason)| Error::Name { what: "the endpoint", name, reason })
    }

    /// Whether a token may be sent: encrypted, or to this machine.
    pub(crate) fn is_secret(&self) -> bool {
        self.0.scheme() == "https" || self.0.is_loopback()
    }

    pub(crate) fn address(&self) -> &Url {
        &self.0
    }

    /// Address of a file's content.
    pub(crate) fn file(&self, repository: &Repository, revision: &Revision, file: &str) -> Url {
        let revision = escape(revision.as_str(), false);
        self.0.with(&format!("{}/resolve/{revision}/{}", repository.path(), escape(file, true)))
    }

    /// Address that tells the commit of a revision.
    pub(crate) fn revision(&self, repository: &Repository, revision: &Revision) -> Url {
        self.api(repository, &format!("revision/{}", escape(revision.as_str(), false)))
    }

    /// Address of the list of all files.
    pub(crate) fn tree(&self, repository: &Repository, revision: &Revision) -> Url {
        self.api(repository, &format!("tree/{}?recursive=true", escape(revision.as_str(), false)))
    }

    /// Whether an address is this server's, so that the token may go there.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        self.0.same_origin(url)
    }

    /// An address that this server gave: a mirror may repeat those of the Hub, and means its own.
    pub(crate) fn given(&self, href: &str) -> Result<Url, &'static str> {
        let url = match href.strip_prefix(HUB).filter(|rest| rest.starts_with('/')) {
            Some(rest) => self.0.with(rest.trim_start_matches('/')),
            None => Url::parse(href)?,
        };
        if self.0.scheme() == "https" && url.scheme() != "https" {
            return Err("is without encryption");
        }
        Ok(url)
    }

    /// Address that tells whose a token is.
    pub(crate) fn identity(&self) -> Url {
        self.0.with("api/whoami-v2")
    }

    /// Address that makes repositories.
    pub(crate) fn creation(&self) -> Url {
        self.0.with("api/repos/create")
    }

    /// Address of an action on a branch: `branch`, `preupload` or `commit`.
    pub(crate) fn action(&self, repository: &Repository, action: &str, branch: &Revision) -> Url {
        self.api(repository, &format!("{action}/{}", escape(branch.as_str(), false)))
    }

    /// Address to which large files are announced, by the batch API of LFS.
    pub(crate) fn batch(&self, repository: &Repository) -> Url {
        self.0.with(&format!("{}.git/info/lfs/objects/batch", repository.path()))
    }

    /// Where the right to "read" from Xet, or to "write" there, is given out. The Hub names the same address in `Link` with
    /// `rel="xet-auth"`, beside the content that it has there.
    #[cfg(feature = "xet")]
    pub(crate) fn grant(&self, right: &str, repository: &Repository, revision: &Revision) -> Url {
        self.action(repository, &format!("xet-{right}-token"), revision)
    }

    /// Page of a branch, for people.
    pub(crate) fn branch_page(&self, repository: &Repository, branch: &Revision) -> Url {
        let page = self.page(repository);
        if *branch == Revision::default() {
            page
        } else {
            page.with(&format!("tree/{}", escape(branch.as_str(), true)))
        }
    }

    /// Page of a repository, for people.
    pub(crate) fn page(&self, repository: &Repository) -> Url {
        self.0.with(&repository.path())
    }

    fn api(&self, repository: &Repository, path: &str) -> Url {
        self.0.with(&format!("api/{}/{}/{path}", repository.kind().plural(), repository.id()))
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::new(HUB).expect("a valid address")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_hub() {
        let endpoint = Endpoint::new("https://mirror.example/hf/").unwrap();
        let (model, data) = ("org/name".parse().unwrap(), "datasets/org/name".parse().unwrap());
        let revision = "refs/pr/1".parse().unwrap();
        for (url, expected) in [
            (endpoint.file(&model, &revision, "a b/c.json"), "org/name/resolve/refs%2Fpr%2F1/a%20b/c.json"),
            (endpoint.file(&data, &revision, "c"), "datasets/org/name/resolve/refs%2Fpr%2F1/c"),
            (endpoint.revision(&model, &revision), "api/models/org/name/revision/refs%2Fpr%2F1"),
            (endpoint.tree(&data, &revision), "api/datasets/org/name/tree/refs%2Fpr%2F1?recursive=true"),
        ] {
            assert_eq!(url.whole(), format!("https://mirror.example/hf/{expected}"));
        }
    }

    #[test]
    fn addresses_that_a_server_gives_are_its_own_or_encrypted() {
        let (mirror, local) =
            (Endpoint::new("https://mirror.example/hf").unwrap(), Endpoint::new("http://[::1]:8").unwrap());
        for (endpoint, href, expected) in [
            (&mirror, "https://huggingface.co/api/x?q=1", Ok("https://mirror.example/hf/api/x?q=1")),
            (&mirror, "https://huggingface.co.evil/x", Ok("https://huggingface.co.evil/x")),
            (&mirror, "https://s3.example/x?y", Ok("https://s3.example/x?y")),
            (&mirror, "http://s3.example/x", Err("is without encryption")),
            (&mirror, "/x", Err("must start with https://")),
            (&local, "http://[::1]:9/x", Ok("http://[::1]:9/x")),
        ] {
            assert_eq!(endpoint.given(href).map(|url| url.whole()), expected.map(String::from), "{href}");
        }
        let given = |href: &str| mirror.owns(&mirror.given(href).unwrap());
        assert!(given("https://huggingface.co/x") && given("https://Mirror.example:443/x"));
        assert!(!given("https://huggingface.co.evil/x") && !given("https://mirror.example:444/x"));
        let name = "org/name".parse().unwrap();
        let branch = "runs/7".parse().unwrap();
        assert_eq!(mirror.branch_page(&name, &branch).whole(), "https://mirror.example/hf/org/name/tree/runs/7");
        assert_eq!(
            mirror.action(&name, "commit", &branch).whole(),
            "https://mirror.example/hf/api/models/org/name/commit/runs%2F7"
        );
    }

    #[test]
    fn faults_are_named_without_passwords() {
        for address in ["", "huggingface.co", "ftp://hub", "https://me:hf_secret@hub", "https://hub?token=hf_secret"] {
            let error = Endpoint::new(address).unwrap_err().to_string();
            assert!(error.starts_with("the endpoint ") && !error.contains("me:hf_secret"), "{error}");
        }
    }
}
