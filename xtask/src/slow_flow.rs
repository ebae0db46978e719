//! `cargo xtask slow-flow`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use mixflow::compare::{Lag, lag, lag_labels, slow_flow};
use mixflow::data::{Dataset, learned};
use mixflow::evaluation::slow_flow::equivalent_time;
use mixflow::files::write_atomic;
use mixflow::report::{Arm, slow_flow_page};
use mixflow::{Device, check_memory};

use crate::arguments::DevicesArgument;
use crate::kind::{Kind, of_any};
use crate::progress::Progress;
use crate::sample::Sampling;
use crate::terminal::{Result, note, print};
use crate::trained::{Trained, TrainedArguments};

#[derive(Args)]
pub(crate) struct SlowFlow {
    #[command(flatten)]
    trained: TrainedArguments,
    #[command(flatten)]
    sampling: Sampling,
    /// Trajectories to follow
    #[arg(long, value_name = "N", default_value = "250", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
    images: usize,
    /// The figure too, as a page that needs nothing else (.html)
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,
    #[command(flatten)]
    device: DevicesArgument,
}

impl SlowFlow {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(figure) = self.figure.as_ref().filter(|figure| figure.extension().is_none_or(|end| end != "html")) {
            return Err(format!("--figure {}: expected a file name that ends in .html", figure.display()).into());
        }
        let devices = self.device.find()?;
        of_any!(self.sampling.read(&self.trained, None, &devices)?, trained => self.follow(&trained, &devices[0]))
    }

    fn follow<N: Kind>(&self, trained: &Trained<N>, device: &Device) -> Result<ExitCode> {
        let latent = trained.pipeline.recipe.network.shape().map(|side| side as u64);
        let what = || format!("{} trajectories (--images)", self.images);
        // Noise, real images of both kinds, and states.
        check_memory(what, &[&latent[..], &[self.images as u64, 4 * 4]].concat())?;
        trained.check_latents()?;
        let (train, held_out) = trained.parts(self.images)?;
        let labels = lag_labels(self.images, &train, &held_out)?;
        let classes = train.classes();
        let left = (0..classes.len()).filter(|class| !labels.contains(class)).count();
        if left > 0 {
            let count = classes.len();
            note(format_args!("{left} of the {count} classes are left out: fewer --images, or none held out of them"));
        }
        let mut progress = Progress::new();
        progress.begin("Slow Flow", Some(self.images as u64));
        // Stored latents are what is learned already.
        let autoencoder = trained.pipeline.recipe.encoding().and(trained.pipeline.autoencoder.as_deref());
        let learned = |images| learned(Arc::new(images), autoencoder, device, &mut |_| Ok(()));
        let lag = lag(&trained.pipeline.generator(), &labels, &*learned(train)?, &*learned(held_out)?, &mut |done| {
            progress.counted(done, "image")
        })?;
        progress.end();
        let sampler = trained.pipeline.recipe.sampling.describe();
        print(format_args!(
            "{}: nearest true time m of {} trajectories ({sampler}, {} network evaluations for each image, seed {})",
            trained.weights.display(),
            lag.trajectories,
            lag.evaluations,
            trained.pipeline.recipe.seed,
        ))?;
        print(table(&lag))?;
        if let Some(figure) = &self.figure {
            let measured = format!(
                "{}: the recipe {}, seed {}.",
                trained.weights.display(),
                trained.pipeline.recipe.name,
                trained.pipeline.recipe.seed
            );
            write_atomic(
                figure,
                slow_flow_page(
                    &measured,
                    &slow_flow(&[(Arm::Other(trained.pipeline.recipe.name.as_str().into()), lag)], &sampler),
                )
                .as_bytes(),
            )?;
            print(format_args!("figure: {}", figure.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(lag: &Lag) -> String {
    let mut text = String::from("     t      5 %   median     95 %   calibrated\n");
    for band in &lag.generated {
        let [low, median, high] = band.quantiles;
        let calibrated = equivalent_time(median, &lag.real);
        // Writing into memory does not fail.
        let _ = writeln!(text, "{:6.3} {low:8.3} {median:8.3} {high:8.3} {calibrated:12.3}", band.t);
    }
    text + "times from 0 (noise) to 1 (image); calibrated: the median read on a scale on which states without error have m = t on average"
}
