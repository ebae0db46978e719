//! Rows of the fault matrix of downloads, as version 1.0.0 of hf-hub meets them. COMPARE.md tells them; what fails here is
//! what a newer version does otherwise.

use std::fs;

use serde_json::json;

use crate::model;
use crate::server::Failing;
use crate::shared::{Setting, names, weights};

/// What they take for the large file.
fn fetched(setting: &Setting) -> Option<Vec<u8>> {
    Some(fs::read(model(setting).download_file().filename("model.safetensors").send().ok()?).unwrap())
}

#[test]
fn an_error_of_the_storage_server_becomes_the_file() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 9, Failing::Answer(403, vec![], "<Error>AccessDenied</Error>"));
    assert_eq!(fetched(&setting).unwrap(), b"<Error>AccessDenied</Error>");
}

#[test]
fn other_lengths_and_other_content_are_taken() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Body(b"short"));
    assert_eq!(fetched(&setting).unwrap(), b"short");
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Corrupt);
    let content = fetched(&setting).unwrap();
    assert!(content.len() == weights().len() && content != weights());
}

#[test]
fn a_transfer_that_broke_begins_anew_in_another_call() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Cut(1_000_000));
    assert_eq!(fetched(&setting), None);
    assert!(fetched(&setting).unwrap() == weights());
    let ranges: Vec<_> = setting.server.asked("Signature=signed").into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [None, None]);
}

#[test]
fn names_and_commits_of_the_server_lead_out_of_the_cache() {
    let setting = Setting::new();
    setting.server.state().listed.push(json!({
        "type": "file", "oid": "0".repeat(40), "size": 2, "path": "../../../../escaped.txt",
    }));
    model(&setting).snapshot_download().send().unwrap();
    assert_eq!(names(setting.folder.path()), ["escaped.txt", "hub"]);
    let commit = "../../../out".into();
    setting.server.fail("/resolve/", 9, Failing::Headers(vec![("X-Repo-Commit", commit)]));
    model(&setting).download_file().filename("config.json").force_download(true).send().unwrap();
    assert!(fs::symlink_metadata(setting.folder.path().join("out/config.json")).is_ok());
}
