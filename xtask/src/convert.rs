//! `cargo xtask convert`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use mixflow::backbones::autoencoder::Naming;
use mixflow::backbones::weights::{Part, Weights};
use mixflow::numbers::thousands;

use crate::terminal::{Result, print};

#[derive(Args)]
pub(crate) struct Convert {
    /// Weights: .pt, .pth, .bin, .safetensors, or the .safetensors.index.json of shards
    from: PathBuf,
    /// The new file: .safetensors, or .pt as `torch.save` writes it
    to: PathBuf,
    /// Which network of a training checkpoint [default: the averaged one, else the trained one, else all tensors]
    #[arg(long, value_enum)]
    part: Option<Which>,
    /// Only the tensors whose names start with this, such as model., under what follows it
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Rename the tensors of an autoencoder: as in diffusers, or as in latent-diffusion
    #[arg(long, value_enum)]
    names: Option<Names>,
    /// Replace the new file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Ema,
    Model,
    Bare,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    Diffusers,
    Original,
}

impl Convert {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { from, to, part, prefix, names, force } = self;
        let format = Format::of(&to)?;
        if to.exists() && !force {
            return Err(format!("{} is there; --force replaces it", to.display()).into());
        }
        let mut weights = match part {
            None => Weights::read(&from)?,
            Some(Which::Ema) => Weights::read_part(&from, Part::Ema)?,
            Some(Which::Model) => Weights::read_part(&from, Part::Model)?,
            Some(Which::Bare) => Weights::read_part(&from, Part::Bare)?,
        };
        if let Some(prefix) = prefix {
            if !weights.iter().any(|(name, _)| name.starts_with(&prefix)) {
                let first = weights.iter().next().map_or("none", |(name, _)| name);
                return Err(format!(
                    "{} has no tensor whose name starts with {prefix:?}; its first is {first}",
                    from.display()
                )
                .into());
            }
            weights = weights.below(&prefix);
        }
        if let Some(names) = names {
            let naming = match names {
                Names::Diffusers => Naming::Diffusers,
                Names::Original => Naming::Original,
            };
            weights = naming.apply(weights)?.ok_or_else(|| {
                format!("{} holds no autoencoder of Stable Diffusion's kind; leave out --names", from.display())
            })?;
        }
        let source = weights.source().to_string();
        match format {
            Format::Safetensors => weights.write(&to, &[("format", "pt")])?,
            Format::PyTorch => weights.write_pytorch(&to)?,
        }
        let (count, bytes) =
            weights.iter().fold((0, 0), |(count, bytes), (_, tensor)| (count + 1, bytes + tensor.byte_len()));
        print(format_args!("{count} tensors, {} bytes, of {source}, to {}", thousands(bytes as u64), to.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

enum Format {
    Safetensors,
    PyTorch,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth") => Ok(Self::PyTorch),
            _ => Err(format!("{} ends neither in .safetensors nor in .pt", path.display()).into()),
        }
    }
}
