//! A folder, into a repository: over a real wire, with all that can happen to it.

mod commit;
mod folder;
mod large;
mod refused;
mod several;
#[cfg(feature = "xet")]
mod xet;

use std::fs;
use std::path::PathBuf;

use mixflow_hub::{Client, Error, Token, Upload, Uploaded};
use serde_json::Value;

use crate::server::{Files, Server};
use crate::shared::{CONFIG, NAME, Setting, repository, weights};

/// What the writer of all tests has.
pub(crate) const TOKEN: &str = "hf_aWriter";

/// Bytes of what [`model`] holds: a large file and two small ones.
const SIZE: u64 = 3_000_000 + 6 + 16;

/// Names of what [`model`] holds, sorted.
const NAMES: [&str; 4] = ["README.md", "config.json", "model.safetensors", "samples/a b#ü.txt"];

/// A server without repository, and a folder that is to become one.
pub(crate) fn empty() -> Setting {
    let server = Server::start();
    server.state().tokens.push(TOKEN.into());
    let setting = Setting { server, folder: tempfile::tempdir().unwrap(), commit: String::new() };
    fs::create_dir_all(model(&setting).join("samples")).unwrap();
    for (name, bytes) in NAMES.iter().zip([b"# SiT\n", CONFIG, &weights(), b""]) {
        fs::write(model(&setting).join(name), bytes).unwrap();
    }
    setting
}

/// The folder.
pub(crate) fn model(setting: &Setting) -> PathBuf {
    setting.folder.path().join("model")
}

pub(crate) fn writer(setting: &Setting) -> Client {
    setting.client().token(Token::new(TOKEN, "a test").unwrap()).unwrap()
}

/// Uploads the folder to `main` of the one repository, without progress.
fn upload(setting: &Setting) -> Result<Uploaded, Error> {
    writer(setting).upload(&model(setting), &repository(), &Upload::new("a model"), |_| {})
}

/// What the branch has beside what the Hub puts into every repository.
fn published(setting: &Setting) -> Files {
    let mut files = setting.server.files(NAME, "main");
    files.remove(".gitattributes");
    files
}

/// Whether the branch has what the folder has, and large files are kept apart.
fn assert_published(setting: &Setting) {
    let files = published(setting);
    assert!(files.keys().eq(NAMES), "{:?}", files.keys());
    for (name, content) in files {
        assert!(content.bytes == fs::read(model(setting).join(&name)).unwrap(), "{name}");
        assert_eq!(content.large, name.ends_with(".safetensors"), "{name}");
    }
}

/// The commits that were asked for, as lines.
fn commits(setting: &Setting) -> Vec<Vec<Value>> {
    let lines = |body: Vec<u8>| {
        let text = String::from_utf8(body).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    };
    setting.server.bodies("/commit/").into_iter().map(lines).collect()
}

/// How many bytes went to the storage server, in how many requests.
fn stored(setting: &Setting) -> (usize, usize) {
    let bodies = setting.server.bodies("Signature=signed").into_iter();
    let bodies: Vec<_> = bodies.filter(|body| !body.starts_with(b"{")).collect();
    (bodies.iter().map(Vec::len).sum(), bodies.len())
}

#[test]
fn a_folder_becomes_a_repository() {
    let setting = empty();
    let mut log = vec![];
    let upload = Upload::new("a model\n\nof 3 MB\n");
    let tell = crate::shared::written(&mut log);
    let done = writer(&setting).upload(&model(&setting), &repository(), &upload, tell).unwrap();
    assert_published(&setting);
    let state = setting.server.state();
    assert_eq!(done.commit.as_str(), state.repositories[NAME].refs["main"]);
    assert_eq!(done.address, format!("{}/org/sit", setting.server.endpoint));
    assert_eq!((done.sent, done.files_sent, done.files_kept), (SIZE, 4, 0));
    assert!(state.repositories[NAME].private.is_none());
    drop(state);

    let commits = commits(&setting);
    let header = &commits[0][0]["value"];
    assert_eq!((&header["summary"], &header["description"]), (&"a model".into(), &"of 3 MB".into()));
    assert_eq!(header["parentCommit"].as_str().map(str::len), Some(40));
    for event in ["Created", "Sending", "Sent", "Stored", "Committing { files: 4 }"] {
        assert!(log.iter().any(|line| line.starts_with(event)), "{event}: {log:?}");
    }
    let last = "Sent { file: \"model.safetensors\", bytes: 3000000, size: 3000000 }";
    assert!(log.iter().any(|line| line == last));
}

#[test]
fn what_is_there_is_not_sent_again() {
    let setting = empty();
    let first = upload(&setting).unwrap();
    let second = upload(&setting).unwrap();
    assert_eq!((&second.commit, second.sent, second.files_sent, second.files_kept), (&first.commit, 0, 0, 4));
    assert_eq!((commits(&setting).len(), stored(&setting)), (1, (3_000_000, 1)));

    // One file changes; the store has the other's content under another name.
    fs::write(model(&setting).join("config.json"), "{}").unwrap();
    fs::copy(model(&setting).join("model.safetensors"), model(&setting).join("again.safetensors")).unwrap();
    let third = upload(&setting).unwrap();
    assert_eq!((third.sent, third.files_sent, third.files_kept), (2, 2, 3));
    let lines = &commits(&setting)[1];
    let names: Vec<_> = lines[1..].iter().map(|line| line["value"]["path"].as_str().unwrap()).collect();
    assert_eq!(lines[0]["value"]["parentCommit"], second.commit.as_str());
    assert_eq!(names, ["again.safetensors", "config.json"]);
    assert_eq!((published(&setting).len(), stored(&setting)), (5, (3_000_000, 1)));
}

#[test]
fn other_files_of_the_branch_stay() {
    let setting = empty();
    setting.server.commit(NAME, "main", &[("LICENSE", b"MIT", false), ("config.json", b"old", false)]);
    upload(&setting).unwrap();
    let mut files = published(&setting);
    assert_eq!(files.remove("LICENSE").unwrap().bytes, b"MIT");
    assert!(files.keys().eq(NAMES) && files["config.json"].bytes == CONFIG);
}

#[test]
fn a_branch_is_made_from_main() {
    let setting = empty();
    let to = |branch: &str| {
        writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a model").branch(branch), |_| {})
    };
    let done = to("runs/7").unwrap();
    assert_eq!(done.address, format!("{}/org/sit/tree/runs/7", setting.server.endpoint));
    assert!(published(&setting).is_empty() && setting.server.files(NAME, "runs/7").len() == 5);
    // What one branch has is not sent for another; a lost answer to its making changes nothing.
    setting.server.fail("/branch/", 1, crate::server::Failing::Lost);
    let other = to("runs/8").unwrap();
    assert_eq!((other.sent, stored(&setting).1), (SIZE - 3_000_000, 1));
    assert_eq!(setting.server.asked("/branch/").len(), 3);

    for branch in ["", "a b", "..", &"0".repeat(40)] {
        let error = to(branch).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{error}");
    }
}

#[test]
fn a_private_repository_is_private_before_anything_is_sent() {
    let setting = empty();
    let private = Upload::new("a model").private(true);
    let run = || writer(&setting).upload(&model(&setting), &repository(), &private, |_| {});
    run().unwrap();
    assert_eq!(setting.server.state().repositories[NAME].private.as_deref(), Some(TOKEN));
    assert_published(&setting);

    // One that is public, and a server that makes no others.
    setting.server.state().repositories.get_mut(NAME).unwrap().private = None;
    fs::write(model(&setting).join("config.json"), "{}").unwrap();
    for _ in 0..2 {
        let error = run().unwrap_err();
        let hint =
            format!("is public: nothing was sent; make it private at {}/org/sit/settings", setting.server.endpoint);
        assert!(matches!(error, Error::Public { .. }) && error.to_string().contains(&hint), "{error}");
        setting.server.state().repositories.clear();
        setting.server.state().rules.private = false;
    }
    assert_eq!((commits(&setting).len(), setting.server.asked("/preupload/").len()), (1, 1));
}

/// A server to try commands against, until it is stopped: `cargo test --test hub serve -- --ignored --nocapture`.
#[test]
#[ignore = "serves until it is stopped"]
#[allow(clippy::print_stdout, reason = "a person reads it")]
fn serve() {
    let setting = empty();
    println!("HF_ENDPOINT={} HF_TOKEN={TOKEN} HF_HOME={}", setting.server.endpoint, setting.folder.path().display());
    loop {
        std::thread::park();
    }
}
