//! Rows of the fault matrix of uploads, as version 1.0.0 of hf-hub meets them, called with the parent of the commit.

use std::fs;
use std::time::{Duration, Instant};

use hf_hub::repository::{AddSource, CommitInfo, CommitOperation, RepoTypeModel};
use hf_hub::{HFRepositorySync, HFResult};

use crate::server::{Failing, Server};
use crate::shared::{CONFIG, NAME, Setting, weights};
use crate::theirs;

const TOKEN: &str = "hf_aWriter";

/// A server with an empty repository, and a folder that is to be in it.
fn empty() -> Setting {
    let server = Server::start();
    server.state().tokens.push(TOKEN.into());
    let commit = server.commit(NAME, "main", &[(".gitattributes", b"", false)]);
    let setting = Setting { server, folder: tempfile::tempdir().unwrap(), commit };
    fs::write(setting.folder.path().join("config.json"), CONFIG).unwrap();
    fs::write(setting.folder.path().join("model.safetensors"), weights()).unwrap();
    setting
}

fn repository(setting: &Setting) -> HFRepositorySync<RepoTypeModel> {
    theirs(setting, Some(TOKEN)).model("org", "sit")
}

/// A commit of these files, upon the head that was there at first.
fn commit(setting: &Setting, names: &[&str]) -> HFResult<CommitInfo> {
    let add = |name: &&str| CommitOperation::Add {
        path_in_repo: (*name).into(),
        source: AddSource::File(setting.folder.path().join(name)),
    };
    let repository = repository(setting);
    let commit = repository.create_commit().operations(names.iter().map(add).collect());
    commit.commit_message("a model").parent_commit(setting.commit.clone()).send()
}

/// Commits that the repository has, with the Hub's first.
fn made(setting: &Setting) -> usize {
    setting.server.state().repositories[NAME].commits.len()
}

#[test]
fn a_large_file_goes_into_the_commit_where_no_xet_is_offered() {
    for part in [None, Some(1_000_000)] {
        let setting = empty();
        setting.server.state().rules.part = part;
        commit(&setting, &["model.safetensors"]).unwrap();
        // Three million bytes as base64, and nothing in the store.
        assert!(setting.server.bodies("/commit/")[0].len() > 4_000_000);
        assert!(!setting.server.files(NAME, "main")["model.safetensors"].large);
        assert!(setting.server.asked("Signature=signed").is_empty());
    }
}

/// It is made once, since its parent is named; whoever calls has to look for it.
#[test]
fn a_commit_whose_answer_is_lost_is_sent_again_and_told_as_failed() {
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Lost);
    let error = commit(&setting, &["config.json"]).unwrap_err().to_string();
    assert!(error.contains("412"), "{error}");
    assert_eq!((setting.server.asked("/commit/").len(), made(&setting)), (2, 2));
}

#[test]
fn a_server_that_asks_to_wait_is_not_waited_for() {
    let setting = empty();
    setting.server.fail("/commit/", 9, Failing::Answer(429, vec![("Retry-After", "1".into())], ""));
    let started = Instant::now();
    assert!(commit(&setting, &["config.json"]).is_err());
    assert!(setting.server.asked("/commit/").len() == 3 && started.elapsed() < Duration::from_secs(1));
}

#[test]
fn silence_has_no_end() {
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Slow(Duration::from_secs(20)));
    let started = Instant::now();
    assert!(commit(&setting, &["config.json"]).is_ok() && started.elapsed() >= Duration::from_secs(20));
}

#[test]
fn what_the_branch_has_is_committed_once_more() {
    let mut setting = empty();
    commit(&setting, &["config.json"]).unwrap();
    setting.commit = setting.server.state().repositories[NAME].refs["main"].clone();
    let before = made(&setting);
    commit(&setting, &["config.json"]).unwrap();
    assert_eq!(made(&setting), before + 1);
}

#[test]
fn names_that_the_hub_ignores_are_committed() {
    let setting = empty();
    setting.server.state().rules.ignored.push("config.json");
    commit(&setting, &["config.json"]).unwrap();
    assert!(setting.server.files(NAME, "main").contains_key("config.json"));
}
