//! The keys of text encoders in the guide, held against what reads them.

use std::collections::BTreeSet;

use mixflow_t2i::recipe::TextEncoderConfig;
use serde_json::{Value, json};

/// The page of the guide that lists the keys of a recipe.
#[test]
fn the_guide_has_every_key_of_a_text_encoder() {
    let page = include_str!("../../../mixflow/src/guide/recipe.md");
    let table = page.split("| `network.text` |").nth(1).unwrap().split("\n\n").next().unwrap();
    let read = |value: &Value| serde_json::from_value::<TextEncoderConfig>(value.clone());
    let known = |error: serde_json::Error| {
        let message = error.to_string();
        let known = message.split_once("expected").unwrap().1.split('`').skip(1).step_by(2);
        known.map(String::from).collect::<BTreeSet<_>>()
    };
    let mut kinds = BTreeSet::new();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let form: Value = serde_json::from_str(cells[1].trim_matches('`')).unwrap();
        let with = |key: &str, value: Value| {
            let mut with = form.clone();
            with[key] = value;
            with
        };
        let mut keys: BTreeSet<String> = form.as_object().unwrap().keys().cloned().collect();
        for key in &keys {
            let mut without = form.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(read(&without).is_err(), "{form}: {key} need not be said");
        }
        let parts: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        for part in parts.chunks(2) {
            let said = with(part[0], serde_json::from_str(part[1]).unwrap());
            assert_eq!(read(&said).unwrap(), read(&form).unwrap(), "{form}: {} is another", part[0]);
            keys.insert(part[0].into());
        }
        keys.remove("kind");
        assert_eq!(known(read(&with("zzz", 1.into())).unwrap_err()), keys, "{form}");
        kinds.insert(form["kind"].as_str().unwrap().to_string());
    }
    assert_eq!(known(read(&json!({ "kind": "zzz" })).unwrap_err()), kinds);
}
