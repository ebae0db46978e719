//! `cargo xtask figure`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::compare::{bias, criterion};
use mixflow::files::write_atomic;
use mixflow::report::Report;
use serde_json::Value;

use crate::terminal::{Result, note, print};

#[derive(Args)]
pub(crate) struct Figure {
    /// The folders of finished comparisons: of the first are the panels, of all the points of the panel of dimensions
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where the pictures and their numbers go [default: figure, in the first folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Figure {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let reports = self.runs.iter().map(|run| read(run)).collect::<Result<Vec<_>>>()?;
        let out = self.out.unwrap_or_else(|| self.runs[0].join("figure"));
        fs::create_dir_all(&out).map_err(|error| format!("create {}: {error}", out.display()))?;
        note(format_args!("the exact optimum on Gaussians of 16 to 32768 dimensions, some seconds"));
        for panel in reports[0].panels(&bias(&reports)) {
            for (end, text) in [("svg", &panel.svg), ("csv", &panel.csv)] {
                write_atomic(&out.join(format!("{}.{end}", panel.name)), text.as_bytes())?;
            }
            print(format_args!("{}", out.join(format!("{}.svg", panel.name)).display()))?;
        }
        for (run, report) in self.runs.iter().zip(&reports) {
            if let Some(criterion) = criterion(report) {
                print(format_args!("{}: {criterion}", run.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(run: &Path) -> Result<Report> {
    let file = run.join("results.json");
    let fault = |error: &dyn std::fmt::Display| {
        format!("{}: {error}: expected the folder of a finished comparison", file.display())
    };
    let text = fs::read_to_string(&file).map_err(|error| fault(&error))?;
    let mut results: Value = serde_json::from_str(&text).map_err(|error| fault(&error))?;
    let report = results.get_mut("report").map(Value::take).unwrap_or_default();
    serde_json::from_value(report).map_err(|error| fault(&error).into())
}
