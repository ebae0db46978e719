//! What goes wrong, and what is said about it. After every failure the cache holds nothing that was not checked.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use mixflow_hub::{Cache, Client, Endpoint, Error, Patience, Revision, Token};
use serde_json::json;

use crate::server::{Content, Failing};
use crate::shared::{CONFIG, Setting, WITH_TOKEN, hasty, repository, weights, written};

const SECRET: &str = "hf_aVeryLongSecret";

fn with_token(setting: &Setting, token: &str) -> Client {
    setting.client().token(Token::new(token, "a test").unwrap()).unwrap()
}

fn ask(client: &Client, file: &str) -> Error {
    client.file(&repository(), &Revision::default(), file, |_| {}).unwrap_err()
}

#[test]
fn what_there_is_not_is_named() {
    let setting = Setting::new();
    let client = setting.client();
    let main = Revision::default();
    let other = "org/other".parse().unwrap();

    let error = client.file(&other, &main, "config.json", |_| {}).unwrap_err();
    assert!(matches!(error, Error::NoRepository { token: false, .. }), "{error}");
    assert!(error.to_string().starts_with("there is no org/other at http://127.0.0.1:"), "{error}");
    assert!(error.to_string().ends_with("a private one needs a token in HF_TOKEN"), "{error}");
    assert!(matches!(client.snapshot(&other, &main, &[], |_| {}), Err(Error::NoRepository { .. })));

    for revision in ["v9", &"0".repeat(40)] {
        let revision = revision.parse().unwrap();
        let error = client.file(&repository(), &revision, "config.json", |_| {}).unwrap_err();
        assert!(matches!(error, Error::NoRevision { .. }), "{error}");
        let error = client.snapshot(&repository(), &revision, &[], |_| {}).unwrap_err();
        assert!(matches!(error, Error::NoRevision { .. }), "{error}");
    }

    let error = ask(&client, "nothing.bin");
    assert_eq!(error.to_string(), "org/sit has no nothing.bin at revision main");
    // As huggingface_hub does, so that it need not ask.
    assert!(setting.stored().join(".no_exist").join(&setting.commit).join("nothing.bin").is_file());
}

#[test]
fn gated_says_what_to_do() {
    let setting = Setting::new();
    setting.server.state().repositories.get_mut("org/sit").unwrap().gated = true;
    setting.server.state().tokens.push(SECRET.into());
    let error = ask(&setting.client(), "config.json").to_string();
    let page = format!("accept its terms at {}/org/sit, then log in", setting.server.endpoint);
    assert!(error.contains(&page) && error.contains("HF_TOKEN"), "{error}");
    let error = with_token(&setting, SECRET).snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err();
    assert!(matches!(error, Error::Gated { token: true, .. }), "{error}");
    assert!(error.to_string().contains("once access is granted"), "{error}");
}

/// It is refused even where nobody needs one.
#[test]
fn a_login_that_has_expired_is_told_as_such() {
    let setting = Setting::new();
    setting.server.state().tokens = vec!["hf_other".into()];
    let home = setting.folder.path();
    fs::write(home.join("token"), "hf_oauth_a").unwrap();
    for (end, expired) in [("1", true), ("99999999999", false)] {
        let stored = format!("[oauth-me]\nhf_token = hf_oauth_a\nrefresh_token = b\nexpires_at = {end}\n\n");
        fs::write(home.join("stored_tokens"), stored).unwrap();
        let read = |name: &str| match name {
            "HF_ENDPOINT" => Some(setting.server.endpoint.clone().into()),
            "HF_HOME" => Some(home.into()),
            _ => None,
        };
        let error = ask(&Client::from_variables(read).unwrap().patience(hasty()), "config.json");
        assert_eq!(matches!(error, Error::ExpiredToken { .. }), expired, "{error}");
        assert_eq!(error.to_string().contains("run `hf auth whoami`"), expired, "{error}");
        assert_eq!(matches!(error, Error::BadToken { .. }), !expired, "{error}");
    }
}

#[test]
fn a_token_opens_what_is_private_and_a_bad_one_is_called_bad() {
    let setting = Setting::new();
    {
        let mut state = setting.server.state();
        state.tokens = vec![SECRET.into(), "hf_other".into()];
        state.repositories.get_mut("org/sit").unwrap().private = Some(SECRET.into());
    }
    assert!(matches!(ask(&setting.client(), "config.json"), Error::NoRepository { token: false, .. }));
    assert!(matches!(ask(&with_token(&setting, "hf_other"), "config.json"), Error::NoRepository { token: true, .. }));
    let error = ask(&with_token(&setting, "hf_wrong"), "config.json");
    assert!(matches!(error, Error::BadToken { .. }), "{error}");
    let path = with_token(&setting, SECRET).file(&repository(), &Revision::default(), "config.json", |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), CONFIG);
}

#[test]
fn the_token_stays_with_the_hub() {
    let setting = Setting::new();
    setting.server.state().tokens.push(SECRET.into());
    let client = with_token(&setting, SECRET);
    client.snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    let state = setting.server.state();
    let storage = setting.server.storage.strip_prefix("http://").unwrap();
    let (there, here): (Vec<_>, Vec<_>) =
        state.requests.iter().partition(|request| request.header("host") == Some(storage));
    assert!(there.len() == 1 && here.len() >= 4);
    assert!(there.iter().all(|request| request.header("authorization").is_none()));
    assert!(here.iter().all(|request| request.header("authorization") == Some(&format!("Bearer {SECRET}"))));
    assert!(state.requests.iter().all(|request| !request.path.contains(SECRET)));
    drop(state);

    // Not in what is written, nor in what is said, even if the server says it.
    for file in walk(setting.folder.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", file.display());
    }
    let message = format!("token {SECRET} has no right");
    for status in [400, 403, 418, 500] {
        setting.server.fail("/resolve/", 4, Failing::Answer(status, vec![("X-Error-Message", message.clone())], ""));
        let error = ask(&client, "other.json");
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains(SECRET) && shown.contains("token *** has no right"), "{shown}");
        setting.server.state().faults.clear();
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn wrong_content_never_enters_the_cache() {
    for (name, large) in [("config.json", false), ("model.safetensors", true)] {
        let setting = Setting::new();
        // One bad transfer is repeated, whole.
        let path = if large { "Signature=signed" } else { "resolve" };
        setting.server.fail(path, if large { 1 } else { 2 }, Failing::Corrupt);
        assert_eq!(fs::read(setting.file(name).unwrap()).unwrap(), if large { weights() } else { CONFIG.to_vec() });

        let setting = Setting::new();
        setting.server.fail(path, 9, Failing::Corrupt);
        let error = setting.file(name).unwrap_err();
        let expected = Content { bytes: if large { weights() } else { CONFIG.into() }, large }.hash();
        assert!(matches!(&error, Error::Hash { expected: found, .. } if *found == expected), "{error}");
        assert!(setting.blobs().is_empty() && !setting.stored().join("snapshots").exists());
    }
}

#[test]
fn an_error_page_is_no_content() {
    // A page with status 200 from the storage server; one of another status; one from the Hub for a small file.
    for (name, path, fault) in [
        ("model.safetensors", "Signature=signed", Failing::Answer(200, vec![], "<html>error</html>")),
        ("model.safetensors", "Signature=signed", Failing::Answer(204, vec![], "")),
        ("config.json", "/resolve/", Failing::Body(b"<html>error</html>")),
    ] {
        let setting = Setting::new();
        setting.server.fail(path, 9, fault);
        let error = setting.file(name).unwrap_err();
        assert!(matches!(error, Error::Length { .. } | Error::Protocol { .. } | Error::Hash { .. }), "{error}");
        assert!(!setting.stored().join("snapshots").exists());
    }
}

#[test]
fn names_from_the_server_cannot_leave_the_folder() {
    for name in ["../../escaped", "/etc/escaped", "a/../../escaped", "..\\escaped", "C:escaped", "a//b", ""] {
        let setting = Setting::new();
        let hash = Content { bytes: CONFIG.into(), large: false }.git_hash();
        setting.server.state().listed = vec![json!({ "type": "file", "oid": hash, "size": 3, "path": name })];
        let error = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err();
        assert!(matches!(&error, Error::Escape { name: found, .. } if found == name), "{error}");
        assert!(!setting.cache().exists(), "something was written for {name:?}");
        assert!(matches!(ask(&setting.client(), name), Error::Escape { .. }));
    }
    // What Python or anybody has put into the cache is read with as much care.
    let setting = Setting::new();
    let trees = setting.stored().join("trees");
    fs::create_dir_all(&trees).unwrap();
    let files = json!({ "../x": { "size": 1, "blob_id": "0".repeat(40) } });
    let tree = json!({ "format_version": 1, "files": files }).to_string();
    fs::write(trees.join(format!("{}.json", setting.commit)), tree).unwrap();
    let error = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err();
    assert!(matches!(error, Error::Escape { .. }), "{error}");
}

#[test]
fn hashes_from_the_server_cannot_leave_the_folder() {
    let escape = "../../../../escaped".to_string();
    for (path, headers) in [
        ("/resolve/", vec![("X-Repo-Commit", escape.clone())]),
        ("/resolve/", vec![("X-Repo-Commit", "A".repeat(40))]),
        ("/resolve/", vec![("X-Linked-Etag", format!("\"{escape}\""))]),
        ("/resolve/", vec![("X-Linked-Etag", "\"abc\"".into())]),
        ("/resolve/", vec![("X-Linked-Size", "-1".into())]),
        ("/resolve/", vec![("Location", "file:///etc/passwd".into())]),
        ("/resolve/", vec![("Location", "/org/sit/resolve/main/model.safetensors".into())]),
    ] {
        let setting = Setting::new();
        setting.server.fail(path, 99, Failing::Headers(headers.clone()));
        let error = ask(&setting.client(), "model.safetensors");
        assert!(matches!(error, Error::Protocol { .. }), "{headers:?}: {error}");
        assert!(setting.blobs().is_empty() && !setting.stored().join("snapshots").exists());
    }
    let setting = Setting::new();
    setting.server.fail("/revision/", 1, Failing::Body(b"{\"sha\": \"../../escaped\"}"));
    let error = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && !setting.cache().exists(), "{error}");
}

#[test]
fn a_server_that_is_no_hub_is_told_apart() {
    let setting = Setting::new();
    setting.server.fail("/revision/", 1, Failing::Body(b"<html>log in</html>"));
    let error = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err().to_string();
    assert!(error.contains("does not answer as the Hub does: the answer is no JSON"), "{error}");
    setting.server.fail("/tree/", 1, Failing::Headers(vec![("Link", "<http://other.example/>; rel=\"next\"".into())]));
    let error = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap_err().to_string();
    assert!(error.contains("the next page is on another server"), "{error}");
}

#[test]
fn who_is_busy_for_long_is_not_waited_for() {
    for header in [("Retry-After", "3600"), ("RateLimit", "\"api\";r=0;t=3599")] {
        let setting = Setting::new();
        setting.server.fail("config.json", 9, Failing::Answer(429, vec![(header.0, header.1.into())], ""));
        let start = Instant::now();
        let error = ask(&setting.client(), "config.json");
        assert!(matches!(error, Error::Busy { after, .. } if after.as_secs() == 3600), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(setting.server.asked("config.json").len(), 1);
        assert_eq!(error.to_string().contains("log in"), std::env::var_os(WITH_TOKEN).is_none(), "{error}");
    }
}

/// Storage servers know nobody by a token of the Hub.
#[test]
fn a_storage_server_that_is_busy_is_named() {
    let setting = Setting::new();
    let later = vec![("Retry-After", "3600".into())];
    setting.server.fail("Signature=signed", 9, Failing::Answer(503, later, "SlowDown"));
    let storage = setting.server.storage.strip_prefix("http://").unwrap();
    assert_eq!(
        ask(&setting.client(), "model.safetensors").to_string(),
        format!("{storage} asks to wait 3600 s: try again then")
    );
}

#[test]
fn who_asks_for_no_time_gets_some() {
    for (name, value) in
        [("Retry-After", "0"), ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"), ("RateLimit", "\"api\";r=0;t=0")]
    {
        let setting = Setting::new();
        setting.server.fail("config.json", 3, Failing::Answer(429, vec![(name, value.into())], ""));
        let first_wait = Duration::from_millis(50);
        let client = setting.client().patience(Patience { first_wait, ..hasty() });
        let start = Instant::now();
        client.file(&repository(), &Revision::default(), "config.json", |_| {}).unwrap();
        assert!(start.elapsed() >= 7 * first_wait, "{name}: {value}");
    }
}

#[test]
fn attempts_are_counted() {
    let setting = Setting::new();
    setting.server.fail("config.json", 99, Failing::Answer(500, vec![], ""));
    let error = ask(&setting.client(), "config.json");
    assert!(matches!(error, Error::Status { status: 500, .. }), "{error}");
    assert_eq!(setting.server.asked("config.json").len(), 4);
    // Not found is found out at once.
    ask(&setting.client(), "nothing.bin");
    assert_eq!(setting.server.asked("nothing.bin").len(), 1);
}

#[test]
fn silence_ends() {
    let setting = Setting::new();
    let patience = Patience { silence: Duration::from_millis(200), attempts: 2, ..hasty() };
    let client = setting.client().patience(patience);
    let start = Instant::now();
    setting.server.fail("config.json", 2, Failing::Slow(Duration::from_secs(20)));
    assert!(matches!(ask(&client, "config.json"), Error::Network { .. }));
    setting.server.fail("Signature=signed", 2, Failing::Stall(Duration::from_secs(20)));
    assert!(matches!(ask(&client, "model.safetensors"), Error::Interrupted { .. }));
    assert!(start.elapsed() < Duration::from_secs(10));

    let nobody = Endpoint::new("http://hub.invalid").unwrap();
    let nobody = Client::new(nobody, Cache::new(setting.cache())).patience(hasty());
    let mut log = vec![];
    let error = nobody.file(&repository(), &Revision::default(), "config.json", written(&mut log)).unwrap_err();
    assert!(error.to_string().starts_with("cannot reach hub.invalid: "), "{error}");
    // A name that there is not is not asked for again, unless nobody could be asked for it.
    assert!(log.is_empty() || !error.to_string().contains("there is no host of that name"), "{log:?}");
}

#[test]
fn a_line_that_brings_next_to_nothing_is_left_and_a_slow_one_is_not() {
    let patience = Patience { silence: Duration::from_secs(1), attempts: 2, ..hasty() };
    // 500 bytes a second, and 2,500: the limit is 1,024.
    for (bytes, enough) in [(50, false), (250, true)] {
        let setting = Setting::new();
        setting.server.commit("org/sit", "main", &[("slow.bin", &weights()[..5000], true)]);
        setting.server.fail("Signature=signed", 2, Failing::Drip(bytes, Duration::from_millis(100)));
        let found =
            setting.client().patience(patience.clone()).file(&repository(), &Revision::default(), "slow.bin", |_| {});
        let asked = setting.server.asked("Signature=signed");
        match found {
            Ok(path) => assert!(enough && asked.len() == 1 && fs::read(path).unwrap() == weights()[..5000]),
            Err(error) => {
                let told = error.to_string();
                assert!(!enough && told.contains("less than 1 KiB a second came"), "{told}");
                // The second attempt went on where the first was left.
                let Error::Interrupted { received, .. } = error else { panic!("{error}") };
                assert!(asked.len() == 2 && asked[1].1.is_some() && (800..3000).contains(&received), "{received}");
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_called_one_and_what_came_is_kept() {
    let setting = Setting::new();
    let hash = Content { bytes: weights(), large: true }.sha256();
    let blobs = setting.stored().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    // What is written there finds no room.
    let partial = blobs.join(format!("{hash}.incomplete"));
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let error = ask(&setting.client(), "model.safetensors").to_string();
    assert!(error.contains("No space left") && error.contains("HF_HUB_CACHE to another disk"), "{error}");
    assert!(error.contains(&format!("{hash}.incomplete")), "{error}");
    assert!(partial.symlink_metadata().is_ok() && !blobs.join(&hash).exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let setting = Setting::new();
    fs::write(setting.cache(), b"a file").unwrap();
    let error = ask(&setting.client(), "config.json");
    assert!(matches!(&error, Error::Io { action: "write", .. }), "{error}");
}

/// All that can happen to a download, to those who have logged in: it runs itself again with a token.
#[test]
fn a_token_changes_nothing_about_a_line() {
    if std::env::var_os(WITH_TOKEN).is_some() {
        return;
    }
    // What is told of repositories depends on it.
    let other =
        ["what_there_is_not_is_named", "gated_says", "a_token_opens", "a_refusal_without_a_token", "the_token_stays"];
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["download::", "failures::", "parallel::"]).args(other.iter().flat_map(|name| ["--skip", name]));
    let output = again.env(WITH_TOKEN, "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let passed = told.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(output.status.success() && passed > 30, "{told}");
}

/// What the Hub says of a repository that is private or missing, and of a token that is none.
///
/// # Source
/// The answer in `tmylla/NER_ZH`, issue 1, and `huggingface/huggingface_hub`, pull request 1202: a 401 to whoever names no token is
/// of a repository that is private, gated or missing. `utils/_http.py` of 2.4.0 tells a bad token by "Invalid credentials in
/// Authorization header".
#[test]
fn a_refusal_without_a_token_is_of_a_private_or_missing_repository() {
    let said = [("", "Invalid username or password."), ("RepoNotFound", "Invalid username or password."), ("", "")];
    for (code, message) in said {
        let setting = Setting::new();
        setting.server.state().tokens.push(SECRET.into());
        let headers = vec![("X-Error-Code", code.into()), ("X-Error-Message", message.into())];
        for path in ["/resolve/", "/revision/"] {
            setting.server.fail(path, 4, Failing::Answer(401, headers.clone(), "{\"error\":\"\"}"));
        }
        let (client, main) = (setting.client(), Revision::default());
        for error in [ask(&client, "config.json"), client.snapshot(&repository(), &main, &[], |_| {}).unwrap_err()] {
            assert!(matches!(error, Error::NoRepository { token: false, .. }), "{message}: {error}");
            assert!(error.to_string().ends_with("a private one needs a token in HF_TOKEN"), "{error}");
        }
        let error = ask(&with_token(&setting, SECRET), "config.json");
        assert!(matches!(error, Error::BadToken { .. }), "{message}: {error}");
    }
}

#[test]
fn a_note_that_cannot_be_written_hides_no_answer() {
    let setting = Setting::new();
    for file in ["a", "a/b"] {
        let error = ask(&setting.client(), file);
        assert!(matches!(&error, Error::NoFile { file: missing, .. } if missing == file), "{error}");
    }
}
