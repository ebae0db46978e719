//! A client's access to Xet, the Hub's own store.

use std::fmt;
use std::sync::{Arc, Mutex};

use ::xet::xet_session::XetSession;

use crate::sync::lock;
use crate::url::Url;

/// Access to the store, shared by all files that a client fetches or sends.
#[derive(Clone, Default)]
pub(crate) struct XetAccess(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) enum State {
    #[default]
    Unknown,
    /// A session, with the right to read a repository at a commit.
    Open(XetSession, Grant),
    /// The store failed, or may not be used, and is not tried again.
    Closed,
}

impl XetAccess {
    /// Lets no file go by the store any more.
    pub(crate) fn close(&self) {
        *lock(&self.0) = State::Closed;
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*lock(&self.0), State::Closed)
    }

    /// Access for another token or endpoint, which asks for a right of its own; closed if this one is.
    pub(crate) fn for_another(&self) -> Self {
        let access = Self::default();
        if self.is_closed() {
            access.close();
        }
        access
    }
}

impl fmt::Debug for XetAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XetAccess")
    }
}

/// The right to read from the store or to write to it, for a while.
#[derive(Clone)]
pub(crate) struct Grant {
    /// Address that gave the right, and renews it.
    pub(crate) from: Url,
    pub(crate) store: Url,
    pub(crate) token: String,
    /// When it ends: seconds since 1970.
    pub(crate) end: u64,
}

impl Grant {
    /// Address of the store without a slash at its end.
    pub(crate) fn address(&self) -> String {
        self.store.whole().trim_end_matches('/').into()
    }
}
