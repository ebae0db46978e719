//! Connections to servers, of whatever kind.

use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Error};

use crate::Patience;
use crate::trust::{advice, roots};
use crate::url::Url;

/// Requests for content at the same time, as many as Python's `huggingface_hub` makes.
pub(crate) const FETCHED_AT_ONCE: usize = 8;

/// A connection pool for a server, and for others that it sends to. It follows no redirect and asks nobody twice: that is done
/// here.
pub(crate) fn agent(patience: &Patience, server: &Url) -> Agent {
    // To read what is believed takes some milliseconds; a server of this machine that needs none is asked at once.
    let trust = if server.is_loopback() && server.scheme() == "http" { RootCerts::WebPki } else { roots() };
    let config = Agent::config_builder()
        .user_agent(concat!("mixflow-hub/", env!("CARGO_PKG_VERSION")))
        // Sizes and hashes are those of the content as it is.
        .accept_encoding("identity")
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections_per_host(FETCHED_AT_ONCE)
        .max_redirects_will_error(false)
        .tls_config(TlsConfig::builder().root_certs(trust).build())
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence));
    // A proxy knows no way to this machine.
    if server.is_loopback() { config.proxy(None) } else { config }.build().new_agent()
}

/// Why there was no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The name resolves to no host, or the network is away.
    Unknown,
    /// The next attempt gives the same: the certificate is not believed, or the answer is no HTTP.
    Permanent,
    Transient,
}

impl NoAnswer {
    /// The kind of an error of `ureq`, and the reason for a message.
    pub(crate) fn of(error: &Error) -> (Self, String) {
        match error {
            Error::Timeout(_) => (Self::Transient, "it does not answer in time".into()),
            Error::HostNotFound => (Self::Unknown, UNKNOWN.into()),
            // Those that were not reached themselves may be soon.
            Error::Io(error) if NO_NAME.iter().any(|words| error.to_string().contains(words)) => {
                (Self::Unknown, UNKNOWN.into())
            }
            // So rustls says it, whatever it is wrapped in.
            error if error.to_string().contains("invalid peer certificate") => {
                (Self::Permanent, format!("{error}; {}", advice()))
            }
            Error::Io(error) => (Self::Transient, error.to_string()),
            Error::Tls(_) | Error::Rustls(_) | Error::Http(_) => (Self::Permanent, error.to_string()),
            other => (Self::Transient, other.to_string()),
        }
    }
}

/// What resolvers say of a name that there is not: of glibc, macOS, Windows and musl.
const NO_NAME: [&str; 4] = [
    "Name or service not known",
    "nodename nor servname provided, or not known",
    "No such host is known",
    "Name does not resolve",
];

const UNKNOWN: &str = "there is no host of that name, or no network";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_name_that_there_is_not_is_told_on_every_system() {
        let kind = |words: &str| {
            let error = io::Error::other(format!("failed to lookup address information: {words}"));
            NoAnswer::of(&Error::Io(error)).0
        };
        for words in [
            "Name or service not known",
            "nodename nor servname provided, or not known",
            "No such host is known. (os error 11001)",
            "Name does not resolve",
        ] {
            assert!(kind(words) == NoAnswer::Unknown, "{words}");
        }
        assert!(kind("Temporary failure in name resolution") == NoAnswer::Transient);
    }
}
