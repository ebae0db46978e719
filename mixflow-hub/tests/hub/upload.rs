//! A folder, into a repository.

use std::fs;
use std::path::PathBuf;

use mixflow_hub::{Client, Token, Upload, Uploaded};

use crate::server::Server;
use crate::shared::{CONFIG, Setting, repository, weights};

const TOKEN: &str = "hf_writer";

/// A folder with what a published model has.
fn model(setting: &Setting) -> PathBuf {
    let folder = setting.folder.path().join("model");
    fs::create_dir_all(folder.join("samples")).unwrap();
    for (name, bytes) in [
        ("config.json", CONFIG),
        ("README.md", b"# SiT\n"),
        ("model.safetensors", &weights()),
        ("samples/a b#.txt", b""),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}

/// A server without repository, and a client that may write.
fn empty() -> Setting {
    let setting = Setting { server: Server::start(), folder: tempfile::tempdir().unwrap(), commit: String::new() };
    setting.server.state().tokens.push(TOKEN.into());
    setting
}

fn writer(setting: &Setting) -> Client {
    setting.client().token(Token::new(TOKEN, "a test").unwrap()).unwrap()
}

fn upload(setting: &Setting) -> Result<Uploaded, mixflow_hub::Error> {
    writer(setting).upload(&model(setting), &repository(), &Upload::new("a model"), |_| {})
}

#[test]
fn a_folder_becomes_a_repository() {
    let setting = empty();
    let done = upload(&setting).unwrap();
    let files = setting.server.files("org/sit", "main");
    assert_eq!(files["config.json"].bytes, CONFIG);
    assert_eq!(files["model.safetensors"].bytes, weights());
    assert_eq!(done.files_sent, 4);
}

#[test]
fn what_is_there_is_not_sent_again() {
    let setting = empty();
    let first = upload(&setting).unwrap();
    let second = upload(&setting).unwrap();
    assert_eq!((second.commit, second.sent, second.files_sent, second.files_kept), (first.commit, 0, 0, 4));
    assert_eq!(setting.server.asked("/commit/").len(), 1);
}
