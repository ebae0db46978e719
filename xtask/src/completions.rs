//! `cargo xtask completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Arguments;
use crate::terminal::{Result, print};

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell that reads them
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Arguments::command(), "mixflow", &mut script);
        print(String::from_utf8(script)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
