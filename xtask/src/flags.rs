//! Messages and help name flags that the command at hand has.

use std::collections::BTreeSet;

use clap::CommandFactory;

use crate::Arguments;

/// Source files with the commands that say what stands in them.
const SOURCES: [(&str, &str, &[&str]); 24] = [
    ("compare", include_str!("compare.rs"), &["compare"]),
    ("convert", include_str!("convert.rs"), &["convert"]),
    ("decoder", include_str!("decoder.rs"), &["train"]),
    ("destination", include_str!("destination.rs"), &["train", "compare"]),
    ("encode", include_str!("encode.rs"), &["encode"]),
    ("eval", include_str!("eval.rs"), &["eval"]),
    ("inception", include_str!("inception.rs"), &["eval"]),
    ("launch", include_str!("launch.rs"), &["train", "compare"]),
    ("plan", include_str!("plan.rs"), &["plan"]),
    ("publish", include_str!("publish.rs"), &["publish"]),
    ("arguments", include_str!("arguments.rs"), &["train", "compare", "plan"]),
    ("sample", include_str!("sample.rs"), &["sample"]),
    ("slow_flow", include_str!("slow_flow.rs"), &["slow-flow"]),
    ("tracking", include_str!("tracking.rs"), &["train", "compare"]),
    ("train", include_str!("train.rs"), &["train", "compare"]),
    ("trained", include_str!("trained.rs"), &["sample", "eval", "slow-flow"]),
    ("compare/parts", include_str!("../../mixflow/src/compare/parts.rs"), &["train", "compare"]),
    ("launch/mod", include_str!("../../mixflow/src/launch/mod.rs"), &["train", "compare"]),
    ("launch/frozen", include_str!("../../mixflow/src/launch/frozen.rs"), &["train", "compare"]),
    ("train/run_folder", include_str!("../../mixflow/src/train/run_folder.rs"), &["train", "compare"]),
    ("train/run", include_str!("../../mixflow/src/train/run.rs"), &["train", "compare"]),
    ("train/start", include_str!("../../mixflow/src/train/start.rs"), &["train", "compare"]),
    ("error/run", include_str!("../../mixflow/src/error/run.rs"), &["train", "compare"]),
    ("error", include_str!("../../mixflow/src/error/mod.rs"), &[]),
];

#[test]
fn flags_in_messages_are_those_of_the_command() {
    let program = Arguments::command();
    let known: Vec<(&str, BTreeSet<&str>)> = program
        .get_subcommands()
        .map(|command| (command.get_name(), command.get_arguments().filter_map(|flag| flag.get_long()).collect()))
        .collect();
    let mut found = 0;
    for (file, text, commands) in SOURCES {
        for flag in text.split("--").skip(1) {
            let end = flag.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(flag.len());
            let flag = flag[..end].trim_end_matches('-');
            // A rule of dashes, and flags of other programs and of every command.
            if flag.is_empty() || ["features", "help"].contains(&flag) {
                continue;
            }
            found += 1;
            assert!(!commands.is_empty(), "{file} speaks for every command, and names --{flag}");
            for (command, flags) in known.iter().filter(|(name, _)| commands.contains(name)) {
                assert!(flags.contains(flag), "{file} names --{flag}, which `{command}` does not have");
            }
        }
    }
    assert!(found > 40, "{found}");
}
