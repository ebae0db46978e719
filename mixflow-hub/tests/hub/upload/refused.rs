//! What is refused before anything is sent, and what is said about it.

use std::fs::File;
use std::time::Instant;

use mixflow_hub::{Client, Endpoint, Error, Token, Upload};

use super::{TOKEN, assert_published, commits, empty, model, published, stored, upload, writer};
use crate::server::Failing;
use crate::shared::{NAME, Setting, hasty, repository};

fn run(client: &Client, setting: &Setting) -> Error {
    client.upload(&model(setting), &repository(), &Upload::new("a model"), |_| {}).unwrap_err()
}

/// Whether nothing was asked for but who somebody is.
fn assert_untouched(setting: &Setting) {
    let state = setting.server.state();
    assert!(state.repositories.is_empty());
    assert!(state.requests.iter().all(|request| request.path == "/api/whoami-v2"), "{:?}", state.requests);
}

#[test]
fn a_token_that_may_write_is_needed() {
    let setting = empty();
    let hint = format!("make one at {}/settings/tokens and put it in HF_TOKEN", setting.server.endpoint);
    let error = run(&setting.client(), &setting).to_string();
    assert!(error.contains("needs a token that may write, but there is none") && error.contains(&hint), "{error}");
    assert!(setting.server.asked("").is_empty());
    for (role, reason) in [("read", "may only read"), ("fineGrained", "no right to write anywhere")] {
        setting.server.state().rules.role = role;
        let error = run(&writer(&setting), &setting);
        assert!(matches!(error, Error::WriteToken { .. }), "{error}");
        assert!(error.to_string().contains(reason) && error.to_string().contains(&hint), "{error}");
    }
    let bad = setting.client().token(Token::new("hf_bad", "a test").unwrap()).unwrap();
    let error = run(&bad, &setting);
    assert!(matches!(error, Error::BadToken { .. }), "{error}");
    assert_untouched(&setting);
}

#[test]
fn nothing_is_uploaded_offline_or_in_the_clear() {
    let setting = empty();
    let error = run(&writer(&setting).offline(true), &setting);
    assert!(matches!(error, Error::Offline { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let clear = Client::new(Endpoint::new("http://hub.example").unwrap(), setting.client().cache().clone());
    assert!(matches!(clear.token(Token::new(TOKEN, "a test").unwrap()), Err(Error::Unencrypted { .. })));
    assert!(setting.server.asked("").is_empty());
}

#[test]
fn a_server_that_is_away_is_no_matter_of_the_cache() {
    let setting = empty();
    // Nobody listens at the discard port.
    let nobody = Client::new(Endpoint::new("http://127.0.0.1:9").unwrap(), setting.client().cache().clone());
    let nobody = nobody.patience(hasty()).token(Token::new(TOKEN, "a test").unwrap()).unwrap();
    let error = run(&nobody, &setting);
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("cannot reach 127.0.0.1:9: ") && !told.contains("HF_HUB_OFFLINE"), "{told}");
    assert!(told.contains("run again: nothing was published"), "{told}");
}

#[test]
fn a_repository_has_an_owner_and_a_commit_a_message() {
    let setting = empty();
    let client = writer(&setting);
    let error = client.upload(&model(&setting), &"gpt2".parse().unwrap(), &Upload::new("a"), |_| {}).unwrap_err();
    assert!(error.to_string().contains("must name its owner"), "{error}");
    let error = client.upload(&model(&setting), &repository(), &Upload::new(" \n"), |_| {}).unwrap_err();
    assert!(error.to_string().contains("must say something"), "{error}");
    assert!(setting.server.asked("").is_empty());
}

#[test]
fn where_one_may_not_create_it_is_said() {
    let setting = empty();
    let other = "others/sit".parse().unwrap();
    let error = writer(&setting).upload(&model(&setting), &other, &Upload::new("a"), |_| {}).unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("rights to create a model under this namespace"), "{error}");
    assert!(stored(&setting).1 == 0 && setting.server.state().repositories.is_empty());
}

#[test]
fn a_repository_that_is_made_meanwhile_is_used() {
    // The answer is lost, or two are made at once.
    let busy = "{\"error\": \"Cannot create repo: another conflicting operation is in progress\"}";
    for fault in [Failing::Lost, Failing::Answer(409, vec![], busy), Failing::Answer(502, vec![], "")] {
        let setting = empty();
        setting.server.fail("/repos/create", 1, fault);
        upload(&setting).unwrap();
        assert_published(&setting);
        assert_eq!(setting.server.asked("/repos/create").len(), 2);
    }
}

#[test]
fn busy_servers_are_asked_again() {
    for path in ["whoami", "/repos/create", "/revision/", "/tree/", "/preupload/", "/objects/batch", "/objects/verify"]
    {
        let setting = empty();
        setting.server.fail(path, 2, Failing::Answer(429, vec![("Retry-After", "0".into())], ""));
        upload(&setting).unwrap();
        assert_published(&setting);

        let setting = empty();
        setting.server.fail(path, 99, Failing::Answer(429, vec![("Retry-After", "3600".into())], ""));
        let start = Instant::now();
        assert!(matches!(upload(&setting), Err(Error::Busy { .. })), "{path}");
        assert!(start.elapsed().as_secs() < 2 && setting.server.asked(path).len() == 1);
    }
}

#[test]
fn a_server_that_takes_no_large_files_by_lfs_is_told_before_anything_is_sent() {
    let setting = empty();
    for other in ["xet", "ssh"].iter().skip(usize::from(cfg!(feature = "xet"))) {
        setting.server.state().rules.transfer = Some(other);
        let error = upload(&setting).unwrap_err().to_string();
        assert!(error.contains(&format!("takes large files by \"{other}\" only, not by LFS")), "{error}");
    }
    setting.server.state().rules.transfer = None;
    setting.server.state().rules.mode = "xet";
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.contains("wants model.safetensors by \"xet\", not by LFS"), "{error}");

    // Within the commit there is no room for it.
    setting.server.state().rules.mode = "regular";
    File::create(model(&setting).join("huge.safetensors")).unwrap().set_len((100 << 20) + 1).unwrap();
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.contains("has no store for large files, and huge.safetensors is too large"), "{error}");
    assert!(stored(&setting).1 == 0 && commits(&setting).is_empty() && published(&setting).is_empty());
}

#[test]
fn what_the_repository_ignores_is_not_left_out_in_silence() {
    let setting = empty();
    setting.server.state().rules.ignored = vec!["config.json"];
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.contains("config.json cannot be uploaded: the repository's .gitignore excludes it"), "{error}");
    assert!(stored(&setting).1 == 0 && commits(&setting).is_empty());
}

#[test]
fn a_store_that_refuses_an_object_is_quoted() {
    let setting = empty();
    let oid = crate::server::Content { bytes: crate::shared::weights(), large: true }.sha256();
    let error = "{ \"code\": 507, \"message\": \"no storage left\" }";
    let body = format!("{{ \"objects\": [{{ \"oid\": \"{oid}\", \"error\": {error} }}] }}").leak();
    setting.server.fail("/objects/batch", 1, Failing::Body(body.as_bytes()));
    let error = upload(&setting).unwrap_err().to_string();
    assert!(error.ends_with("answered 507 (no storage left)"), "{error}");
    assert!(commits(&setting).is_empty());
}

#[test]
fn a_server_that_is_no_hub_is_told_apart_before_it_gets_anything() {
    for path in ["whoami", "/revision/", "/preupload/", "/objects/batch"] {
        let setting = empty();
        setting.server.fail(path, 9, Failing::Body(b"<html>log in</html>"));
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{path}: {error}");
        assert!(stored(&setting).1 == 0 && commits(&setting).is_empty());
    }
}

#[test]
fn what_is_sent_goes_nowhere_else() {
    // A repository that was renamed: the same server sends us on.
    let setting = empty();
    upload(&setting).unwrap();
    std::fs::write(model(&setting).join("config.json"), "{}").unwrap();
    setting.server.fail(
        "/commit/",
        1,
        Failing::Answer(307, vec![("Location", "/api/models/org/sit/commit/main".into())], ""),
    );
    upload(&setting).unwrap();
    assert_published(&setting);

    // Another server, or a redirect that loses the content: refused.
    let storage = setting.server.storage.clone();
    for (status, location) in
        [(307, format!("{storage}/commit")), (302, "/api/models/org/sit/commit/main".into()), (307, String::new())]
    {
        std::fs::write(model(&setting).join("config.json"), format!("{status}{location}")).unwrap();
        let before = setting.server.state().repositories[NAME].commits.len();
        setting.server.fail("/commit/", 1, Failing::Answer(status, vec![("Location", location)], ""));
        let error = upload(&setting).unwrap_err().to_string();
        assert!(error.contains("it redirects what we send"), "{error}");
        assert_eq!(setting.server.state().repositories[NAME].commits.len(), before);
    }
    let state = setting.server.state();
    let hub = setting.server.endpoint.strip_prefix("http://").unwrap();
    assert!(state.requests.iter().all(|request| request.token().is_none() || request.header("host") == Some(hub)));
}

#[test]
fn the_token_is_in_no_error() {
    for path in ["whoami", "/repos/create", "/preupload/", "/objects/batch", "Signature=signed", "/commit/"] {
        for status in [400, 403, 418] {
            let setting = empty();
            let message = format!("token {TOKEN} has no right");
            setting.server.fail(path, 9, Failing::Answer(status, vec![("X-Error-Message", message)], ""));
            let error = upload(&setting).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(TOKEN) && shown.contains("token *** has no right"), "{path} {shown}");
        }
    }
}
