//! The commit: made once, upon what is there, or not at all.

use std::fs;
use std::time::Duration;

use mixflow_hub::{Error, Patience, Upload};

use super::{assert_published, commits, empty, model, published, stored, upload, writer};
use crate::server::Failing;
use crate::shared::{CONFIG, NAME, Setting, hasty, repository};

/// Commits that the repository has, with the Hub's first.
fn made(setting: &Setting) -> usize {
    setting.server.state().repositories[NAME].commits.len()
}

#[test]
fn a_lost_answer_makes_no_second_commit() {
    for fault in [Failing::Lost, Failing::Slow(Duration::from_secs(2)), Failing::Body(b"<html>502</html>")] {
        let setting = empty();
        setting.server.fail("/commit/", 1, fault);
        let client = writer(&setting).patience(Patience { silence: Duration::from_millis(300), ..hasty() });
        let done = client.upload(&model(&setting), &repository(), &Upload::new("a model"), |_| {}).unwrap();
        assert_published(&setting);
        assert_eq!((made(&setting), commits(&setting).len(), done.files_sent), (2, 1, 4));
        assert_eq!(done.commit.as_str(), setting.server.state().repositories[NAME].refs["main"]);
        assert_eq!(done.sent, super::SIZE);
    }
    // Even after the last attempt.
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Lost);
    let client = writer(&setting).patience(Patience { attempts: 1, ..hasty() });
    client.upload(&model(&setting), &repository(), &Upload::new("a model"), |_| {}).unwrap();
    assert_published(&setting);
}

#[test]
fn a_commit_that_was_not_made_is_made_again() {
    for fault in [
        Failing::Cut(100),
        Failing::Answer(500, vec![], ""),
        Failing::Answer(503, vec![("Retry-After", "0".into())], ""),
        Failing::Answer(429, vec![("Retry-After", "0".into())], ""),
    ] {
        let setting = empty();
        setting.server.fail("/commit/", 2, fault);
        upload(&setting).unwrap();
        assert_published(&setting);
        assert_eq!((made(&setting), commits(&setting).len(), stored(&setting).1), (2, 3, 1));
    }
}

#[test]
fn another_commit_in_between_is_built_upon() {
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Another("LICENSE", b"MIT"));
    let done = upload(&setting).unwrap();
    let mut files = published(&setting);
    assert_eq!(files.remove("LICENSE").unwrap().bytes, b"MIT");
    assert!(files.keys().eq(super::NAMES));
    assert_eq!((made(&setting), commits(&setting).len(), done.files_sent, stored(&setting).1), (3, 2, 4, 1));

    // It may have brought what we would.
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Another("config.json", CONFIG));
    upload(&setting).unwrap();
    assert_published(&setting);
    let names = |lines: &[serde_json::Value]| lines.len() - 1;
    assert_eq!(commits(&setting).iter().map(|lines| names(lines)).collect::<Vec<_>>(), [4, 3]);
}

#[test]
fn another_commit_may_change_what_was_there() {
    let setting = empty();
    upload(&setting).unwrap();
    fs::write(model(&setting).join("README.md"), "# New\n").unwrap();
    // Others exchange a file that we would have left out.
    setting.server.fail("/commit/", 1, Failing::Another("config.json", b"others"));
    let done = upload(&setting).unwrap();
    assert_published(&setting);
    assert_eq!((done.files_sent, done.files_kept), (2, 2));
}

#[test]
fn another_commit_may_make_ours_needless() {
    let setting = empty();
    upload(&setting).unwrap();
    fs::write(model(&setting).join("config.json"), "{}").unwrap();
    setting.server.fail("/commit/", 1, Failing::Another("config.json", b"{}"));
    let done = upload(&setting).unwrap();
    assert_published(&setting);
    assert_eq!(done.commit.as_str(), setting.server.state().repositories[NAME].refs["main"]);
    assert_eq!((made(&setting), commits(&setting).len()), (3, 2));
}

#[test]
fn conflicts_without_end_end() {
    for status in [409, 412] {
        let setting = empty();
        setting.server.fail("/commit/", 99, Failing::Answer(status, vec![("X-Error-Message", "again".into())], ""));
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert!(
            error.to_string().starts_with("org/sit gets other commits on main at the same time (again)"),
            "{error}"
        );
        assert_eq!((commits(&setting).len(), made(&setting)), (4, 1));
    }
}

#[test]
fn where_nobody_knows_whether_it_was_made_it_is_said() {
    for fault in [Failing::Lost, Failing::Answer(500, vec![], "")] {
        let setting = empty();
        upload(&setting).unwrap();
        fs::write(model(&setting).join("config.json"), "{}").unwrap();
        setting.server.fail("/commit/", 1, fault);
        // The head is found before the commit, and not after it.
        let tell = |event: mixflow_hub::TransferProgress<'_>| {
            if let mixflow_hub::TransferProgress::Committing { .. } = event {
                setting.server.fail("/revision/", 99, Failing::Answer(503, vec![], ""));
            }
        };
        let error = writer(&setting).upload(&model(&setting), &repository(), &Upload::new("x"), tell).unwrap_err();
        assert!(matches!(error, Error::Unsure { .. }), "{error}");
        assert!(error.to_string().starts_with("it is unknown whether org/sit has the commit"), "{error}");
        // The next call finds out.
        setting.server.state().faults.clear();
        let before = commits(&setting).len();
        upload(&setting).unwrap();
        assert_published(&setting);
        assert!(commits(&setting).len() <= before + 1 && made(&setting) == 3);
    }
}

#[test]
fn a_commit_that_is_refused_is_not_repeated() {
    for (status, message) in [(400, "Invalid metadata in README.md"), (403, "no right"), (413, "too large")] {
        let setting = empty();
        setting.server.fail("/commit/", 9, Failing::Answer(status, vec![("X-Error-Message", message.into())], ""));
        let error = upload(&setting).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(commits(&setting).len() == 1 && published(&setting).is_empty());
    }
    // The Hub says it in the body at times.
    let setting = empty();
    setting.server.fail("/commit/", 9, Failing::Answer(400, vec![], "{\"error\": \"said in the body\"}"));
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.ends_with("answered 400 (said in the body)"), "{error}");
}

#[test]
fn every_commit_names_its_parent() {
    let setting = empty();
    setting.server.fail("/commit/", 1, Failing::Another("LICENSE", b"MIT"));
    setting.server.fail("/commit/", 3, Failing::Answer(500, vec![], ""));
    upload(&setting).unwrap();
    let asked = commits(&setting);
    let parent = |lines: &[serde_json::Value]| lines[0]["value"]["parentCommit"].as_str().unwrap().to_string();
    let state = setting.server.state();
    let all = &state.repositories[NAME].commits;
    assert!(asked.len() == 4 && asked.iter().all(|lines| all.contains_key(&parent(lines))));
}

#[test]
fn what_is_replaced_goes_in_the_same_commit() {
    let setting = empty();
    upload(&setting).unwrap();
    fs::remove_dir_all(model(&setting).join("samples")).unwrap();
    let again = |upload: Upload| writer(&setting).upload(&model(&setting), &repository(), &upload, |_| {}).unwrap();
    // Nothing goes unless it is said so, and nothing whose name only begins alike.
    for upload in [Upload::new("same"), Upload::new("same").replacing("sample").replacing("samples/a")] {
        let done = again(upload);
        assert_eq!((done.files_kept, done.files_removed, published(&setting).len()), (3, 0, 4));
    }
    // Another commit in between changes nothing of it.
    setting.server.fail("/commit/", 1, Failing::Another("samples/b", b"b"));
    let done = again(Upload::new("without samples").replacing("samples").replacing("config.json"));
    assert_eq!((done.files_sent, done.files_kept, done.files_removed), (0, 3, 2));
    assert!(published(&setting).keys().eq(&super::NAMES[..3]));
    let head = setting.server.state().repositories[NAME].refs["main"].clone();
    assert_eq!(again(Upload::new("same").replacing("samples")).commit.as_str(), head);
}
