//! Refusals in the real Hub's own words, as people have reported them: what is said of each, and whether it is asked again.

use std::time::Instant;

use mixflow_hub::{Client, Error, Revision, Token};

use crate::server::Failing;
use crate::shared::{Setting, repository};

const SECRET: &str = "hf_aVeryLongSecret";

/// An answer: where it was reported, whether a token was sent, status, headers and body.
type Reported = (&'static str, bool, u16, &'static [(&'static str, &'static str)], &'static str);

/// What comes of asking for a file, and of asking what a repository has.
fn ask(reported: &Reported) -> Vec<(Error, usize)> {
    let (_, token, status, headers, body) = *reported;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_string())).collect();
    let asked = |path: &'static str, ask: &dyn Fn(&Client) -> Error| {
        let setting = Setting::new();
        setting.server.state().tokens.push(SECRET.into());
        setting.server.fail(path, 99, Failing::Answer(status, headers.clone(), body));
        let client = setting.client();
        let client = if token { client.token(Token::new(SECRET, "a test").unwrap()).unwrap() } else { client };
        (ask(&client), setting.server.asked(path).len())
    };
    let main = Revision::default();
    vec![
        asked("/resolve/", &|client| client.file(&repository(), &main, "config.json", |_| {}).unwrap_err()),
        asked("/revision/", &|client| client.snapshot(&repository(), &main, &[], |_| {}).unwrap_err()),
    ]
}

const INVALID: &[(&str, &str)] = &[("X-Error-Message", "Invalid username or password.")];
const CREDENTIALS: &[(&str, &str)] = &[("X-Error-Message", "Invalid credentials in Authorization header")];
const MISSING: &[(&str, &str)] = &[("X-Error-Code", "RepoNotFound"), ("X-Error-Message", "Repository not found")];
const GATED: &[(&str, &str)] = &[
    ("X-Error-Code", "GatedRepo"),
    (
        "X-Error-Message",
        "Access to model org/sit is restricted. You must have access to it and be authenticated to access it. Please log in.",
    ),
];
const UNLISTED: &[(&str, &str)] = &[
    ("X-Error-Code", "GatedRepo"),
    (
        "X-Error-Message",
        "Access to model org/sit is restricted and you are not in the authorized list. Visit https://huggingface.co/org/sit to \
         ask for access.",
    ),
];
const REVISION: &[(&str, &str)] = &[("X-Error-Code", "RevisionNotFound"), ("X-Error-Message", "Invalid rev id: main")];
const DISABLED: &[(&str, &str)] = &[("X-Error-Message", "Access to this resource is disabled.")];
const SCOPE: &[(&str, &str)] = &[("X-Error-Message", "specific error message")];

/// `huggingface/huggingface_hub` is HUB here.
#[test]
fn each_refusal_is_told_by_what_the_hub_says() {
    let check = |reported: Reported, is: fn(&Error) -> bool, words: &str| {
        for (asked, (error, requests)) in ask(&reported).into_iter().enumerate() {
            assert!(is(&error), "{}: {error:?}", reported.0);
            // Who asks for headers gets no body.
            let told = asked == 1 || !reported.4.contains("\"errors\"");
            assert!(!told || error.to_string().contains(words), "{}: {error}", reported.0);
            assert_eq!(requests, 1, "{}", reported.0);
        }
    };
    let body = "{\"error\":\"Invalid username or password.\"}";
    check(
        ("SkyWorkAIGC/SkyText-Chinese-GPT3, issue 5; 01-ai/Yi, issue 226", false, 401, INVALID, body),
        |error| matches!(error, Error::NoRepository { token: false, .. }),
        "a private one needs a token in HF_TOKEN",
    );
    check(
        ("HUB, tests/test_utils_errors.py: 401_repo_url", false, 401, &[], ""),
        |error| matches!(error, Error::NoRepository { token: false, .. }),
        "there is no org/sit at",
    );
    check(
        ("sillsdev/silnlp, issue 791: of a public repository, by an expired token", true, 401, CREDENTIALS, ""),
        |error| matches!(error, Error::BadToken { .. }),
        "does not accept the token: make a new one",
    );
    check(
        (
            "HUB, issue 3479: the same in the body alone",
            true,
            401,
            &[],
            "{\"error\":\"Invalid credentials in Authorization header\"}",
        ),
        |error| matches!(error, Error::BadToken { .. }),
        "does not accept the token: make a new one",
    );
    check(
        ("HUB, tests/test_utils_errors.py: repo_not_found", true, 404, MISSING, "{\"error\":\"Repository not found\"}"),
        |error| matches!(error, Error::NoRepository { token: true, .. }),
        "there is no org/sit at",
    );
    check(
        ("ToTheBeginning/PuLID, issue 97; vllm-project/semantic-router, issue 817", false, 401, GATED, ""),
        |error| matches!(error, Error::Gated { token: false, .. }),
        "accept its terms at",
    );
    check(
        ("ariG23498/gemma3-object-detection, issue 5", true, 403, UNLISTED, ""),
        |error| matches!(error, Error::Gated { token: true, .. }),
        "once access is granted; the token needs the right to read gated repositories",
    );
    check(
        ("SAP-samples/sap-rpt-1-oss, pull request 4; HUB, issue 2411", true, 404, REVISION, ""),
        |error| matches!(error, Error::NoRevision { .. }),
        "main",
    );
    check(
        ("HUB, tests/test_utils_errors.py: disabled_repo", true, 403, DISABLED, ""),
        |error| matches!(error, Error::Status { status: 403, .. }),
        "answered 403 (Access to this resource is disabled.)",
    );
    check(
        ("HUB, tests/test_utils_errors.py: 403_wrong_token_scope", true, 403, SCOPE, ""),
        |error| matches!(error, Error::Forbidden { .. }),
        "(specific error message): the token lacks the right",
    );
    check(
        ("a firewall's page, to whoever has no token that could lack a right", false, 403, &[], "<html>blocked</html>"),
        |error| matches!(error, Error::Status { status: 403, .. }),
        "answered 403",
    );
    check(
        (
            "HUB, issue 1114",
            true,
            400,
            &[],
            "{\"httpStatusCode\": 400, \"errors\": [{\"message\": \"this is error 1\", \"type\": \"error\"}, \
             {\"message\": \"this is error 2\", \"type\": \"error\"}]}",
        ),
        |error| matches!(error, Error::Status { status: 400, .. }),
        "(this is error 1; this is error 2)",
    );
}

/// A file that is missing is told by the commit that has it not.
///
/// # Source
/// `huggingface/huggingface_hub`, `tests/test_utils_errors.py`: `entry_not_found`.
#[test]
fn a_missing_file_is_one_file() {
    let headers = &[("X-Error-Code", "EntryNotFound"), ("X-Error-Message", "Entry not found")];
    let (error, requests) = ask(&("", true, 404, headers, "Entry not found")).swap_remove(0);
    assert!(matches!(&error, Error::NoFile { file, .. } if file == "config.json"), "{error}");
    assert_eq!(requests, 1);
}

/// The Hub names its limits with every answer, those that they do not stop too; only a limit that is reached is waited for.
///
/// # Source
/// `huggingface/huggingface_hub`, issue 3553, for the headers; `OpenHUTB/hutb`, issue 3329, for the words.
#[test]
fn a_limit_is_waited_for_until_it_is_lifted() {
    const SAID: &str = "{\"error\":\"We had to rate limit you, you hit the quota of 1000 api requests per 5 minutes period. \
        Upgrade to a PRO user or Team/Enterprise organization account (https://hf.co/pricing) to get higher limits. See \
        https://huggingface.co/docs/hub/rate-limits\"}";
    let limited = |limit, policy| {
        let headers = vec![("RateLimit", String::from(limit)), ("RateLimit-Policy", String::from(policy))];
        Failing::Answer(429, headers, SAID)
    };
    let policy = "\"fixed window\";\"api\";q=500;w=300";
    let setting = Setting::new();
    setting.server.fail("config.json", 1, limited("\"api\";r=0;t=1", policy));
    let begun = Instant::now();
    setting.file("config.json").unwrap();
    // A second that is begun counts.
    assert!((2..4).contains(&begun.elapsed().as_secs()));

    // Of another limit than that which was reached: it says nothing of when.
    let setting = Setting::new();
    setting.server.fail("config.json", 3, limited("\"api\";r=489;t=189", policy));
    let begun = Instant::now();
    setting.file("config.json").unwrap();
    assert!(begun.elapsed().as_secs() < 1);

    let setting = Setting::new();
    setting.server.fail("config.json", 9, limited("\"api\";r=0;t=189", policy));
    let error = setting.file("config.json").unwrap_err().to_string();
    assert!(error.contains("asks to wait 190 s: try again then, or log in, which allows more"), "{error}");
}

/// A server that is down says so in its own words, or those of what stands before it.
///
/// # Source
/// `huggingface/huggingface_hub`, issues 1516 (504) and 2060 (503); `SYSTRAN/faster-whisper`, issue 212 (504, then 502).
#[test]
fn an_outage_is_asked_again() {
    for status in [500, 502, 503, 504] {
        for (error, requests) in
            ask(&("", false, status, &[("Server", "CloudFront")], "<html>The request could not be satisfied.</html>"))
        {
            assert!(matches!(&error, Error::Status { status: found, .. } if *found == status), "{error}");
            assert_eq!(requests, 4);
        }
    }
}

/// What has all bytes already, or another file's, asks for a range that there is not.
///
/// # Source
/// `huggingface/huggingface_hub`, pull requests 2449 and 2511.
#[test]
fn a_range_that_there_is_not_is_begun_anew() {
    let setting = Setting::new();
    let oid = crate::server::Content { bytes: crate::shared::weights(), large: true }.sha256();
    let blobs = setting.stored().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{oid}.incomplete")), b"some").unwrap();
    let range = vec![("Content-Range", "bytes */3000000".into())];
    setting.server.fail("Signature=signed", 1, Failing::Answer(416, range, ""));
    let path = setting.file("model.safetensors").unwrap();
    assert!(std::fs::read(path).unwrap() == crate::shared::weights());
    let asked: Vec<_> = setting.server.asked("Signature=signed").into_iter().map(|(_, range)| range).collect();
    assert_eq!(asked, [Some("bytes=4-".into()), None]);
}
