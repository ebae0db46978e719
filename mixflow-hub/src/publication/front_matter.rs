//! The YAML above a model card.

use serde_json::Value;

/// A JSON value between the two lines that mark the front matter of a Markdown file. A mapping's keys are sorted.
///
/// The Hub reads YAML 1.2, Python's `huggingface_hub` YAML 1.1: what is written means the same in both.
pub(super) fn front_matter(value: &Value) -> String {
    let mut text = String::from("---\n");
    write(value, 0, &mut text);
    text.push_str("---\n");
    text
}

/// A mapping or a list, each entry on a line of its own.
fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                text.push_str(&format!("{indent}{}:", scalar(key)));
                write_below(value, depth + 1, text);
            }
        }
        Value::Array(entries) => {
            for value in entries {
                text.push_str(&format!("{indent}-"));
                // The first line goes beside the dash, which takes the place of an indent.
                let mut inner = String::new();
                if is_block(value) {
                    write(value, depth + 1, &mut inner);
                    text.push(' ');
                    text.push_str(inner.trim_start_matches(' '));
                } else {
                    write_below(value, depth + 1, text);
                }
            }
        }
        _ => text.push_str(&format!("{indent}{}\n", plain(value))),
    }
}

/// Writes the value behind a colon or a dash.
fn write_below(value: &Value, depth: usize, text: &mut String) {
    if is_block(value) {
        text.push('\n');
        write(value, depth, text);
    } else {
        text.push_str(&format!(" {}\n", plain(value)));
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        _ => false,
    }
}

/// A value as text of one line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        // An exponent without a dot, as in 1e-7, would be text in YAML 1.1: Rust writes none.
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) if number.fract() == 0.0 => format!("{number:.1}"),
            Some(number) => format!("{number}"),
            None => number.to_string(),
        },
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// Text, in quotation marks unless it can be nothing else.
fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let other = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && text.chars().all(word) && !other.contains(&text.to_ascii_lowercase().as_str()) {
        return text.into();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // Neither these nor line ends of other systems may stand in a YAML file, or they would be folded.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_mappings_are_nested() {
        let value = json!({
            "tags": ["a", "b"],
            "model-index": [{ "name": "x", "results": [{ "metrics": [{ "type": "fid", "value": 2.5 }], "empty": [] }] }]
        });
        let expected = "---\nmodel-index:\n  - name: x\n    results:\n      - empty: []\n        metrics:\n          \
                        - type: fid\n            value: 2.5\ntags:\n  - a\n  - b\n---\n";
        assert_eq!(front_matter(&value), expected);
    }

    #[test]
    fn text_stays_text_and_numbers_numbers() {
        for (value, expected) in [
            (json!("apache-2.0"), "apache-2.0"),
            (json!("openrail++"), "\"openrail++\""),
            (json!("no"), "\"no\""),
            (json!("Null"), "\"Null\""),
            (json!("1.5"), "\"1.5\""),
            (json!(""), "\"\""),
            (json!("a: b # c"), "\"a: b # c\""),
            (json!("\"\\\n\u{85}\u{2028}é"), "\"\\\"\\\\\\n\\x85\\u2028é\""),
            (json!(1e-7), "0.0000001"),
            (json!(3.0), "3.0"),
            (json!(-2), "-2"),
            (json!(null), "null"),
        ] {
            assert_eq!(plain(&value), expected);
        }
    }
}
