//! The texts in the folder `files` of a run, as the official client writes them.

use std::env;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::record::Values;

/// `wandb-metadata.json`: where the run was started. No arguments, which may be secret, and no names of users.
pub(super) fn metadata(started: SystemTime) -> String {
    let program = env::current_exe().unwrap_or_default();
    let metadata = json!({
        "os": format!("{}-{}", env::consts::OS, env::consts::ARCH),
        "startedAt": humantime::format_rfc3339_seconds(started).to_string(),
        "program": program.file_name().map(Path::new),
        "cpu_count_logical": std::thread::available_parallelism().map_or(1, |count| count.get()),
    });
    format!("{metadata:#}\n")
}

/// Names and values as one JSON object, such as `wandb-summary.json`, the last values.
pub(super) fn object(values: &Values) -> String {
    let items: Vec<String> =
        values.iter().map(|(name, json)| format!("{}:{json}", Value::from(name.as_str()))).collect();
    format!("{{{}}}", items.join(","))
}

/// `config.yaml`: what the run is configured with.
pub(super) fn config(config: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in config {
        out += &format!("{}:\n    value: {}\n", Value::from(name.as_str()), yaml(value));
    }
    out
}

/// A value on one line. JSON is YAML but for exponents, which YAML 1.1 takes for numbers only as `1.0e-5`.
fn yaml(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(yaml).collect())),
        Value::Object(items) => {
            let item = |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), yaml(value));
            format!("{{{}}}", list(items.iter().map(item).collect()))
        }
        Value::Number(number) => {
            let text = number.to_string();
            match text.split_once('e') {
                Some((digits, exponent)) => {
                    let point = if digits.contains('.') { "" } else { ".0" };
                    let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
                    format!("{digits}{point}e{sign}{exponent}")
                }
                None => text,
            }
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_exponents_are_numbers_in_yaml_too() {
        let value = json!({"rate": 1e-7, "wide": [1e300, 2.5e-7, 0.5, 3], "name": "a: \"b\"\n", "none": null});
        let object = value.as_object().cloned().unwrap_or_default();
        assert_eq!(
            config(&object),
            "\"name\":\n    value: \"a: \\\"b\\\"\\n\"\n\"none\":\n    value: null\n\"rate\":\n    value: 1.0e-7\n\
             \"wide\":\n    value: [1.0e+300, 2.5e-7, 0.5, 3]\n"
        );
    }

    #[test]
    fn the_summary_is_an_object_of_python() {
        let values = Values::from([("a \"b\"".into(), "NaN".into()), ("c".into(), "[1,2]".into())]);
        assert_eq!(object(&values), "{\"a \\\"b\\\"\":NaN,\"c\":[1,2]}");
    }
}
