//! What one fetched the other finds.

use std::fs;

use mixflow_hub::Revision;

use crate::model;
use crate::shared::{CONFIG, Setting, repository, weights};

#[test]
fn they_find_what_we_fetched() {
    let setting = Setting::new();
    let ours = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    let before = setting.server.asked("Signature=signed").len();
    let theirs = model(&setting);
    for (name, content) in [("model.safetensors", weights()), ("config.json", CONFIG.to_vec())] {
        for local in [true, false] {
            let path = theirs.download_file().filename(name).local_files_only(local).send().unwrap();
            assert_eq!(path, ours.folder.join(name));
            assert!(fs::read(path).unwrap() == content);
        }
    }
    assert_eq!(theirs.snapshot_download().local_files_only(true).send().unwrap(), ours.folder);
    assert_eq!(setting.server.asked("Signature=signed").len(), before);
}

#[test]
fn we_find_what_they_fetched() {
    let setting = Setting::new();
    let theirs = model(&setting);
    let model = theirs.download_file().filename("model.safetensors").send().unwrap();
    let config = theirs.download_file().filename("config.json").send().unwrap();
    let before = setting.server.asked("").len();
    let offline = setting.client().offline(true);
    let file = |name: &str| offline.file(&repository(), &Revision::default(), name, |_| {}).unwrap();
    assert_eq!((file("model.safetensors"), file("config.json")), (model, config));
    assert_eq!(setting.server.asked("").len(), before);
    let whole = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
    assert!(fs::read(whole.folder.join("model.safetensors")).unwrap() == weights());
}

#[test]
fn what_they_let_through_is_fetched_again() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, crate::server::Failing::Corrupt);
    let path = model(&setting).download_file().filename("model.safetensors").send().unwrap();
    assert!(fs::read(&path).unwrap() != weights(), "hf-hub 1.0.0 takes content of another hash");
    assert_eq!(setting.file("model.safetensors").unwrap(), path);
    assert!(fs::read(&path).unwrap() == weights());
}
