//! `cargo xtask export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mixflow::Device;
use mixflow::backbones::Precision;
use mixflow_t2i::to_diffusers;

use crate::adapter::{self, AdapterArgument};
use crate::terminal::{Result, print};
use crate::text;
use crate::trained::TrainedArguments;

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    trained: TrainedArguments,
    /// Add a low-rank adapter to the transformer's weights; may be given more than once
    #[arg(long = "adapter", value_name = "FILE[=STRENGTH]")]
    adapters: Vec<AdapterArgument>,
    /// A new folder, which `from_pretrained` of `StableDiffusion3Pipeline`, `FluxPipeline` or `ZImagePipeline` opens
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Export {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.out.exists() {
            return Err(format!("{} is there: expected a new folder", self.out.display()).into());
        }
        let mut stored = text::stored(&self.trained)?;
        // Whole weights are written, whatever images are drawn in.
        stored.recipe.sampling.precision = Precision::F32;
        let mut pipeline = stored.load(&Device::flex())?;
        adapter::add(&mut pipeline, &self.adapters)?;
        to_diffusers(&pipeline, &self.out)?;
        print(format_args!("{} for diffusers in {}", self.trained.path.display(), self.out.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
