//! What is wrong with JSON, in words for whoever wrote it.

use strsim::levenshtein;

/// The reason that `serde_json` gives, without the types of this program: what was expected and what was found, which keys
/// and values there are and which is nearest, and the place in the text if it was read from one.
pub fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match message.strip_suffix(&place) {
        Some(message) => format!("{}, at line {}, column {}", reworded(message), error.line(), error.column()),
        None => reworded(&message),
    }
}

/// The one of some known words that is most like another, if it is a likely slip.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = 1 + word.chars().count() / 4;
    let found = known.into_iter().map(|known| (levenshtein(&word, &known.to_lowercase()), known));
    found.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= most).map(|(_, known)| known)
}

/// How a message calls a value that was found.
pub fn described(value: &serde_json::Value) -> String {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match value {
        Null => "null".into(),
        Bool(value) => value.to_string(),
        Number(value) => value.to_string(),
        String(text) => quoted(&format!("{text:?}")),
        Array(_) => "a list".into(),
        Object(_) => "an object".into(),
    }
}

/// The value of a key that is on unless it says otherwise.
pub(crate) fn yes() -> bool {
    true
}

fn reworded(message: &str) -> String {
    let after = |start| message.strip_prefix(start);
    if let Some((found, wanted)) =
        after("invalid type: ").or(after("invalid value: ")).and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("expected {}, found {}", expected(wanted), unexpected(found));
    }
    if let Some((found, wanted)) = after("invalid length ").and_then(|rest| rest.split_once(", expected ")) {
        let number = if found == "1" { "1 value".into() } else { format!("{found} values") };
        return format!("expected {}, found a list of {number}", expected(wanted));
    }
    for (start, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some(rest) = after(start) {
            let (word, known) = rest.split_once("`, ").unwrap_or((rest.trim_end_matches('`'), ""));
            return unknown(what, word, &known.split('`').skip(1).step_by(2).collect::<Vec<_>>());
        }
    }
    let key = |start| after(start).map(|key| key.trim_end_matches('`'));
    if let Some(key) = key("missing field `") {
        return format!("the key `{key}` is missing");
    }
    if let Some(key) = key("duplicate field `") {
        return format!("the key `{key}` is there twice");
    }
    if let Some(part) = after("EOF while parsing ") {
        return format!("the text ends in the middle of {part}");
    }
    match message {
        "trailing characters" => "something follows the end".into(),
        "trailing comma" => "there is a comma after the last value, which JSON does not allow".into(),
        "expected value" => "expected a value".into(),
        "key must be a string" => "expected a key in quotes".into(),
        "recursion limit exceeded" => "it is nested too deeply".into(),
        _ if message.contains("did not match any variant") => "it has none of the forms that are known".into(),
        _ => message.into(),
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let nearest = nearest(word, known.iter().copied()).map_or(String::new(), |near| format!(", perhaps `{near}`"));
    let all: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    let all = if all.is_empty() { String::new() } else { format!("; known are {}", all.join(", ")) };
    format!("unknown {what} `{word}`{nearest}{all}")
}

/// What Serde calls a type that it expects.
fn expected(wanted: &str) -> String {
    let starts = |starts: &[&str]| starts.iter().any(|start| wanted.starts_with(start));
    let list = ["an array of length ", "a tuple of size "].iter().find_map(|start| wanted.strip_prefix(start));
    if let Some(length) = list {
        return format!("a list of {length} values");
    }
    match wanted {
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "unit" | "null" => "null",
        "a string" | "str" | "path string" | "a character" | "string or map" | "map with a single key" => "a text",
        _ if wanted.ends_with(" identifier") || starts(&["unit variant ", "enum "]) => "a text",
        _ if starts(&["unit struct "]) => "no further keys",
        _ if starts(&["tuple struct ", "tuple variant "]) => "a list",
        _ if starts(&["a map", "map", "struct ", "internally tagged enum ", "adjacently tagged enum "]) => "an object",
        _ => wanted,
    }
    .into()
}

/// What Serde calls a value that it did not expect.
fn unexpected(found: &str) -> String {
    if let Some(text) = found.strip_prefix("string ") {
        return quoted(text);
    }
    for start in ["boolean `", "integer `", "floating point `", "character `"] {
        if let Some(value) = found.strip_prefix(start) {
            return value.trim_end_matches('`').into();
        }
    }
    match found {
        "sequence" => "a list".into(),
        "map" => "an object".into(),
        "null" | "unit value" | "Option value" => "null".into(),
        _ => "something else".into(),
    }
}

/// A text in quotes, cut where it is long.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("the text {}…\"", &text[..end]),
        None => format!("the text {text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only what is wrong is read")]
    struct Settings {
        steps: u64,
        rate: f64,
        #[serde(default)]
        betas: [f64; 2],
        #[serde(default)]
        path: PathBuf,
        #[serde(default)]
        flip: bool,
        kind: Option<Kind>,
        law: Option<Law>,
        level: Option<u8>,
        table: Option<BTreeMap<String, f64>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Heun,
        Euler,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only what is wrong is read")]
    enum Law {
        Beta { alpha: f64 },
    }

    #[test]
    fn reasons_name_no_type_of_the_program() {
        for (change, words) in [
            (r#""steps": "many""#, "expected a whole number, 0 or more, found the text \"many\""),
            (r#""steps": -1"#, "expected a whole number, 0 or more, found -1"),
            (r#""steps": 1.5"#, "expected a whole number, 0 or more, found 1.5"),
            (r#""steps": null"#, "expected a whole number, 0 or more, found null"),
            (r#""level": 300"#, "expected a whole number from 0 to 255, found 300"),
            (r#""rate": true"#, "expected a number, found true"),
            (r#""rate": "a, expected b""#, "expected a number, found the text \"a, expected b\""),
            (r#""betas": [0.9]"#, "expected a list of 2 values, found a list of 1 value"),
            (r#""betas": 1"#, "expected a list of 2 values, found 1"),
            (r#""path": 1"#, "expected a text, found 1"),
            (r#""flip": 1"#, "expected true or false, found 1"),
            (r#""kind": "huen""#, "unknown value `huen`, perhaps `heun`; known are `heun`, `euler`"),
            (r#""law": "beta""#, "expected an object, found the text \"beta\""),
            (r#""law": {"alpha": 1}"#, "the key `kind` is missing"),
            (r#""law": {"kind": "beta", "alpah": 1}"#, "unknown key `alpah`, perhaps `alpha`"),
            (r#""table": []"#, "expected an object, found a list"),
            (r#""stepz": 1"#, "unknown key `stepz`, perhaps `steps`; known are `steps`, `rate`"),
            (r#""rate": 1, "rate": 2"#, "the key `rate` is there twice"),
            (r#""rate": 1,"#, "comma after the last value"),
            (r#""rate": [1"#, "expected a number, found a list"),
            (r#"rate: 1"#, "expected a key in quotes"),
        ] {
            let text = format!("{{{change}}}");
            let reason = explain(&serde_json::from_str::<Settings>(&text).unwrap_err());
            assert!(reason.contains(words) && reason.contains(", at line 1, column "), "{change}: {reason}");
        }
        let reason = |text: &str| explain(&serde_json::from_str::<Settings>(text).unwrap_err());
        assert!(reason("{}").starts_with("the key `steps` is missing"));
        assert!(reason("[]").starts_with("expected an object, found a list of 0 values"), "{}", reason("[]"));
        assert!(reason(r#"{"steps": 1"#).starts_with("the text ends in the middle of an object"));
        let value = serde_json::json!({ "steps": 1, "rate": 1, "kind": 3 });
        assert_eq!(explain(&serde_json::from_value::<Settings>(value).unwrap_err()), "expected a text, found 3");
        let value = serde_json::json!({ "steps": "a".repeat(100) });
        let long = explain(&serde_json::from_value::<Settings>(value).unwrap_err());
        assert!(long.len() < 120 && !long.contains("line"), "{long}");
    }

    #[test]
    fn a_slip_has_a_nearest_word_and_another_word_has_none() {
        let known = ["digits", "shapes", "paper/sit-xl-2-256", "paper/sit-xl-2-512"];
        for (word, expected) in [
            ("digit", Some("digits")),
            ("Shapse", Some("shapes")),
            ("paper/sit-xl-2-25", Some("paper/sit-xl-2-256")),
            ("cats", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
