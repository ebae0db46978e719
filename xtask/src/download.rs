//! `cargo xtask download`.

use std::process::ExitCode;

use clap::Args;
use mixflow::numbers::counted;
use mixflow_hub::{Client, RepositorySnapshot};
use serde_json::json;

use crate::arguments::JsonArgument;
use crate::progress::Progress;
use crate::terminal::{Result, print, print_json};

#[derive(Args)]
pub(crate) struct Download {
    /// A repository of the Hub: org/name, or datasets/org/name
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Names or patterns such as '*.safetensors' [default: all files]
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// A branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    #[command(flatten)]
    json: JsonArgument,
}

impl Download {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let client = Client::from_env()?;
        let patterns: Vec<&str> = self.files.iter().map(String::as_str).collect();
        let mut shown = Progress::new();
        let snapshot = client.snapshot(&self.repository.parse()?, &self.revision.parse()?, &patterns, |event| {
            shown.transfer(&event);
        })?;
        shown.end();
        if self.json.json {
            let RepositorySnapshot { commit, folder, files } = snapshot;
            print_json(&json!({ "commit": commit.to_string(), "folder": folder, "files": files }))?;
            return Ok(ExitCode::SUCCESS);
        }
        print(format_args!(
            "{} of {} at {}:\n{}",
            counted(snapshot.files.len() as u64, "file"),
            self.repository,
            snapshot.commit,
            snapshot.folder.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
