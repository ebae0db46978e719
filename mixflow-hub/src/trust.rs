//! Whose certificates are believed.

use std::env::var_os;
use std::path::Path;
use std::sync::OnceLock;

use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use ureq::tls::{Certificate, RootCerts};

/// Variables that name a file of certificates, beside `SSL_CERT_FILE` and `SSL_CERT_DIR`.
const OTHERS: [&str; 2] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Those in the file that a variable names, and no others; else those of the system, where a company may have put its own; or the
/// usual ones where it has none.
pub(crate) fn roots() -> RootCerts {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let variable = |name: &str| var_os(name).filter(|value| !value.is_empty());
    let read = || {
        let ssl = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| variable(name).is_some());
        let other = OTHERS.into_iter().find_map(variable).filter(|_| !ssl);
        let found = match &other {
            Some(file) => load_certs_from_paths(Some(Path::new(file)), None),
            None => load_native_certs(),
        };
        if found.certs.is_empty() && !ssl && other.is_none() {
            return RootCerts::WebPki;
        }
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into()
    };
    ROOTS.get_or_init(read).clone()
}
