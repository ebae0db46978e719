//! The command line of mixflow: `cargo xtask`.

mod adapter;
mod allocator;
mod arguments;
mod bench;
mod bench_case;
mod bench_suite;
mod check;
mod clip;
mod compare;
mod completions;
mod convert;
mod decoder;
mod destination;
mod download;
mod encode;
mod eval;
mod export;
mod figure;
#[cfg(test)]
mod flags;
mod hub;
mod inception;
mod kind;
mod labels;
mod launch;
mod pairs;
mod part;
mod plan;
mod progress;
mod publish;
mod read_latents;
mod recipes;
mod record;
mod remote;
mod runs;
mod sample;
mod selftest;
mod signals;
mod slow_flow;
mod terminal;
mod text;
mod tracking;
mod train;
mod trained;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mixflow::files::discard_unfinished;

use crate::terminal::{Result, note, program, sentence};

/// Train, sample and measure flow-matching image models, with MixFlow Training (arXiv 2512.19311).
#[derive(Parser)]
#[command(name = program(), bin_name = program(), version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What a script can tell by.
const EXIT_CODES: &str = "Exit codes: 0 if all was done; 1 for an error, told on standard error as `error: ...`; 2 for a wrong \
                          command line, as far as flags alone tell; 130 if it was stopped by Ctrl-C or SIGTERM, with what \
                          can be continued saved; 101 for a fault of the program itself.";

#[derive(Subcommand)]
enum Command {
    /// Train a recipe; without arguments, the whole comparison on emoji, in a few minutes on a CPU.
    Train(train::Train),
    /// Measure speed and memory of training and sampling
    Bench(bench::Bench),
    /// Tell a recipe's parameters, work, memory and time before running it
    Plan(plan::Plan),
    /// List the recipes that come along, with what each takes
    Recipes(recipes::Recipes),
    /// List the runs in a folder: how they stand, and their best numbers
    Runs(runs::Runs),
    /// Compare a device with the CPU on small networks of every kind, and print a table
    Selftest(selftest::Selftest),
    /// Let other machines compute on the devices of this one, if they know its secret
    Serve(remote::Serve),
    /// Check the project: formatting, lints, tests, docs, licences, spelling
    Check,
    /// Make images with a trained network.
    Sample(sample::Sample),
    /// Measure a trained network's images against its data.
    Eval(eval::Eval),
    /// Post-train given weights with and without MixFlow, and compare.
    Compare(compare::Compare),
    /// Turn images into latents once, before training
    Encode(encode::Encode),
    /// Rewrite weights in another format, or under other names
    Convert(convert::Convert),
    /// Write a network for text as a folder that diffusers opens
    Export(export::Export),
    /// Fetch weights from the Hugging Face Hub into its cache
    Download(download::Download),
    /// Put a trained network on the Hugging Face Hub, with its recipe, results and a card
    Publish(publish::Publish),
    /// Draw the figure of finished comparisons, four panels as SVG with their numbers beside them
    Figure(figure::Figure),
    /// Measure how far a network's states lag behind their time.
    SlowFlow(slow_flow::SlowFlow),
    /// Print completions for a shell, of the installed program `mixflow`
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    allocator::keep_buffers();
    let command = || {
        let Arguments { command } = Arguments::parse();
        signals::end_on_signals()?;
        run(command)
    };
    match remote::watched(command) {
        Ok(code) => code,
        Err(error) => {
            // What a thread was writing that is still at work, of a command that was given up.
            discard_unfinished();
            note(format_args!("error: {}", sentence(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(train) => train.run(),
        Command::Bench(bench) => bench.run(),
        Command::Plan(plan) => plan.run(),
        Command::Selftest(selftest) => selftest.run(),
        Command::Serve(serve) => serve.run(),
        Command::Check => check::run(),
        Command::Sample(sample) => sample.run(),
        Command::Eval(eval) => eval.run(),
        Command::Compare(compare) => compare.run(),
        Command::Encode(encode) => encode.run(),
        Command::Convert(convert) => convert.run(),
        Command::Export(export) => export.run(),
        Command::Download(download) => download.run(),
        Command::Publish(publish) => publish.run(),
        Command::Figure(figure) => figure.run(),
        Command::SlowFlow(slow_flow) => slow_flow.run(),
        Command::Recipes(recipes) => recipes.run(),
        Command::Runs(runs) => runs.run(),
        Command::Completions(completions) => completions.run(),
    }
}
