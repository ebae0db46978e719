//! Large files, from the Hub's own store; and without it, where it fails.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use mixflow_hub::{Client, Error, Patience, Revision, TransferProgress};
use xet::xet_session::{Sha256Policy, XetSessionBuilder};

use super::{Store, contains, free, start, tapped};
use crate::python::{printed, python};
use crate::server::{Content, Failing, Xet};
use crate::shared::{NAME, Setting, hasty, repository, weights, written};
use crate::upload::TOKEN;

/// Puts content into the store by Hugging Face's own crate; gives the hash that it has there.
fn put(setting: &Setting, store: &Store, bytes: Vec<u8>) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let session = XetSessionBuilder::new().with_cache_dir(setting.folder.path().join("put")).build().unwrap();
    let commit = session.new_upload_commit().unwrap().with_endpoint(&store.address);
    let commit = commit.with_token_info("granted", 9_999_999_999).build_blocking().unwrap();
    commit.upload_bytes_blocking(bytes, Sha256Policy::Compute, None).unwrap();
    let report = commit.commit_blocking().unwrap();
    report.uploads.into_values().next().unwrap().xet_info.hash
}

/// Lets the Hub send to a store for its content: there is some of this hash.
fn refer(setting: &Setting, address: &str, content: &[u8], hash: &str) {
    let oid = Content { bytes: content.into(), large: true }.sha256();
    let mut state = setting.server.state();
    let xet = state.xet.get_or_insert(Xet { address: address.into(), files: BTreeMap::new() });
    xet.files.insert(oid, (hash.into(), content.into()));
}

/// Fetches the one large file and checks it; gives what was told.
fn fetch(client: &Client) -> Vec<String> {
    let mut log = vec![];
    let path = client.file(&repository(), &Revision::default(), "model.safetensors", written(&mut log)).unwrap();
    assert!(fs::read(path).unwrap() == weights());
    log
}

/// How often the storage server and the right to read were asked for.
fn asked(setting: &Setting) -> (usize, usize) {
    (setting.server.asked("Signature=signed").len(), setting.server.asked("xet-read-token").len())
}

#[test]
fn a_file_comes_from_the_store() {
    let Some(store) = start() else { return };
    let (mut setting, other) = (Setting::new(), vec![7; 500_000]);
    setting.commit =
        setting.server.commit(NAME, "main", &[("a.safetensors", &weights(), true), ("b.safetensors", &other, true)]);
    setting.server.state().tokens.push(TOKEN.into());
    let (address, heard) = tapped(&store, usize::MAX);
    for content in [weights(), other.clone()] {
        let hash = put(&setting, &store, content.clone());
        refer(&setting, &address, &content, &hash);
    }
    let mut last = BTreeMap::new();
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Received { file, bytes, size } => {
            let before = last.insert(file.to_string(), bytes).unwrap_or(0);
            assert!(bytes > before && bytes <= size);
        }
        TransferProgress::Retrying { reason, .. } => panic!("{reason}"),
        _ => {}
    };
    let client = setting.client().token(mixflow_hub::Token::new(TOKEN, "a test").unwrap()).unwrap();
    let found = client.snapshot(&repository(), &Revision::default(), &[], tell).unwrap();
    assert!(fs::read(found.folder.join("a.safetensors")).unwrap() == weights());
    assert!(fs::read(found.folder.join("b.safetensors")).unwrap() == other);
    assert_eq!(last.into_values().collect::<Vec<_>>(), [3_000_000, 500_000]);
    // One right for all, and nothing by the other way.
    assert_eq!(asked(&setting), (0, 1));
    let heard = heard.lock().unwrap();
    assert!(contains(&heard, "Bearer granted") && !contains(&heard, TOKEN) && !contains(&heard, "/telemetry"));
    drop(heard);
    assert_eq!(setting.blobs().len(), 2);
    setting.client().offline(true).snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
}

#[test]
fn what_an_earlier_attempt_has_left_is_not_fetched_again() {
    let Some(store) = start() else { return };
    let setting = Setting::new();
    let (address, heard) = tapped(&store, usize::MAX);
    refer(&setting, &address, &weights(), &put(&setting, &store, weights()));
    let blobs = setting.stored().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let oid = Content { bytes: weights(), large: true }.sha256();
    fs::write(blobs.join(format!("{oid}.incomplete")), &weights()[..1_000_000]).unwrap();
    let log = fetch(&setting.client());
    assert!(log[0].ends_with("resumed: 1000000 }"), "{}", log[0]);
    assert!(contains(&heard.lock().unwrap(), "bytes=1000000-2999999"));
    assert_eq!(asked(&setting), (0, 1));
}

#[test]
fn a_panic_of_the_caller_is_the_callers() {
    let Some(store) = start() else { return };
    let setting = Setting::new();
    refer(&setting, &store.address, &weights(), &put(&setting, &store, weights()));
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Received { .. } => panic!("on purpose"),
        TransferProgress::Retrying { reason, .. } => unreachable!("{reason}"),
        _ => {}
    };
    let client = setting.client();
    let fetch = || client.file(&repository(), &Revision::default(), "model.safetensors", tell);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fetch)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(asked(&setting), (0, 1));
}

#[test]
fn a_client_may_be_used_within_an_async_runtime() {
    let Some(store) = start() else { return };
    let setting = Setting::new();
    refer(&setting, &store.address, &weights(), &put(&setting, &store, weights()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { fetch(&setting.client()) });
    assert_eq!(asked(&setting), (0, 1));
}

/// What was told of a store that is left.
fn left(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| line.starts_with("Retrying { reason: \"the store Xet is left, ")).collect()
}

#[test]
fn content_of_another_hash_is_fetched_again_by_the_other_way() {
    let Some(store) = start() else { return };
    let setting = Setting::new();
    let other = weights().iter().map(|byte| byte ^ 1).collect();
    refer(&setting, &store.address, &weights(), &put(&setting, &store, other));
    let log = fetch(&setting.client());
    assert!(log.iter().any(|line| line.contains("came with the hash")) && left(&log).is_empty(), "{log:?}");
    assert_eq!((asked(&setting), setting.blobs().len()), ((1, 1), 1));
}

/// Releases of the store's crate before 1.5.1 took a refusal in the middle for the end of a file, and were content.
///
/// # Source
/// `huggingface/huggingface_hub`, issue 4223.
#[test]
fn content_that_ends_early_is_gone_on_with_by_the_other_way() {
    let Some(store) = start() else { return };
    let setting = Setting::new();
    refer(&setting, &store.address, &weights(), &put(&setting, &store, weights()[..2_000_000].to_vec()));
    let log = fetch(&setting.client());
    assert_eq!((left(&log).len(), asked(&setting)), (1, (1, 1)), "{log:?}");
    assert_eq!(setting.server.asked("Signature=signed")[0].1.as_deref(), Some("bytes=2000000-"));
}

#[test]
fn a_store_that_breaks_off_is_left() {
    let Some(store) = start() else { return };
    for bytes in [0, 100, 5_000] {
        let setting = Setting::new();
        let (address, _) = tapped(&store, bytes);
        refer(&setting, &address, &weights(), &put(&setting, &store, weights()));
        let log = fetch(&setting.client());
        assert_eq!((left(&log).len(), asked(&setting)), (1, (1, 1)), "{bytes}: {log:?}");
    }
}

#[test]
fn we_read_from_the_store_what_python_sent_there() {
    let Some(store) = start() else { return };
    let setting = crate::upload::empty();
    let program = "import sys, hf_xet; print(hf_xet.hash_files(sys.argv[1:])[0].hash)";
    let Some(mut command) = python(&setting, program) else { return };
    let folder = crate::upload::model(&setting);
    command.arg(folder.join("model.safetensors"));
    refer(&setting, &store.address, &weights(), &printed(command));
    let program = "import sys, huggingface_hub as h\n\
         h.create_repo('org/sit')\n\
         h.upload_folder(repo_id='org/sit', folder_path=sys.argv[1])";
    let mut command = python(&setting, program).unwrap();
    command.arg(&folder).env("HF_TOKEN", TOKEN).env("HF_XET_CACHE", setting.folder.path().join("xet"));
    printed(command);
    assert_eq!(setting.server.asked("Signature=signed").len(), 0);
    fetch(&crate::upload::writer(&setting));
    assert_eq!(asked(&setting), (0, 1));
}

#[test]
fn a_store_that_cannot_be_used_is_asked_once_and_left() {
    let setting = |body: Option<&'static str>| {
        let setting = Setting::new();
        refer(&setting, &format!("http://127.0.0.1:{}", free()), &weights(), &"0".repeat(64));
        setting.server.commit(NAME, "main", &[("a.safetensors", &weights(), true), ("b.safetensors", b"b", true)]);
        refer(&setting, "", b"b", &"0".repeat(64));
        if let Some(body) = body {
            setting.server.fail("xet-read-token", 9, Failing::Body(body.as_bytes()));
        }
        setting
    };
    for body in [
        None,
        Some("<html>log in</html>"),
        Some("{\"casUrl\": \"file:///x\", \"accessToken\": \"a\", \"exp\": 1}"),
        Some("{\"casUrl\": \"local:///x\", \"accessToken\": \"a\", \"exp\": 9999999999}"),
        Some("{\"casUrl\": \"memory://\", \"accessToken\": \"a\", \"exp\": 9999999999}"),
    ] {
        let setting = setting(body);
        let mut log = vec![];
        let found = setting.client().snapshot(&repository(), &Revision::default(), &[], written(&mut log)).unwrap();
        assert!(fs::read(found.folder.join("a.safetensors")).unwrap() == weights());
        assert_eq!(fs::read(found.folder.join("b.safetensors")).unwrap(), b"b");
        assert_eq!(asked(&setting), (2, 1), "{body:?}");
        let left = log.iter().filter(|line| line.contains("the store Xet is left")).count();
        assert!((1..=2).contains(&left), "{log:?}");
    }
    // A mirror may know nothing of it.
    let setting = setting(None);
    setting.server.fail("xet-read-token", 9, Failing::Answer(404, vec![], "no such page"));
    setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    assert_eq!(asked(&setting), (2, 1));
}

#[test]
fn who_wants_no_xet_gets_none() {
    let setting = Setting::new();
    refer(&setting, &format!("http://127.0.0.1:{}", free()), &weights(), &"0".repeat(64));
    let variables = BTreeMap::from([
        ("HF_HOME", setting.folder.path().to_str().unwrap().to_string()),
        ("HF_ENDPOINT", setting.server.endpoint.clone()),
        ("HF_HUB_DISABLE_XET", "1".into()),
    ]);
    let client = Client::from_variables(|name| variables.get(name).map(Into::into)).unwrap().patience(hasty());
    fetch(&client);
    assert_eq!(asked(&setting), (1, 0));
}

#[test]
fn a_store_that_says_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let open = Mutex::new(vec![]);
    thread::scope(|scope| {
        let silent = scope.spawn(|| {
            for stream in listener.incoming().flatten() {
                let mut open = open.lock().unwrap();
                open.push(stream);
                if open.len() > 9 {
                    return;
                }
            }
        });
        let setting = Setting::new();
        refer(&setting, &address, &weights(), &"0".repeat(64));
        let patience = Patience { silence: Duration::from_millis(200), attempts: 2, ..hasty() };
        let begun = Instant::now();
        fetch(&setting.client().patience(patience.clone()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(asked(&setting), (1, 1));

        // Where another file fails, it is not waited for.
        let setting = Setting::new();
        setting.server.commit(NAME, "main", &[("a.safetensors", &weights(), true), ("b.json", b"b", false)]);
        refer(&setting, &address, &weights(), &"0".repeat(64));
        setting.server.fail("b.json", 9, Failing::Answer(404, vec![("X-Error-Code", "EntryNotFound".into())], ""));
        let begun = Instant::now();
        let error = setting.client().patience(patience).snapshot(&repository(), &Revision::default(), &[], |_| {});
        assert!(matches!(error, Err(Error::NoFile { .. })), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(asked(&setting).0, 0);
        while !silent.is_finished() {
            let _ = std::net::TcpStream::connect(address.strip_prefix("http://").unwrap());
        }
    });
}
