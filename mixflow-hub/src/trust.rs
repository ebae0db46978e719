//! Whose certificates are believed.

use std::env::var_os;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::{Certificate, RootCerts};

/// Root certificates: those in the files or folders that variables name, and no others; else those of the system, where a
/// company may have put its own; or the usual ones where it has none.
pub(crate) fn roots() -> RootCerts {
    let Trust { named, found } = trust();
    if found.certs.is_empty() && named.is_empty() {
        return RootCerts::WebPki;
    }
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into()
}

/// What to say where a server shows a certificate that is not believed.
pub(crate) fn advice() -> String {
    let Trust { named, found } = trust();
    let places: Vec<_> = named.iter().map(|(name, place)| format!("{name}={}", place.display())).collect();
    match (places.join(", "), found.certs.len(), found.errors.first()) {
        (places, _, _) if places.is_empty() => "SSL_CERT_FILE names certificates of one's own to believe".into(),
        (places, 0, None) => format!("there is no certificate in {places}"),
        (places, 0, Some(error)) => format!("no certificate could be read from {places}: {error}"),
        (places, ..) => format!("believed is what stands in {places}"),
    }
}

struct Trust {
    /// Variables and what they name; none if it is the system that is asked.
    named: Vec<(&'static str, PathBuf)>,
    found: CertificateResult,
}

fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let variable = |name: &'static str| {
        let place = var_os(name).filter(|value| !value.is_empty())?;
        Some((name, PathBuf::from(place)))
    };
    TRUST.get_or_init(|| {
        let named: Vec<_> = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(variable).collect();
        let other = || ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter().find_map(variable);
        let named = if named.is_empty() { other().into_iter().collect() } else { named };
        let place = |folder| named.iter().map(|(_, place)| place.as_path()).find(|place| place.is_dir() == folder);
        let found = match named.is_empty() {
            true => load_native_certs(),
            false => load_certs_from_paths(place(false), place(true)),
        };
        Trust { named, found }
    })
}
