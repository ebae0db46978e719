//! Several files at once, and a large one by several requests.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use mixflow_hub::{Error, RepositorySnapshot, Revision, TransferProgress};

use crate::server::{Content, Failing};
use crate::shared::{NAME, Setting, repository};

/// Large enough for three requests.
fn large() -> &'static [u8] {
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 15) as u8;
    LARGE.get_or_init(|| (0..40_000_000).map(byte).collect())
}

/// A repository of one such file.
fn one() -> Setting {
    let mut setting = Setting::new();
    setting.commit = setting.server.commit(NAME, "main", &[("model.safetensors", large(), true)]);
    setting
}

/// A repository of so many files.
fn many(count: u8) -> Setting {
    let mut setting = Setting::new();
    let contents: Vec<(String, Vec<u8>)> = (0..count).map(|i| (format!("{i:02}.bin"), vec![i; 100_000])).collect();
    let files: Vec<_> = contents.iter().map(|(name, bytes)| (name.as_str(), &bytes[..], true)).collect();
    setting.commit = setting.server.commit(NAME, "main", &files);
    setting
}

fn snapshot(setting: &Setting) -> Result<RepositorySnapshot, Error> {
    setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {})
}

#[test]
fn eight_files_come_at_once() {
    let setting = many(20);
    setting.server.fail("Signature=signed", 8, Failing::Together(8));
    let (mut begun, mut finished, mut most) = (BTreeSet::new(), BTreeSet::new(), 0);
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Begin { file, .. } => {
            assert!(begun.insert(file.to_string()));
            most = most.max(begun.len() - finished.len());
        }
        TransferProgress::Finished { file } => assert!(finished.insert(file.to_string())),
        _ => {}
    };
    let found = setting.client().snapshot(&repository(), &Revision::default(), &[], tell).unwrap();
    for (i, name) in found.files.iter().enumerate() {
        assert!(fs::read(found.folder.join(name)).unwrap() == vec![i as u8; 100_000], "{name}");
    }
    assert_eq!((begun.len(), finished.len(), most), (20, 20, 8));
    // The first waited for the others. The server may hear of the next one before it has noted the end of what it has sent.
    assert!(setting.server.state().busy.1 >= 8);
}

#[test]
fn one_that_fails_stops_the_others_and_what_came_stays() {
    let setting = many(20);
    setting.server.fail("/resolve/", 1, Failing::Answer(404, vec![("X-Error-Code", "EntryNotFound".into())], ""));
    setting.server.fail("Signature=signed", 99, Failing::Slow(Duration::from_millis(50)));
    assert!(matches!(snapshot(&setting), Err(Error::NoFile { .. })));
    let asked = setting.server.asked("Signature=signed").len();
    assert!(asked <= 8, "{asked}");
    assert!(!setting.stored().join("refs/main").exists(), "a snapshot that is not whole is none");
    setting.server.state().faults.clear();
    let whole = setting.blobs().iter().filter(|name| !name.contains('.')).count();
    snapshot(&setting).unwrap();
    assert_eq!(setting.server.asked("Signature=signed").len() - asked, 20 - whole);
}

#[test]
fn one_that_fails_stops_those_that_wait_for_others() {
    let setting = many(2);
    let locks = setting.cache().join(".locks/models--org--sit");
    fs::create_dir_all(&locks).unwrap();
    let hash = Content { bytes: vec![0; 100_000], large: true }.sha256();
    let lock = fs::File::create(locks.join(format!("{hash}.lock"))).unwrap();
    lock.lock().unwrap();
    let missing = vec![("X-Error-Code", "EntryNotFound".into())];
    setting.server.fail("01.bin", 1, Failing::Answer(404, missing, ""));
    assert!(matches!(snapshot(&setting), Err(Error::NoFile { .. })));
    drop(lock);
    snapshot(&setting).unwrap();
}

#[test]
fn a_large_file_comes_by_several_requests() {
    let setting = one();
    let (mut last, mut log) = (0, vec![]);
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Received { bytes, .. } => {
            assert!(bytes > last);
            last = bytes;
        }
        other => log.push(format!("{other:?}")),
    };
    let path = setting.client().file(&repository(), &Revision::default(), "model.safetensors", tell).unwrap();
    assert!(fs::read(path).unwrap() == large());
    assert_eq!((last, log.len()), (40_000_000, 2));
    let mut ranges: Vec<_> =
        setting.server.asked("Signature=signed").into_iter().filter_map(|(_, range)| range).collect();
    ranges.sort();
    assert_eq!(ranges, ["bytes=0-16777215", "bytes=16777216-33554431", "bytes=33554432-39999999"]);
    assert_eq!(setting.blobs().len(), 1);
}

#[test]
fn parts_that_break_go_on_and_the_whole_is_checked() {
    for (times, fault, requests) in [
        (2, Failing::Cut(3_000_000), 5),
        (2, Failing::Answer(503, vec![], ""), 5),
        (1, Failing::Answer(403, vec![], "expired"), 4),
        // All of it comes once more.
        (3, Failing::Corrupt, 6),
    ] {
        let setting = one();
        setting.server.fail("Signature=signed", times, fault.clone());
        assert!(fs::read(setting.file("model.safetensors").unwrap()).unwrap() == large(), "{fault:?}");
        assert_eq!(setting.server.asked("Signature=signed").len(), requests, "{fault:?}");
    }
}

#[test]
fn a_server_without_parts_sends_all() {
    let setting = one();
    setting.server.fail("Signature=signed", 99, Failing::Whole);
    assert!(fs::read(setting.file("model.safetensors").unwrap()).unwrap() == large());
    let setting = one();
    setting.server.fail("Signature=signed", 3, Failing::Headers(vec![("Content-Range", "bytes 0-1/2".into())]));
    assert!(fs::read(setting.file("model.safetensors").unwrap()).unwrap() == large());
}

#[test]
fn what_is_on_its_way_is_the_beginning_of_the_content() {
    let hash = Content { bytes: large().into(), large: true }.sha256();
    for failing in 1..=3 {
        let setting = one();
        setting.server.fail("Signature=signed", failing, Failing::Answer(404, vec![], "gone"));
        assert!(matches!(setting.file("model.safetensors"), Err(Error::Status { status: 404, .. })));
        let partial = setting.stored().join(format!("blobs/{hash}.incomplete"));
        // Where nothing came, there is none.
        let came = fs::read(partial).unwrap_or_default();
        assert!(large().starts_with(&came), "{}", came.len());
        // The next call goes on there.
        setting.server.state().faults.clear();
        assert!(fs::read(setting.file("model.safetensors").unwrap()).unwrap() == large());
    }
}

/// Other programs share the cache, and do not check what they put there.
#[test]
#[cfg(unix)]
fn a_cached_file_of_a_commit_is_checked() {
    let setting = Setting::new();
    let path = setting.file("config.json").unwrap();
    let content = fs::read(&path).unwrap();
    let pinned = setting.commit.parse().unwrap();
    let file = || setting.client().file(&repository(), &pinned, "config.json", |_| {});
    let before = setting.server.asked("").len();
    file().unwrap();
    assert_eq!(setting.server.asked("").len(), before);
    fs::write(&path, vec![b'x'; content.len()]).unwrap();
    let offline = setting.client().offline(true);
    assert!(matches!(offline.file(&repository(), &pinned, "config.json", |_| {}), Err(Error::NotCached { .. })));
    assert_eq!(fs::read(file().unwrap()).unwrap(), content);
    fs::write(&path, vec![b'x'; content.len()]).unwrap();
    snapshot(&setting).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
}
