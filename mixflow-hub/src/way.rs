//! The way to the Hub's own store, Xet, as a client knows it.

use std::fmt;
use std::sync::{Arc, Mutex};

use ::xet::xet_session::XetSession;

use crate::held::held;
use crate::url::Url;

/// The way to the store, for all files that a client fetches.
#[derive(Clone, Default)]
pub(crate) struct Way(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) enum State {
    #[default]
    Unknown,
    /// With the right to read a repository at a commit.
    Open(XetSession, Grant),
    /// It failed, and is not tried again.
    Closed,
}

impl Way {
    /// Lets nothing go by it any more.
    pub(crate) fn close(&self) {
        *held(&self.0) = State::Closed;
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*held(&self.0), State::Closed)
    }

    /// The same for somebody else, who must ask for a right of their own.
    pub(crate) fn anew(&self) -> Self {
        let way = Self::default();
        if self.is_closed() {
            way.close();
        }
        way
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

/// The right to read from the store or to write to it, for a while.
#[derive(Clone)]
pub(crate) struct Grant {
    /// Where it was given, and is renewed.
    pub(crate) from: Url,
    pub(crate) store: Url,
    pub(crate) token: String,
    /// When it ends: seconds since 1970.
    pub(crate) end: u64,
}

impl Grant {
    /// Where the store is, for what puts paths behind it.
    pub(crate) fn address(&self) -> String {
        self.store.whole().trim_end_matches('/').into()
    }
}
