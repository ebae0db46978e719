//! Large files: in one piece and in parts, on lines that break.

use std::fs;
use std::time::Duration;

use mixflow_hub::{Error, Patience, TransferProgress, Upload};
use serde_json::{Value, json};

use super::{SIZE, TOKEN, assert_published, commits, empty, model, published, stored, upload, writer};
use crate::server::Failing;
use crate::shared::{Setting, hasty, repository, weights};

/// The folder goes in parts of a million bytes, if `parts`.
fn setting(parts: bool) -> Setting {
    let setting = empty();
    setting.server.state().rules.part = parts.then_some(1_000_000);
    setting
}

#[test]
fn the_store_gets_the_content_and_nothing_of_ours() {
    for parts in [false, true] {
        let setting = setting(parts);
        upload(&setting).unwrap();
        assert_published(&setting);
        assert_eq!(stored(&setting), (3_000_000, if parts { 3 } else { 1 }));
        let state = setting.server.state();
        let storage = setting.server.storage.strip_prefix("http://").unwrap();
        let there: Vec<_> = state.requests.iter().filter(|request| request.header("host") == Some(storage)).collect();
        for request in there {
            let length = if parts { "1000000" } else { "3000000" };
            assert_eq!((request.method.as_str(), request.header("content-length")), ("PUT", Some(length)));
            let names: Vec<_> = request.headers.keys().map(String::as_str).collect();
            assert_eq!(names, ["accept", "accept-encoding", "content-length", "host", "user-agent"]);
        }
        assert!(state.requests.iter().all(|request| !request.path.contains(TOKEN)));
    }
}

#[test]
fn headers_that_the_hub_asks_for_go_along_but_not_those_of_the_line() {
    let setting = setting(false);
    let oid = crate::server::Content { bytes: weights(), large: true }.sha256();
    let header = json!({ "X-Asked": "yes", "Content-Length": "1", "Host": "evil.example", "x-number": 1 });
    let upload = json!({ "href": format!("{}/{oid}?Signature=signed", setting.server.storage), "header": header });
    answer_batch(&setting, &json!({ "upload": upload }));
    super::upload(&setting).unwrap();
    assert_published(&setting);
    let state = setting.server.state();
    let request = state.requests.iter().find(|request| request.method == "PUT").unwrap();
    let host = setting.server.storage.strip_prefix("http://");
    assert_eq!((request.header("x-asked"), request.header("host")), (Some("yes"), host));
    assert_eq!((request.header("content-length"), request.header("x-number")), (Some("3000000"), None));
}

/// Lets the server announce the large file with these actions, once.
fn answer_batch(setting: &Setting, actions: &Value) {
    let oid = crate::server::Content { bytes: weights(), large: true }.sha256();
    let answer = json!({ "objects": [{ "oid": oid, "actions": actions }] }).to_string();
    setting.server.fail("/objects/batch", 1, Failing::Body(answer.leak().as_bytes()));
}

#[test]
fn a_broken_line_costs_one_part() {
    for fault in [
        Failing::Cut(300_000),
        Failing::Cut(0),
        Failing::Lost,
        Failing::Answer(500, vec![], ""),
        Failing::Answer(429, vec![("Retry-After", "0".into())], ""),
        Failing::Answer(503, vec![], ""),
    ] {
        for parts in [false, true] {
            let setting = setting(parts);
            let path = if parts { "partNumber=2" } else { "Signature=signed" };
            setting.server.fail(path, 2, fault.clone());
            assert_eq!(upload(&setting).unwrap().sent, SIZE, "{fault:?}");
            assert_published(&setting);
            for (part, times) in [("partNumber=1", 1), ("partNumber=2", 3), ("partNumber=3", 1)] {
                assert!(!parts || setting.server.asked(part).len() == times, "{fault:?} {part}");
            }
        }
    }
}

#[test]
fn silence_while_sending_ends() {
    for fault in [Failing::Stall(Duration::from_secs(20)), Failing::Slow(Duration::from_secs(20))] {
        for parts in [false, true] {
            let setting = setting(parts);
            setting.server.fail("Signature=signed", 1, fault.clone());
            let client = writer(&setting).patience(Patience { silence: Duration::from_millis(200), ..hasty() });
            client.upload(&model(&setting), &repository(), &Upload::new("a model"), |_| {}).unwrap();
            assert_published(&setting);
        }
    }
}

#[test]
fn content_that_the_line_changes_is_sent_once_more() {
    for (parts, path) in [(false, "Signature=signed"), (true, "partNumber=3")] {
        let setting = setting(parts);
        setting.server.fail(path, 1, Failing::Corrupt);
        upload(&setting).unwrap();
        assert_published(&setting);
        assert_eq!(stored(&setting).0, 6_000_000);

        let setting = self::setting(parts);
        setting.server.fail(path, 9, Failing::Corrupt);
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Status { status: 400, .. }), "{error}");
        assert!(published(&setting).is_empty() && stored(&setting).0 == 6_000_000);
    }
}

#[test]
fn addresses_that_have_expired_are_asked_for_anew() {
    for (parts, path, bytes) in [(false, "Signature=signed", 6_000_000), (true, "partNumber=2", 5_000_000)] {
        let setting = setting(parts);
        setting.server.fail(path, 1, Failing::Answer(403, vec![], "expired"));
        upload(&setting).unwrap();
        assert_published(&setting);
        assert_eq!((setting.server.asked("/objects/batch").len(), stored(&setting).0), (2, bytes));
    }
}

#[test]
fn what_arrived_is_not_sent_again_though_the_answer_was_lost() {
    for path in ["/api/complete/", "/objects/verify", "/objects/batch"] {
        let setting = setting(true);
        setting.server.fail(path, 1, Failing::Lost);
        assert_eq!(upload(&setting).unwrap().sent, SIZE, "{path}");
        assert_published(&setting);
        assert_eq!(stored(&setting), (3_000_000, 3), "{path}");
    }
}

#[test]
fn the_next_call_sends_what_the_last_could_not() {
    for parts in [false, true] {
        let setting = setting(parts);
        fs::write(model(&setting).join("vae.safetensors"), &weights()[..500_000]).unwrap();
        setting.server.fail("/objects/verify", 99, Failing::Answer(503, vec![], ""));
        assert!(matches!(upload(&setting), Err(Error::Status { status: 503, .. })));
        assert!(published(&setting).is_empty() && commits(&setting).is_empty());
        setting.server.state().faults.clear();
        // The server may not have heard yet that nobody sends to it any more.
        while setting.server.state().busy.0 > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // One of the two arrived before the other was stopped, or both did.
        let kept: usize = setting.server.state().objects.values().map(Vec::len).sum();
        let (before, missing) = (stored(&setting).0, 3_500_000 - kept);
        assert!(kept >= 500_000);
        assert_eq!(upload(&setting).unwrap().sent, SIZE - 3_000_000 + missing as u64);
        assert_eq!((stored(&setting).0 - before, published(&setting).len()), (missing, 5));
    }
}

#[test]
fn attempts_to_send_are_counted_and_nothing_is_published() {
    for parts in [false, true] {
        let setting = setting(parts);
        setting.server.fail("Signature=signed", 99, Failing::Cut(1000));
        let error = upload(&setting).unwrap_err();
        assert!(matches!(&error, Error::Unsent { file, .. } if file == "model.safetensors"), "{error}");
        assert!(error.to_string().contains("nothing was published; run again"), "{error}");
        assert_eq!(setting.server.asked("Signature=signed").len(), 4);
        assert!(published(&setting).is_empty() && commits(&setting).is_empty());
    }
    let setting = setting(false);
    setting.server.fail("Signature=signed", 99, Failing::Answer(503, vec![("Retry-After", "3600".into())], ""));
    let error = upload(&setting).unwrap_err();
    assert!(matches!(error, Error::Busy { after, .. } if after.as_secs() == 3600), "{error}");
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_published() {
    for parts in [false, true] {
        for (name, at) in [("model.safetensors", "Sending"), ("config.json", "Committing")] {
            for content in [vec![7; 3_000_000], CONFIG_OF_SAME_LENGTH.to_vec(), b"longer than it was before".to_vec()] {
                let setting = setting(parts);
                let file = model(&setting).join(name);
                let tell = |event: TransferProgress<'_>| {
                    if format!("{event:?}").starts_with(at) {
                        fs::write(&file, &content).unwrap();
                    }
                };
                let upload = Upload::new("a model");
                let error = writer(&setting).upload(&model(&setting), &repository(), &upload, tell).unwrap_err();
                assert!(matches!(&error, Error::Changed { path } if path.ends_with(name)), "{error}");
                assert!(published(&setting).is_empty() && commits(&setting).is_empty());
                // No other content is kept under the hash of this one.
                let kept = setting.server.state().objects.len();
                assert_eq!(kept, usize::from(name == "config.json"));
            }
        }
    }
}

/// As long as the other.
const CONFIG_OF_SAME_LENGTH: &[u8] = b"{\"name\": \"dit\"}\n";

#[test]
fn parts_that_make_no_sense_are_refused() {
    let (one, two) = ("http://127.0.0.1/1", "http://127.0.0.1/2");
    for (header, reason) in [
        (json!({ "chunk_size": 0 }), "does not say how large"),
        (json!({ "1": one }), "does not say how large"),
        (json!({ "chunk_size": "1000000" }), "other parts than 1 to 3"),
        (json!({ "chunk_size": 1 }), "other parts than 1 to 3000000"),
        (json!({ "chunk_size": 1_500_000, "1": one, "3": two }), "other parts than 1 to 2"),
        (json!({ "chunk_size": 1_500_000, "1": "file:///etc/passwd", "2": two }), "an address that"),
        (json!({ "chunk_size": 1_500_000, "1": 1, "2": 2 }), "a part has no address"),
    ] {
        let setting = setting(false);
        let href = format!("{}/complete", setting.server.endpoint);
        answer_batch(&setting, &json!({ "upload": { "href": href, "header": header } }));
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains(reason), "{header}: {error}");
    }
    // A part without a tag cannot be put together.
    let setting = setting(true);
    setting.server.fail("partNumber=1", 1, Failing::Answer(200, vec![], ""));
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.contains("gives no ETag for a part"), "{error}");
}
