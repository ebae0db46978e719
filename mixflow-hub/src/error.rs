//! What can go wrong between a repository and this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Repository, Revision};

/// A download or an upload that cannot be done, or a folder that cannot be used.
///
/// No message holds a token, nor the signed part of an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that the caller gave cannot be one.
    #[error("{what} {name:?} {reason}")]
    Name {
        /// What the name is of: "the repository", "the revision".
        what: &'static str,
        /// The name that was given.
        name: String,
        /// What a name must be.
        reason: &'static str,
    },
    /// A variable or a file that should hold a token holds something else.
    #[error("{origin} holds no token: {reason}")]
    Token {
        /// Where it was looked for.
        origin: String,
        /// What is wrong with it; never the text itself.
        reason: &'static str,
    },
    /// The server does not know the repository, or does not show it.
    #[error(
        "there is no {repository} at {endpoint}, or it is private: check the name{}",
        if *.token { "; the token that was sent may not see it" } else { "; a private one needs a token in HF_TOKEN" }
    )]
    NoRepository {
        /// The repository that was asked for.
        repository: Repository,
        /// Address of the server that was asked.
        endpoint: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no revision {revision}: give a branch, a tag or a whole commit hash")]
    NoRevision {
        /// The repository.
        repository: Repository,
        /// The revision that was asked for.
        revision: Revision,
    },
    /// The repository has no such file at this revision.
    #[error("{repository} has no {file} at revision {revision}{}", instead(.known))]
    NoFile {
        /// The repository.
        repository: Repository,
        /// The revision that was asked for.
        revision: Revision,
        /// Name of the file, or the pattern that none matches.
        file: String,
        /// Some names that there are, where they are known.
        known: Vec<String>,
    },
    /// The owner gives the files only to those who accepted terms.
    #[error(
        "{repository} is gated: accept its terms at {page}, then {}",
        if *.token { "try again once access is granted; the token needs the right to read gated repositories" }
        else { "log in: put a token of your account in HF_TOKEN, or run `hf auth login`" }
    )]
    Gated {
        /// The repository.
        repository: Repository,
        /// Where the terms are.
        page: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The server refuses the token.
    #[error("{endpoint} does not accept the token: make a new one and put it in HF_TOKEN, or run `hf auth login`")]
    BadToken {
        /// Address of the server that was asked.
        endpoint: String,
    },
    /// The server refuses the token of a login by the browser, which is over.
    #[error("the login at {endpoint} has expired: run `hf auth whoami`, which renews it, or `hf auth login`")]
    ExpiredToken {
        /// Address of the server that was asked.
        endpoint: String,
    },
    /// The server knows who asks and refuses.
    #[error("{address} is forbidden{}: the token lacks the right", said(.message))]
    Forbidden {
        /// The address that was asked, without its query.
        address: String,
        /// What the server said.
        message: String,
    },
    /// A token would go over the line unencrypted.
    #[error("a token is sent over https only, but the endpoint is {endpoint}: change HF_ENDPOINT, or do without token")]
    Unencrypted {
        /// Address of the server that was asked.
        endpoint: String,
    },
    /// No answer at all, after all attempts.
    #[error("cannot reach {host}: {reason}; check the network, or set HF_HUB_OFFLINE=1 to use what is cached")]
    Network {
        /// The server that was asked.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// No answer at all to an upload, after all attempts.
    #[error("cannot reach {host}: {reason}; check the network and run again: nothing was published")]
    Unreachable {
        /// The server that was asked.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// A transfer broke off, again and again.
    #[error("{host} broke off after {received} of {size} bytes of {file} ({reason}): run again to go on from there")]
    Interrupted {
        /// The server that sent it.
        host: String,
        /// Name of the file in the repository.
        file: String,
        /// Bytes that are kept.
        received: u64,
        /// Bytes of the whole.
        size: u64,
        /// What happened.
        reason: String,
    },
    /// The server asks to come back later than we wait.
    #[error("{host} asks to wait {} s: try again then{}", .after.as_secs(), if *.token { "" } else { ", or log in, which allows more" })]
    Busy {
        /// The server that was asked.
        host: String,
        /// The wait that the server asks for.
        after: Duration,
        /// Whether a token was sent, or would change nothing.
        token: bool,
    },
    /// The server answered with something that is no answer to this, after all attempts.
    #[error("{address} answered {status}{}", said(.message))]
    Status {
        /// The address that was asked, without its query.
        address: String,
        /// HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The server speaks, but not as the Hub does.
    #[error("{address} does not answer as the Hub does: {reason}")]
    Protocol {
        /// The address that was asked, without its query.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The server names a file that would lie outside the folder.
    #[error("{repository} names a file {name:?}, which would leave the folder: nothing of it was written")]
    Escape {
        /// The repository.
        repository: Repository,
        /// The name that was given.
        name: String,
    },
    /// This system has no files of this name.
    #[error("{repository} names a file {name:?}, which this system cannot hold: choose others of its files by pattern")]
    Unholdable {
        /// The repository.
        repository: Repository,
        /// The name that was given.
        name: String,
    },
    /// The content is not that which the repository has.
    #[error(
        "{file} came with the hash {found}, {repository} has {expected}: it was deleted; try again or another network"
    )]
    Hash {
        /// The repository.
        repository: Repository,
        /// Name of the file in the repository.
        file: String,
        /// The hash that it must have.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// The content has another length than the repository says.
    #[error(
        "{file} came with {found} bytes, {repository} has {expected}: something between here and the Hub changed it"
    )]
    Length {
        /// The repository.
        repository: Repository,
        /// Name of the file in the repository.
        file: String,
        /// Bytes that it must have.
        expected: u64,
        /// Bytes that were announced or came.
        found: u64,
    },
    /// Nobody may be asked, and the cache lacks something.
    #[error(
        "{file} of {repository} at revision {revision} is not in the cache {}, and HF_HUB_OFFLINE forbids to ask: unset it \
         once to download",
        cache.display()
    )]
    NotCached {
        /// The repository.
        repository: Repository,
        /// The revision that was asked for.
        revision: Revision,
        /// Name of the file in the repository.
        file: String,
        /// The cache that was looked through.
        cache: PathBuf,
    },
    /// An upload needs a token with more rights.
    #[error(
        "an upload to {endpoint} needs a token that may write, but {reason}: make one at {endpoint}/settings/tokens and \
         put it in HF_TOKEN, or run `hf auth login`"
    )]
    WriteToken {
        /// Address of the server that was asked.
        endpoint: String,
        /// What there is instead.
        reason: &'static str,
    },
    /// Nobody may be asked, so nothing can be uploaded.
    #[error("HF_HUB_OFFLINE forbids to upload to {repository}: unset it")]
    Offline {
        /// Where it was to go.
        repository: Repository,
    },
    /// A private repository was asked for, and all can see this one.
    #[error(
        "{repository} is public: nothing was sent; make it private at {page}/settings, or upload without asking for that"
    )]
    Public {
        /// The repository.
        repository: Repository,
        /// Address of its page for people.
        page: String,
    },
    /// A folder holds something that a repository cannot.
    #[error("{} cannot be uploaded: {reason}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// Somebody wrote to a file while it was uploaded.
    #[error("{} changed while it was uploaded: nothing was published; run again when nobody writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A server did not take a file, after all attempts.
    #[error(
        "{host} did not take {file} ({reason}): nothing was published; run again, and what is there is not sent again"
    )]
    Unsent {
        /// The server that should have taken it.
        host: String,
        /// Name of the file in the repository.
        file: String,
        /// What happened.
        reason: String,
    },
    /// Others commit to the same branch all the time.
    #[error("{repository} gets other commits on {branch} at the same time{}: nothing was published; try again", said(.message))]
    Conflict {
        /// The repository.
        repository: Repository,
        /// The branch.
        branch: Revision,
        /// What the server said.
        message: String,
    },
    /// The answer to a commit was lost, and nobody says whether it was made.
    #[error("it is unknown whether {repository} has the commit ({reason}): run again, which looks, or look at {page}")]
    Unsure {
        /// The repository.
        repository: Repository,
        /// Address of its page for people.
        page: String,
        /// Why nobody knows.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(action, source))]
    Io {
        /// "read"; "write", in the cache; "create", of what is published; or "use", of the folder of Xet.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder holds nothing that is known here.
    #[error("{}: {reason}", folder.display())]
    Layout {
        /// The folder.
        folder: PathBuf,
        /// What was expected, found, and what to do.
        reason: String,
    },
    /// A recipe, a file of weights or sampling failed.
    #[cfg(feature = "pipeline")]
    #[error(transparent)]
    Mixflow(#[from] mixflow::Error),
    /// Weights cannot be used.
    #[cfg(feature = "pipeline")]
    #[error(transparent)]
    Weights(#[from] mixflow::backbones::Error),
    /// A network for text cannot be used.
    #[cfg(feature = "t2i")]
    #[error(transparent)]
    Text(#[from] mixflow_t2i::Error),
}

impl Error {
    /// An error of the system for `map_err`: what was tried, with which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The error as an upload reports it, for which no cache stands in.
    pub(crate) fn of_upload(self) -> Self {
        match self {
            Self::Network { host, reason } => Self::Unreachable { host, reason },
            other => other,
        }
    }

    /// Whether cached files may stand in: no server answered, or none could.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Interrupted { .. } | Self::Busy { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// The words of the server in brackets; empty if it said nothing.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// The end of a message: up to 12 names of files that the repository has instead.
fn instead(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return String::new();
    }
    let rest = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - rest].join(", ");
    if rest == 0 { format!("; it has {shown}") } else { format!("; it has {shown} and {rest} more") }
}

/// The end of a message: what to do about an error of the system, where its kind tells.
fn advice(action: &str, error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match (action, error.kind()) {
        ("write", StorageFull | QuotaExceeded) => {
            "; free some space or set HF_HUB_CACHE to another disk, then run again: what came so far is kept"
        }
        ("write", PermissionDenied | ReadOnlyFilesystem) => "; set HF_HUB_CACHE to a folder that you may write to",
        ("create", PermissionDenied | ReadOnlyFilesystem | StorageFull | QuotaExceeded) => {
            "; name a folder that you may write to and that has the room: for temporary ones, as TMPDIR"
        }
        ("use", _) => "; set HF_XET_CACHE to a folder that you may write to and that has the room",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_write_is_told_what_to_set() {
        for (action, variable, other) in [("write", "HF_HUB_CACHE", "TMPDIR"), ("create", "TMPDIR", "HF_HUB_CACHE")] {
            for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::StorageFull]
            {
                let told = Error::io(action, Path::new("x"))(kind.into()).to_string();
                assert!(told.contains(variable) && !told.contains(other), "{told}");
            }
        }
        assert!(!Error::io("read", Path::new("x"))(io::ErrorKind::PermissionDenied.into()).to_string().contains("; "));
    }
}
