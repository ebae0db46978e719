//! A Hub whose certificate is of somebody's own authority, as behind the proxy of a company.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mixflow_hub::{Client, Revision};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::shared::{CONFIG, Setting, repository};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// The address of a server with encryption in front of another.
fn encrypted(plain: &str) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let (listener, plain) = (TcpListener::bind("127.0.0.1:0").unwrap(), plain.to_string());
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let (config, there) = (config.clone(), TcpStream::connect(&plain).unwrap());
            std::thread::spawn(move || {
                // A client that does not believe it goes away.
                let _ = pump(StreamOwned::new(ServerConnection::new(config).unwrap(), here), there);
            });
        }
    });
    address
}

/// Hands bytes over in both directions until one ends.
fn pump(mut here: StreamOwned<ServerConnection, TcpStream>, mut there: TcpStream) -> std::io::Result<()> {
    for stream in [&here.sock, &there] {
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    }
    let mut block = [0; 1 << 14];
    loop {
        for back in [false, true] {
            let read = if back { there.read(&mut block) } else { here.read(&mut block) };
            match read {
                Ok(0) => return Ok(()),
                Ok(count) if back => here.write_all(&block[..count])?,
                Ok(count) => there.write_all(&block[..count])?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The other process of the next test: what is believed is known once.
#[test]
#[ignore = "started by an_authority_of_ones_own_is_believed_where_it_is_named"]
fn child() {
    match Client::from_env().unwrap().file(&repository(), &Revision::default(), "config.json", |_| {}) {
        Ok(path) => assert_eq!(fs::read(path).unwrap(), CONFIG),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_authority_of_ones_own_is_believed_where_it_is_named() {
    let (ca, empty) = (fixture("ca.pem"), tempfile::NamedTempFile::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&ca, folder.path().join("company.pem")).unwrap();
    let gone = folder.path().join("gone.pem");
    for (variables, believed) in [
        (&[("SSL_CERT_FILE", ca.as_path())][..], true),
        (&[("REQUESTS_CA_BUNDLE", &ca)], true),
        (&[("CURL_CA_BUNDLE", &ca)], true),
        // Python's client takes folders, too.
        (&[("REQUESTS_CA_BUNDLE", folder.path())], true),
        (&[("SSL_CERT_DIR", folder.path())], true),
        (&[("REQUESTS_CA_BUNDLE", &gone)], false),
        (&[("SSL_CERT_FILE", &ca), ("REQUESTS_CA_BUNDLE", empty.path())], true),
        (&[("SSL_CERT_FILE", empty.path()), ("REQUESTS_CA_BUNDLE", &ca)], false),
        (&[], false),
    ] {
        let setting = Setting::new();
        let endpoint = encrypted(setting.server.endpoint.strip_prefix("http://").unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tls::child", "--ignored", "--nocapture"]).env_clear().envs(variables.iter().copied());
        let output = command.env("HF_ENDPOINT", endpoint).env("HF_HUB_CACHE", setting.cache()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), believed, "{variables:?}: {told}");
        // It is not asked again, and said what to do.
        let (name, place) = variables.first().map_or(("SSL_CERT_FILE", Path::new("")), |(name, place)| (*name, *place));
        let says = |words: &str| told.contains(words);
        assert!(believed || says("invalid peer certificate") && says(name), "{told}");
        assert!(believed || place.as_os_str().is_empty() || says(&place.display().to_string()), "{told}");
        assert_eq!(setting.server.asked("").is_empty(), !believed);
    }
}
