//! The page of the guide that lists the keys of a recipe, held against what reads one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Recipe;

const PAGE: &str = include_str!("../guide/recipe.md");

/// A recipe that says what must be said, and no more but what further keys are said in.
fn least() -> Value {
    json!({
        "name": "page",
        "data": { "kind": "digits", "size": 32 },
        "network": {
            "kind": "sit", "input_size": 32, "patch": 4, "channels": 1, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 1, "batch": 1 },
        "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 2 }, "guidance": { "scale": 1.5 } },
        "validation": { "every": 1 },
        "post_training": { "steps": 1, "gamma": 0.8 },
    })
}

/// The recipe with a value at a place, or without that place.
fn with(mut recipe: Value, key: &str, value: Option<Value>) -> Value {
    let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut place = &mut recipe;
    for step in parent.split('.').filter(|step| !step.is_empty()) {
        place = &mut place[step];
        if place.is_null() {
            *place = json!({});
        }
    }
    let place = place.as_object_mut().unwrap();
    match value {
        Some(value) => drop(place.insert(name.into(), value)),
        None => drop(place.remove(name)),
    }
    recipe
}

/// What is in the JSON, unchecked; or what its reader says.
fn read(recipe: Value) -> Result<Recipe, String> {
    serde_json::from_value(recipe).map_err(|error| error.to_string())
}

/// The cells of the rows below the headings that begin with `first`, without it.
fn tables(first: &str) -> Vec<(&'static str, Vec<Vec<&'static str>>)> {
    let cells = |line: &'static str| -> Vec<&str> { line.trim_matches('|').split('|').map(str::trim).collect() };
    let blocks = PAGE.split("\n\n").filter(|block| block.contains("\n|---|"));
    let tables = blocks.map(|block| (cells(block.lines().next().unwrap()), block.lines().skip(2).map(cells).collect()));
    let tables = tables.filter(|(head, _)| head[1] == first).map(|(head, rows)| (head[0].trim_matches('`'), rows));
    tables.collect()
}

/// The rows of keys: each with what it is unless it is said, and what it may be.
fn keys() -> Vec<[&'static str; 3]> {
    let rows = tables("unless said").into_iter().flat_map(|(_, rows)| rows);
    rows.map(|row| [row[0].trim_matches('`'), row[1], row[2]]).collect()
}

/// Words in backticks.
fn words(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// What a reader knows in the place of a word that it does not: the words of its message behind the first.
fn known(recipe: Value) -> BTreeSet<String> {
    let message = read(recipe).unwrap_err();
    message.split_once("expected").map_or_else(BTreeSet::new, |(_, known)| words(known))
}

/// Numbers outside and inside of what a cell says, if it says an interval.
fn interval(cell: &str) -> Option<[Vec<Value>; 2]> {
    let number = |text: &str| text.parse::<f64>().ok();
    let whole = |values: &[f64]| values.iter().map(|value| json!(*value as i64)).collect::<Vec<_>>();
    let real = |values: &[f64]| values.iter().map(|value| json!(value)).collect::<Vec<_>>();
    if let Some(least) = cell.strip_prefix("≥ ").and_then(number) {
        return Some([whole(&[least - 1.0]), whole(&[least])]);
    }
    if let Some(limit) = cell.strip_prefix("> ").and_then(number) {
        return Some([real(&[limit, limit - 0.1]), real(&[limit + 0.1])]);
    }
    if let Some((least, most)) = cell.split_once(" to ").and_then(|(a, b)| Some((number(a)?, number(b)?))) {
        return Some([whole(&[least - 1.0, most + 1.0]), whole(&[least, most])]);
    }
    let (ends, open) = (cell.get(1..cell.len().max(2) - 1)?, [cell.starts_with('('), cell.ends_with(')')]);
    let (low, high) = ends.split_once(", ")?;
    let (low, high) = (number(low)?, number(high).filter(|high| high.is_finite()));
    let (mut outside, mut inside) = (vec![low - 0.1], vec![]);
    for (end, open) in [(Some(low), open[0]), (high, open[1])] {
        if open { outside.extend(end) } else { inside.extend(end) }
    }
    outside.extend(high.map(|high| high + 0.1));
    Some([real(&outside), real(&inside)])
}

#[test]
fn every_key_of_a_recipe_is_on_the_page() {
    let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for [key, ..] in keys() {
        let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
        told.entry(parent).or_default().insert(name.into());
    }
    assert_eq!(told.len(), 9, "{told:?}");
    for (parent, told) in told {
        let known = match parent {
            // Whose reader does not tell, since it hands on what it does not know.
            "sampling" => {
                let fields = include_str!("sampling.rs").split("\n}\n").next().unwrap();
                let fields = fields.lines().filter_map(|line| line.strip_prefix("    pub ")?.split(':').next());
                let own = fields.filter(|name| *name != "sampler");
                own.chain(["solver", "grid"]).map(String::from).collect()
            }
            _ => known(with(least(), format!("{parent}.zzz").trim_start_matches('.'), Some(json!(1)))),
        };
        assert_eq!(told, known, "{parent}");
    }
}

#[test]
fn keys_that_are_not_said_are_what_the_page_says() {
    for [key, unless, _] in keys() {
        let without = read(with(least(), key, None));
        let default = match unless {
            "must be said" => {
                assert!(without.is_err(), "{key} need not be said");
                continue;
            }
            "none" => Value::Null,
            json => serde_json::from_str(json.trim_matches('`')).unwrap_or_else(|error| panic!("{key}: {error}")),
        };
        let least = read(with(least(), key, Some(default))).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(without.unwrap(), least, "{key} is not {unless} unless it is said");
    }
}

#[test]
fn keys_may_be_what_the_page_says() {
    /// Keys that cannot be said of this recipe, but for the numbers that none may be.
    const OTHERWISE: [&str; 2] = ["sampling.distilled_guidance", "sampling.grid.last"];
    let (mut intervals, mut lists) = (0, 0);
    for [key, _, values] in keys() {
        let at = |value: &Value| with(least(), key, Some(value.clone()));
        if let Some([outside, inside]) = interval(values) {
            intervals += 1;
            for value in outside {
                assert!(Recipe::from_value(at(&value)).is_err(), "{key} may be {value}");
            }
            for value in inside.iter().filter(|_| !OTHERWISE.contains(&key)) {
                Recipe::from_value(at(value)).unwrap_or_else(|error| panic!("{key} may not be {value}: {error}"));
            }
        } else if values.starts_with("`{") {
            read(at(&serde_json::from_str(values.trim_matches('`')).unwrap())).unwrap();
        } else if values.starts_with('`') {
            lists += 1;
            assert_eq!(known(at(&json!("zzz"))), words(values), "{key}");
        }
    }
    assert!(intervals > 25 && lists == 6, "{intervals} {lists}");
}

#[test]
fn every_kind_has_its_form_on_the_page() {
    let tables = tables("may have");
    assert_eq!(tables.len(), 10);
    for (place, rows) in tables {
        let least = match place {
            "sampling.solver.diffusion" => with(least(), "sampling.solver.kind", Some(json!("euler-maruyama"))),
            _ => least(),
        };
        let at = |value: Value| with(least.clone(), place, Some(value));
        let mut kinds = BTreeSet::new();
        for row in rows {
            let form = row[0].trim_matches('`');
            let value: Value = serde_json::from_str(form).unwrap_or_else(|error| panic!("{form}: {error}"));
            let found = read(at(value.clone())).unwrap_or_else(|error| panic!("{form}: {error}"));
            let mut keys: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
            for key in &keys {
                assert!(read(at(with(value.clone(), key, None))).is_err(), "{form}: {key} need not be said");
            }
            let parts: Vec<&str> = row[1].split('`').skip(1).step_by(2).collect();
            for part in parts.chunks(2) {
                let default = serde_json::from_str(part[1]).unwrap();
                let said = read(at(with(value.clone(), part[0], Some(default)))).unwrap();
                assert_eq!(said, found, "{form}: {} is another", part[0]);
                keys.insert(part[0].into());
            }
            keys.remove("kind");
            let unknown = at(with(value.clone(), "zzz", Some(json!(1))));
            assert_eq!(known(unknown), keys, "{form}");
            kinds.insert(value["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(known(at(json!({ "kind": "zzz" }))), kinds, "{place}");
    }
}
