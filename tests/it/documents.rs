//! What README.md and ARCHITECTURE.md say of the code, held against the code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Rust files below a folder of the repository, as paths from its root, sorted.
pub(crate) fn sources(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if path.ends_with(".rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    files
}

/// The part of ARCHITECTURE.md below a heading, up to the next heading of its level or above.
fn section(heading: &str) -> String {
    let level = heading.bytes().take_while(|&byte| byte == b'#').count();
    let ends = |line: &str| {
        let depth = line.bytes().take_while(|&byte| byte == b'#').count();
        (1..=level).contains(&depth)
    };
    let text = read("ARCHITECTURE.md");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !ends(line));
    let section = lines.collect::<Vec<_>>().join("\n");
    assert!(!section.is_empty(), "ARCHITECTURE.md has no section {heading}");
    section
}

/// Words in backticks.
fn names(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A package has what lies below its own folder.
#[test]
fn every_published_crate_carries_its_licences() {
    for library in ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub"] {
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert_eq!(read(&format!("{library}/{licence}")), read(licence));
        }
    }
}

#[test]
fn every_module_of_a_crate_stands_in_its_table() {
    for library in ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub"] {
        let section = section(&format!("### {library}"));
        let known = names(&section);
        let root = read(&format!("{library}/src/lib.rs"));
        let modules = root.lines().filter_map(|line| {
            let rest = line.strip_prefix("pub ").unwrap_or(line);
            rest.strip_prefix("mod ")?.strip_suffix(';')
        });
        let missing: Vec<&str> = modules.filter(|module| !known.contains(module)).collect();
        assert!(missing.is_empty(), "ARCHITECTURE.md, {library}: {missing:?} are not in the table");
    }
}

#[test]
fn every_place_of_unsafe_code_is_named() {
    let operations = section("## Operations");
    let named: BTreeSet<&str> = names(&operations).into_iter().filter(|name| name.ends_with(".rs")).collect();
    let folders =
        ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub", "xtask", "tests/it"];
    let files = folders.iter().flat_map(|folder| sources(folder));
    // Written so that this file is not one of them.
    let lint = ["(unsafe", "_code"].concat();
    let allowed: Vec<String> = files.filter(|file| read(file).contains(&lint)).collect();
    assert!(allowed.len() >= 5, "{allowed:?}");
    let unnamed: Vec<&String> = allowed.iter().filter(|file| !named.contains(file.as_str())).collect();
    assert!(unnamed.is_empty(), "ARCHITECTURE.md does not name {unnamed:?}");
    let gone: Vec<&&str> =
        named.iter().filter(|name| name.contains('/') && !allowed.iter().any(|file| file == *name)).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names {gone:?}, which need no unsafe code");
}

#[test]
fn the_commands_of_the_readme_are_those_of_the_program() {
    let program = read("xtask/src/main.rs");
    let body = program.split("enum Command {").nth(1).unwrap().split("\n}").next().unwrap();
    let variants = body.lines().filter_map(|line| line.trim().split_once('(').map(|(name, _)| name)).chain(
        body.lines()
            .filter_map(|line| line.trim().strip_suffix(','))
            .filter(|name| name.chars().all(char::is_alphanumeric)),
    );
    let kebab = |name: &str| {
        let mut text = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !text.is_empty() {
                text.push('-');
            }
            text.extend(letter.to_lowercase());
        }
        text
    };
    let commands: BTreeSet<String> =
        variants.filter(|name| name.starts_with(|first: char| first.is_uppercase())).map(kebab).collect();
    let readme = read("README.md");
    let table = readme.split("| `cargo xtask` | |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(String::from));
    assert_eq!(rows.collect::<BTreeSet<_>>(), commands);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "mixflow/benches/README.md", "mixflow/recipes/paper/README.md"] {
        let text = read(document);
        let folder = root().join(document).parent().unwrap().to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            assert!(path.contains("://") || folder.join(path).exists(), "{document} links to {target}");
        }
    }
}

/// Dependencies of a crate that never shall have them: invariants 1 and the network's.
#[test]
fn leaves_stay_leaves() {
    let dependencies = |library: &str| {
        let manifest = read(&format!("{library}/Cargo.toml"));
        let table = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap().to_string();
        let names = table.lines().filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_string()));
        names.filter(|name| !name.is_empty() && !name.starts_with('#')).collect::<BTreeSet<_>>()
    };
    assert_eq!(dependencies("mixflow-schedules"), ["rand", "serde", "thiserror"].map(String::from).into());
    for library in ["mixflow-backbones", "mixflow", "mixflow-t2i"] {
        for network in ["ureq", "hf-xet", "rustls", "hf-hub"] {
            assert!(!dependencies(library).contains(network), "{library} depends on {network}");
        }
    }
}

#[test]
fn the_walks_pass_files_that_are_there() {
    let walks = section("## Three walks");
    let files: Vec<&str> = names(&walks).into_iter().filter(|name| name.contains("/src/")).collect();
    assert!(files.len() > 20, "{files:?}");
    let gone: Vec<&&str> = files.iter().filter(|file| !root().join(file).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md walks through {gone:?}");
}

/// What an implementation has to have, and what it may have: each trait with its methods, of which those that are provided say so.
#[test]
fn the_traits_are_those_of_the_code() {
    let traits = section("## Traits");
    let block = traits.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let libraries = ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub"];
    let code: Vec<String> =
        libraries.iter().flat_map(|library| sources(&format!("{library}/src"))).map(|file| read(&file)).collect();
    let told: Vec<&str> = block.split("\n}\n").filter(|text| !text.trim().is_empty()).map(str::trim_start).collect();
    assert!(told.len() > 12, "{told:?}");
    for told in told {
        let head = told.split(" {").next().unwrap();
        let found = code.iter().find_map(|text| {
            let text = text.replace("fmt::Debug", "Debug");
            text.split_once(&format!("\npub {head} {{\n"))
                .map(|(_, rest)| rest.split("\n}\n").next().unwrap().to_owned())
        });
        let found = found.unwrap_or_else(|| panic!("no {head} in the code"));
        let methods = |text: &str, provided: fn(&str) -> bool| -> BTreeSet<(String, bool)> {
            let parts = text.split("\n    fn ").skip(1);
            parts.map(|part| (part.split(['(', '<']).next().unwrap().to_owned(), provided(part))).collect()
        };
        let in_code =
            methods(&found, |part| part.lines().find(|line| line.ends_with(['{', ';'])).unwrap().ends_with('{'));
        assert_eq!(methods(told, |part| part.contains("// provided")), in_code, "{head}");
    }
}

/// The rooms of `mixflow`, in the order of ARCHITECTURE.md's table, import nothing from a room further down.
#[test]
fn no_room_looks_up() {
    let section = section("### mixflow");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let order: Vec<&str> = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
    let root = read("mixflow/src/lib.rs");
    // Where what the root exports lives.
    let home = |name: &str| {
        let exports = root.lines().filter_map(|line| line.strip_prefix("pub use ")?.split_once("::"));
        let mut found =
            exports.filter(|(_, names)| names.split(|c: char| !c.is_alphanumeric() && c != '_').any(|n| n == name));
        found.next().map_or_else(|| name.to_owned(), |(room, _)| room.to_owned())
    };
    let place = |room: &str| order.iter().position(|known| *known == room);
    let mut arrows = 0;
    for file in sources("mixflow/src") {
        let text = read(&file);
        let room = file.strip_prefix("mixflow/src/").unwrap().split(['/', '.']).next().unwrap();
        let Some(from) = place(room) else { continue };
        // Tests may use everything.
        if file.contains("/tests") {
            continue;
        }
        for line in
            text.split("\nmod tests {").next().unwrap().lines().filter(|line| !line.trim_start().starts_with("//"))
        {
            for path in line.split("crate::").skip(1) {
                let inner = path.strip_prefix('{').map_or_else(|| vec![path], |list| list.split(", ").collect());
                for name in inner {
                    let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    let to = place(&home(name));
                    arrows += usize::from(to.is_some_and(|to| to != from));
                    assert!(to.is_none_or(|to| to <= from), "{file} looks up to {name}: {line}");
                }
            }
        }
    }
    assert!(arrows > 100, "{arrows}");
}

/// The device is chosen by the caller; Burn's default depends on the features of a build and on the environment.
#[test]
fn nobody_below_the_command_line_takes_the_default_device() {
    let mut files = 0;
    for folder in ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub", "xtask"] {
        for file in sources(&format!("{folder}/src")) {
            // Tests take what is there.
            if file.contains("/tests") {
                continue;
            }
            files += 1;
            let text = read(&file);
            let code = text.split("\nmod tests {").next().unwrap();
            for (line, code) in (1..).zip(code.lines()).filter(|(_, code)| !code.trim_start().starts_with("//")) {
                let named = code.contains("Device::default") || code.contains("&Default::default()");
                let found = named || code.contains("Default::default()") && code.contains("device");
                assert!(!found, "{file}:{line} takes the default device, not that of its caller: {code}");
            }
        }
    }
    assert!(files > 250, "{files}");
}
