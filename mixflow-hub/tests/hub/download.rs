//! What comes, and where it goes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use mixflow_hub::{Cache, Client, Endpoint, Error, Patience, Revision, TransferProgress};

use crate::server::{Content, Failing};
use crate::shared::{CONFIG, Setting, hasty, names, repository, weights, written};

#[test]
fn a_file_goes_where_huggingface_hub_keeps_it() {
    let setting = Setting::new();
    let model = setting.file("model.safetensors").unwrap();
    let config = setting.file("vae/config.json").unwrap();

    let snapshot = setting.stored().join("snapshots").join(&setting.commit);
    assert_eq!(model, snapshot.join("model.safetensors"));
    assert_eq!(config, snapshot.join("vae/config.json"));
    assert_eq!((fs::read(&model).unwrap(), fs::read(&config).unwrap()), (weights(), b"{}".to_vec()));

    let large = Content { bytes: weights(), large: true }.sha256();
    let small = Content { bytes: b"{}".into(), large: false }.git_hash();
    let mut hashes = vec![large.clone(), small.clone()];
    hashes.sort();
    assert_eq!(setting.blobs(), hashes);
    assert_eq!(
        names(&setting.cache().join(".locks/models--org--sit")),
        hashes.iter().map(|hash| format!("{hash}.lock")).collect::<Vec<_>>()
    );
    assert_eq!(fs::read_to_string(setting.stored().join("refs/main")).unwrap(), setting.commit);
    #[cfg(unix)]
    {
        use std::path::Path;
        assert_eq!(fs::read_link(&model).unwrap(), Path::new(&format!("../../blobs/{large}")));
        assert_eq!(fs::read_link(&config).unwrap(), Path::new(&format!("../../../blobs/{small}")));
    }
}

#[test]
fn what_is_cached_is_not_fetched_again() {
    let setting = Setting::new();
    let first = setting.file("model.safetensors").unwrap();
    assert_eq!(setting.file("model.safetensors").unwrap(), first);
    assert_eq!(setting.server.asked("/resolve/").iter().filter(|(method, _)| method == "GET").count(), 1);

    // A commit never changes: nobody is asked.
    let before = setting.server.asked("").len();
    let commit: Revision = setting.commit.parse().unwrap();
    assert_eq!(setting.client().file(&repository(), &commit, "model.safetensors", |_| {}).unwrap(), first);
    assert_eq!(setting.server.asked("").len(), before);
}

#[test]
#[cfg(unix)]
fn a_cached_file_that_was_cut_is_fetched_again() {
    let setting = Setting::new();
    let path = setting.file("model.safetensors").unwrap();
    fs::write(&path, b"short").unwrap();
    assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
    fs::write(&path, b"short").unwrap();
    setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), weights());
}

#[test]
fn branches_tags_and_commits_are_revisions() {
    let setting = Setting::new();
    let old = setting.server.commit("org/sit", "refs/pr/1", &[("config.json", b"old", false)]);
    let read = |revision: &str| {
        let path = setting.client().file(&repository(), &revision.parse().unwrap(), "config.json", |_| {}).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!((read("main"), read("refs/pr/1"), read(&old)), (CONFIG.to_vec(), b"old".to_vec(), b"old".to_vec()));
    assert_eq!(fs::read_to_string(setting.stored().join("refs/refs/pr/1")).unwrap(), old);

    // The branch moves, and the cache with it; the old state stays.
    let new = setting.server.commit("org/sit", "main", &[("config.json", b"new", false)]);
    assert_eq!((read("main"), read(&setting.commit)), (b"new".to_vec(), CONFIG.to_vec()));
    assert_eq!(fs::read_to_string(setting.stored().join("refs/main")).unwrap(), new);
}

#[test]
fn a_repository_comes_whole_or_by_patterns() {
    let setting = Setting::new();
    setting.server.state().page = 2;
    let (client, main) = (setting.client(), Revision::default());
    let part = client.snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap();
    assert_eq!(part.files, ["config.json", "vae/config.json"]);
    assert_eq!(part.commit.as_str(), setting.commit);
    assert_eq!(setting.blobs().len(), 2);

    let whole = client.snapshot(&repository(), &main, &[], |_| {}).unwrap();
    assert_eq!(whole.files, ["config.json", "model.safetensors", "vae/a b#.txt", "vae/config.json"]);
    assert_eq!(whole.folder, part.folder);
    assert_eq!(fs::read(whole.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs::read(whole.folder.join("vae/a b#.txt")).unwrap(), b"");
    // Pages of two: the four files and the folder that the listing has besides.
    assert_eq!(setting.server.asked("/tree/").len(), 3);

    let error = client.snapshot(&repository(), &main, &["*.json", "*.pt"], |_| {}).unwrap_err();
    assert!(matches!(&error, Error::NoFile { file, .. } if file == "*.pt"), "{error}");
    assert!(error.to_string().contains("it has config.json, model.safetensors, "), "{error}");
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let setting = Setting::new();
    let storage = "Signature=signed";
    setting.server.fail(storage, 1, Failing::Cut(1_000_000));
    setting.server.fail(storage, 1, Failing::Headers(vec![("X-Unused", String::new())]));
    let mut log = vec![];
    let path =
        setting.client().file(&repository(), &Revision::default(), "model.safetensors", written(&mut log)).unwrap();
    assert_eq!(fs::read(path).unwrap(), weights());
    let ranges: Vec<_> = setting.server.asked(storage).into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [None, Some("bytes=1000000-".into())]);
    assert!(log.iter().any(|event| event.contains("Retrying") && event.contains("1000000 of 3000000")), "{log:?}");
}

#[test]
fn another_process_goes_on_where_one_was_killed() {
    let setting = Setting::new();
    let hash = Content { bytes: weights(), large: true }.sha256();
    let blobs = setting.stored().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{hash}.incomplete")), &weights()[..1_234_567]).unwrap();
    let mut log = vec![];
    let path =
        setting.client().file(&repository(), &Revision::default(), "model.safetensors", written(&mut log)).unwrap();
    assert_eq!(fs::read(path).unwrap(), weights());
    assert_eq!(setting.server.asked("Signature=signed"), [("GET".into(), Some("bytes=1234567-".into()))]);
    assert!(log[0].contains("resumed: 1234567"), "{log:?}");
    assert_eq!(setting.blobs(), [hash]);
}

#[test]
#[cfg(unix)]
fn what_a_killed_process_was_writing_is_gone_on_with() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Stall(Duration::from_secs(60)));
    let mut child = start(&setting);
    let came = || {
        names(&setting.stored().join("blobs")).iter().any(|name| {
            fs::metadata(setting.stored().join("blobs").join(name)).is_ok_and(|found| found.len() == 1_500_000)
        })
    };
    while !came() {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
    assert_eq!(setting.server.asked("Signature=signed")[1..], [("GET".into(), Some("bytes=1500000-".into()))]);
    assert_eq!(setting.blobs(), [Content { bytes: weights(), large: true }.sha256()]);
}

/// As where a file system grants a lock to all; here somebody clears the folder of locks, and then all that one has fetched
/// is begun anew.
#[test]
#[cfg(unix)]
fn two_that_no_lock_keeps_apart_both_get_the_content() {
    let setting = &Setting::new();
    let hash = Content { bytes: weights(), large: true }.sha256();
    let fetch = |tell: &mut (dyn FnMut(TransferProgress<'_>) + Send)| {
        let path = setting.client().file(&repository(), &Revision::default(), "model.safetensors", tell).unwrap();
        fs::read(path).unwrap() == weights()
    };
    setting.server.fail("Signature=signed", 1, Failing::Stall(Duration::from_secs(1)));
    let (received, half) = mpsc::channel();
    std::thread::scope(|scope| {
        let first = scope.spawn(move || {
            fetch(&mut |event| {
                if let TransferProgress::Received { .. } = event {
                    let _ = received.send(());
                }
            })
        });
        half.recv().unwrap();
        fs::remove_dir_all(setting.cache().join(".locks")).unwrap();
        // The first is whole before the second goes on.
        setting.server.fail("Signature=signed", 1, Failing::Whole);
        setting.server.fail("Signature=signed", 1, Failing::Cut(1000));
        let second = scope.spawn(|| {
            fetch(&mut |event| {
                if let TransferProgress::Retrying { .. } = event {
                    setting.server.fail("Signature=signed", 1, Failing::Slow(Duration::from_secs(2)));
                }
            })
        });
        assert!(first.join().unwrap(), "the first");
        assert!(second.join().unwrap(), "the second");
    });
    assert_eq!(setting.blobs(), [hash]);
}

#[test]
fn a_failed_transfer_keeps_what_came_for_the_next_call() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 4, Failing::Cut(1000));
    let error = setting.file("model.safetensors").unwrap_err();
    assert!(matches!(error, Error::Interrupted { received: 4000, size: 3_000_000, .. }), "{error}");
    let before = setting.server.asked("Signature=signed").len();
    assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
    assert_eq!(setting.server.asked("Signature=signed")[before..], [("GET".into(), Some("bytes=4000-".into()))]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Cut(2_000_000));
    setting.server.fail("Signature=signed", 2, Failing::Whole);
    assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
}

#[test]
fn remains_that_are_wrong_or_too_long_are_fetched_anew() {
    for remains in [vec![7; 1000], vec![7; 4_000_000], vec![7; 3_000_000]] {
        let setting = Setting::new();
        let hash = Content { bytes: weights(), large: true }.sha256();
        let blobs = setting.stored().join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{hash}.incomplete")), &remains).unwrap();
        assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
    }
    // A blob that somebody cut is replaced.
    let setting = Setting::new();
    let hash = Content { bytes: weights(), large: true }.sha256();
    fs::create_dir_all(setting.stored().join("blobs")).unwrap();
    fs::write(setting.stored().join("blobs").join(&hash), b"short").unwrap();
    assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights());
}

#[test]
fn a_busy_server_is_asked_again_after_what_it_says() {
    for status in [429, 500, 502, 503, 504] {
        let setting = Setting::new();
        setting.server.fail("/resolve/", 2, Failing::Answer(status, vec![("Retry-After", "0".into())], "busy"));
        setting.server.fail("Signature=signed", 2, Failing::Answer(status, vec![], "busy"));
        assert_eq!(fs::read(setting.file("model.safetensors").unwrap()).unwrap(), weights(), "{status}");
    }
    let setting = Setting::new();
    setting.server.fail("config.json", 1, Failing::Answer(429, vec![("Retry-After", "1".into())], ""));
    let mut log = vec![];
    setting.client().file(&repository(), &Revision::default(), "config.json", written(&mut log)).unwrap();
    assert!(log[0].starts_with("Retrying") && log[0].ends_with("wait: 1s }"), "{log:?}");
}

#[test]
fn waits_grow_where_the_server_does_not_say() {
    let setting = Setting::new();
    setting.server.fail("config.json", 3, Failing::Answer(503, vec![], ""));
    let mut waits = vec![];
    let tell = |event: TransferProgress<'_>| {
        if let TransferProgress::Retrying { wait, .. } = event {
            waits.push(wait.as_millis());
        }
    };
    setting.client().file(&repository(), &Revision::default(), "config.json", tell).unwrap();
    assert_eq!(waits, [1, 2, 4]);
}

#[test]
fn progress_tells_every_byte_once() {
    let setting = Setting::new();
    let (mut last, mut ended) = (0, false);
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Begin { file, size, resumed } => {
            assert_eq!((file, size, resumed), ("model.safetensors", 3_000_000, 0))
        }
        TransferProgress::Received { bytes, size, .. } => {
            assert!(bytes > last && bytes <= size);
            last = bytes;
        }
        TransferProgress::Finished { .. } => ended = true,
        other => panic!("{other:?}"),
    };
    setting.client().file(&repository(), &Revision::default(), "model.safetensors", tell).unwrap();
    assert!(ended && last == 3_000_000);
}

#[test]
fn the_cache_serves_alone() {
    let setting = Setting::new();
    let main = Revision::default();
    let whole = setting.client().snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap();
    let before = setting.server.asked("").len();
    let offline = setting.client().offline(true);
    assert_eq!(offline.file(&repository(), &main, "config.json", |_| {}).unwrap(), whole.folder.join("config.json"));
    assert_eq!(offline.snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap(), whole);
    for error in [
        offline.file(&repository(), &main, "model.safetensors", |_| {}).unwrap_err(),
        // The list of files tells that the cache has not all of them.
        offline.snapshot(&repository(), &main, &[], |_| {}).unwrap_err(),
        offline.file(&repository(), &"v1".parse().unwrap(), "config.json", |_| {}).unwrap_err(),
        offline.snapshot(&"org/other".parse().unwrap(), &main, &[], |_| {}).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotCached { .. }), "{error}");
    }
    assert_eq!(setting.server.asked("").len(), before);
}

#[test]
fn the_cache_stands_in_where_nobody_answers() {
    let setting = Setting::new();
    let main = Revision::default();
    let model = setting.file("config.json").unwrap();
    let part = setting.client().snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap();

    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = Endpoint::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let alone = Client::new(endpoint, Cache::new(setting.cache())).patience(Patience { attempts: 2, ..hasty() });
    let mut log = vec![];
    assert_eq!(alone.file(&repository(), &main, "config.json", written(&mut log)).unwrap(), model);
    assert!(log.last().unwrap().starts_with("Cached"), "{log:?}");
    assert_eq!(alone.snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap(), part);
    assert!(matches!(alone.file(&repository(), &main, "model.safetensors", |_| {}), Err(Error::Network { .. })));

    // A server that is down is no reason to hide what is there; a server that says no is.
    setting.server.fail("config.json", 4, Failing::Answer(503, vec![], ""));
    assert_eq!(setting.file("config.json").unwrap(), model);
    setting.server.state().repositories.clear();
    assert!(matches!(setting.file("config.json"), Err(Error::NoRepository { .. })));
}

#[test]
fn two_threads_that_ask_at_once_fetch_once() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Stall(Duration::from_millis(300)));
    let (waiting, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (setting, waiting) = (&setting, waiting.clone());
            scope.spawn(move || {
                let tell = |event: TransferProgress<'_>| {
                    if let TransferProgress::Locked { .. } = event {
                        waiting.send(()).unwrap();
                    }
                };
                let path =
                    setting.client().file(&repository(), &Revision::default(), "model.safetensors", tell).unwrap();
                assert_eq!(fs::read(path).unwrap(), weights());
            });
        }
    });
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
    assert!(told.try_recv().is_ok());
}

/// Another process, which fetches the same.
fn start(setting: &Setting) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "download::child", "--ignored"]).stdout(Stdio::null());
    command.env_clear().env("HF_ENDPOINT", &setting.server.endpoint).env("HF_HUB_CACHE", setting.cache());
    command.spawn().unwrap()
}

#[test]
#[ignore = "started by others"]
fn child() {
    let client = Client::from_env().unwrap();
    let path = client.file(&repository(), &Revision::default(), "model.safetensors", |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), weights());
}

#[test]
fn two_processes_that_ask_at_once_fetch_once() {
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Stall(Duration::from_millis(500)));
    for mut child in [start(&setting), start(&setting)] {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
    assert_eq!(setting.blobs(), [Content { bytes: weights(), large: true }.sha256()]);
}
