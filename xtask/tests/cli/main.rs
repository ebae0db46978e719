//! The commands as a user calls them, on tiny networks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapter;
mod checkpoint;
mod clip;
mod convert;
mod data;
mod decoder;
mod device;
#[cfg(unix)]
mod download;
mod encode;
mod eval;
mod guide;
mod latents;
mod messages;
mod overview;
mod publish;
mod readme;
#[cfg(feature = "remote")]
mod remote;
mod run_folder;
mod sample;
mod shard;
mod start;
mod text;
mod tracking;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const COMMIT: &str = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";

/// A folder that commands are called in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Calls a command, which finds in the folder `hub` what it would ask the Hub for.
    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
        command.args(arguments).current_dir(self.0.path()).env_remove("HF_TOKEN");
        command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", self.path("hub")).output().unwrap()
    }

    /// Puts these files into the folder `hub` as the repository `org/name` at [`COMMIT`].
    fn cache(&self, name: &str, files: &[(&str, &Path)]) {
        self.cache_at(COMMIT, name, files);
    }

    /// The same at a commit, which is the newest.
    fn cache_at(&self, commit: &str, name: &str, files: &[(&str, &Path)]) {
        let folder = self.path("hub").join(format!("models--org--{name}"));
        let snapshot = folder.join("snapshots").join(commit);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), commit).unwrap();
        for (name, from) in files {
            std::fs::copy(from, snapshot.join(name)).unwrap();
        }
    }

    /// What a command prints that succeeds.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command tells beside its results.
    #[track_caller]
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {told}");
        told
    }

    /// Asserts that a command fails for a reason with these words, told in one line.
    #[track_caller]
    fn refuse(&self, arguments: &[&str], words: &[&str]) {
        let output = self.call(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        let reason = told.lines().last().unwrap_or_default();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        assert!(reason.starts_with("error: "), "{arguments:?}: {told}");
        for word in words {
            assert!(reason.contains(word), "{arguments:?}: expected `{word}` in: {told}");
        }
    }
}

/// Everything below a folder: folders, and files with what they hold.
fn everything(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
            found.push((path, None));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.push((path, Some(content)));
        }
    }
    found.sort();
    found
}

/// Sorted names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
