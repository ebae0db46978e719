//! The Hub's own store: the server of Hugging Face's crate `xet-client`.
//!
//! `.ci/xet` runs what needs it. `cargo install xet-client --features simulation --bin local_cas_server`, then
//! `MIXFLOW_XET_SERVER` is its path; what needs it says so where it is missing.

mod download;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::server::{Content, Xet};
use crate::shared::{Setting, weights};

/// The store, until it is dropped.
pub(crate) struct Store {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub(crate) fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn start() -> Option<Store> {
    let Ok(program) = std::env::var("MIXFLOW_XET_SERVER") else {
        eprintln!("skipped: MIXFLOW_XET_SERVER is not set to the path of local_cas_server");
        return None;
    };
    let port = free();
    let mut command = Command::new(program);
    command.args(["--in-memory", "--port", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let store = Store { child: command.spawn().unwrap(), address: format!("http://127.0.0.1:{port}") };
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(store);
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the store does not start");
}

/// The same store at another address, and what is sent to it by that way; it gives so many bytes of answers and no more.
pub(crate) fn tapped(store: &Store, bytes: usize) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, there) = (Arc::new(Mutex::new(vec![])), store.address.strip_prefix("http://").unwrap().to_string());
    let (log, left) = (heard.clone(), Arc::new(Mutex::new(bytes)));
    thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let there = TcpStream::connect(&there).unwrap();
            let [from, to] = [&there, &here].map(|stream| stream.try_clone().unwrap());
            let left = left.clone();
            thread::spawn(move || {
                pipe(from, to, |block| {
                    let mut left = left.lock().unwrap();
                    let count = block.len().min(*left);
                    *left -= count;
                    count
                });
            });
            let log = log.clone();
            thread::spawn(move || {
                pipe(here, there, |block| {
                    log.lock().unwrap().extend_from_slice(block);
                    block.len()
                });
            });
        }
    });
    (address, heard)
}

/// Hands on what comes, as far as `take` lets it.
fn pipe(mut from: TcpStream, mut to: TcpStream, take: impl Fn(&[u8]) -> usize) {
    let mut block = vec![0; 1 << 16];
    while let Some(count) = from.read(&mut block).ok().filter(|count| *count > 0) {
        let taken = take(&block[..count]);
        if to.write_all(&block[..taken]).is_err() || taken < count {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Lets the Hub send large files to a store, where it expects the weights under `hash`.
pub(crate) fn offer(setting: &Setting, address: &str, hash: &str) {
    let oid = Content { bytes: weights(), large: true }.sha256();
    let files = BTreeMap::from([(oid, (hash.into(), weights()))]);
    setting.server.state().xet = Some(Xet { address: address.into(), files });
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
