//! The command line of mixflow: `cargo xtask train`.

#![allow(clippy::print_stdout, reason = "a command line prints")]

mod bench;
mod check;
mod progress;
mod run;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Train, sample and measure flow-matching image models, with MixFlow Training (arXiv 2512.19311).
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe; without arguments, the whole comparison on handwritten digits, in a few minutes on a CPU.
    Train(train::Train),
    /// Measure speed and memory of training and sampling
    Bench(bench::Bench),
    /// Check the project: formatting, lints, tests, docs, licences, spelling
    Check,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(train) => train.run(),
        Command::Bench(bench) => bench.run(),
        Command::Check => check::run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", sentence(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The error and, where they say more, its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
