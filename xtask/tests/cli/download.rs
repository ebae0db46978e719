//! Files of the Hub.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Place;

/// Whoever waits for a file that another process fetches is told so, and leaves at once when asked to.
#[test]
fn who_waits_for_another_process_leaves_when_asked() {
    let place = Place::new();
    let [commit, hash] = ["1", "2"].map(|digit| digit.repeat(40));
    // What the commit has is known, so that nobody is asked.
    let trees = place.path("hub/models--org--name/trees");
    fs::create_dir_all(&trees).unwrap();
    let tree = json!({ "format_version": 1, "files": { "config.json": { "size": 3, "blob_id": hash } } });
    fs::write(trees.join(format!("{commit}.json")), tree.to_string()).unwrap();
    let locks = place.path("hub/.locks/models--org--name");
    fs::create_dir_all(&locks).unwrap();
    let lock = File::create(locks.join(format!("{hash}.lock"))).unwrap();
    lock.lock().unwrap();
    // Who starts a test in the background may have Ctrl-C ignored in all that it starts.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let signals = [(15, "TERM"), (2, "INT")];
    for (_, name) in signals.into_iter().filter(|(signal, _)| ignored.unwrap_or(0) >> (signal - 1) & 1 == 0) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
        command.args(["download", "org/name", "--revision", &commit]).current_dir(place.path("."));
        command.env("HF_HUB_CACHE", place.path("hub")).env("HF_ENDPOINT", "http://127.0.0.1:9");
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = told.next().unwrap().unwrap();
        let expected = format!("(process {}) fetches it, waiting; Ctrl-C stops", std::process::id());
        assert!(line.starts_with("config.json: "), "{line}");
        assert!(!cfg!(target_os = "linux") || line.ends_with(&expected), "{line}");
        let asked = Instant::now();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status().unwrap().success()
        );
        let status = loop {
            match process.try_wait().unwrap() {
                Some(status) => break status,
                None if asked.elapsed() < Duration::from_secs(5) => std::thread::sleep(Duration::from_millis(10)),
                None => {
                    process.kill().unwrap();
                    panic!("it does not leave at SIG{name}");
                }
            }
        };
        assert_eq!(status.code(), Some(130));
        assert_eq!(told.count(), 0);
    }
    // Nothing was begun.
    assert_eq!(crate::names(&place.path("hub/models--org--name/blobs")).len(), 0);
}
