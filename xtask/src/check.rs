//! `cargo xtask check`: what must hold before a commit.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::terminal::{Result, print};

/// Name, command, and whether it may be absent from a machine.
const CHECKS: [(&str, &[&str], bool); 6] = [
    ("formatting", &["cargo", "fmt", "--all", "--check"], false),
    ("lints", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], false),
    ("tests", &["cargo", "test", "--workspace"], false),
    ("docs", &["cargo", "doc", "--workspace", "--no-deps"], false),
    ("licences", &["cargo-deny", "--config", ".deny.toml", "check", "licenses", "bans", "sources"], true),
    ("spelling", &["typos", "--config", ".typos.toml"], true),
];

pub(crate) fn run() -> Result<ExitCode> {
    if !Path::new("xtask/Cargo.toml").is_file() {
        return Err("checks mixflow itself: run it in the folder of its sources".into());
    }
    let mut failed = Vec::new();
    for (name, command, optional) in CHECKS {
        print(format_args!("== {name}: {}", command.join(" ")))?;
        match Command::new(command[0]).args(&command[1..]).env("RUSTDOCFLAGS", "-D warnings").status() {
            Ok(status) if status.success() => {}
            Ok(_) => failed.push(name),
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
                print(format_args!("skipped: {} is not installed (cargo install {0})", command[0]))?;
            }
            Err(error) => return Err(format!("cannot start {}: {error}", command[0]).into()),
        }
    }
    if failed.is_empty() {
        print("all checks passed")?;
        Ok(ExitCode::SUCCESS)
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}
