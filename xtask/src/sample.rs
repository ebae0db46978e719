//! `cargo xtask sample`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use mixflow::evaluation::Visited;
use mixflow::files::PartValues;
use mixflow::numbers::counted;
use mixflow::recipe::GuideConfig;
use mixflow::sampling::{Export, SolverConfig};
use mixflow::{Device, check_memory};

use crate::adapter::{self, AdapterArgument};
use crate::arguments::{Change, DevicesArgument, ShardArgument};
use crate::hub::{is_address, published};
use crate::kind::{Kind, of_any};
use crate::labels;
use crate::part;
use crate::progress::Progress;
use crate::terminal::{Result, note, print};
use crate::text::{self, Prompts, Request};
use crate::trained::{AnyTrained, Trained, TrainedArguments};

/// Images of so many bytes are told before they are made.
const MANY: u64 = 1_000_000_000;

#[derive(Args)]
#[command(
    mut_arg("count", |count| count.conflicts_with("layout")),
    mut_arg("labels", |labels| labels.conflicts_with("asked")),
    mut_arg("guide", |guide| guide.conflicts_with("asked")),
    mut_arg("shard", |shard| shard.conflicts_with("asked"))
)]
pub(crate) struct Sample {
    #[command(flatten)]
    trained: TrainedArguments,
    #[command(flatten)]
    sampling: Sampling,
    /// How many images [default: one for each of --labels, or 40]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
    count: Option<usize>,
    /// Classes to draw, taken in turn, by number or name, such as 1,2,cat [default: all]
    #[arg(long, value_name = "CLASSES")]
    labels: Vec<String>,
    #[command(flatten)]
    device: DevicesArgument,
    #[command(flatten)]
    prompts: Prompts,
    #[arg(
        long = "adapter",
        value_name = "FILE[=STRENGTH]",
        help = "Add a low-rank adapter to the network's weights, of a run, diffusers, peft or kohya's scripts: a file or a folder; at \
                half its strength as FILE=0.5; or hf://org/name[@revision][/file]; may be given more than once"
    )]
    adapters: Vec<AdapterArgument>,
    /// Seed of the noise [default: the recipe's]
    #[arg(long, allow_negative_numbers = true)]
    seed: Option<u64>,
    #[command(flatten)]
    shard: ShardArgument,
    /// One picture (.png), an array of bytes named `arr_0` (.npz), or a folder of single pictures; with --shard the folder of
    /// the parts, each an .npz
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Replace the picture or the array if it is there
    #[arg(long)]
    force: bool,
}

/// A number that counts.
fn finite(text: &str) -> std::result::Result<f64, &'static str> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or("expected a finite number")
}

/// How to sample, where it is not as the recipe says.
#[derive(Args)]
pub(crate) struct Sampling {
    /// Steps of the solver, one to a last point of the grid included [default: the recipe's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Scale of guidance; 1 is none. With prompts, what FLUX.1-dev is told [default: the recipe's]
    #[arg(long, value_name = "SCALE", value_parser = finite, allow_negative_numbers = true)]
    guidance: Option<f64>,
    #[arg(
        long,
        value_name = "RUN",
        help = "Guide by this weaker network, of a run's folder, a checkpoint or hf://org/name[@revision], instead of the network itself without a label"
    )]
    guide: Option<PathBuf>,
    /// Change any value of the recipe, such as sampling.solver.kind=euler; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Sampling {
    /// The network of `trained` on the first of the devices, to be drawn with on all of them, with the recipe that this makes
    /// of its own, `seed` included.
    pub(crate) fn read(&self, trained: &TrainedArguments, seed: Option<u64>, devices: &[Device]) -> Result<AnyTrained> {
        let set = self.set()?;
        let (device, beside) = devices.split_first().ok_or("expected a device")?;
        let mut trained = trained.read(&set, device)?;
        of_any!(&mut trained, trained => trained.pipeline.beside = beside.to_vec());
        let (own_seed, sampling) = of_any!(&mut trained, trained => (&mut trained.pipeline.recipe.seed, &mut trained.pipeline.recipe.sampling));
        *own_seed = seed.unwrap_or(*own_seed);
        if let Some(steps) = self.steps {
            *sampling = sampling.with_steps(steps).map_err(|error| format!("--steps {steps}: {error}"))?;
        }
        if let SolverConfig::Own(own) = &sampling.sampler.solver {
            own.solver()?;
        }
        Ok(trained)
    }

    /// As changes to a recipe, but for the steps, whose number includes a last point that the recipe may have.
    fn set(&self) -> Result<Vec<Change>> {
        let scale =
            self.guidance.map(|scale| (format!("--guidance {scale}"), format!("sampling.guidance.scale={scale}")));
        let guide = match &self.guide {
            Some(given) => {
                let run = if is_address(given) { &published(given)? } else { given };
                let config = GuideConfig::of_run(run).map_err(|error| format!("--guide {error}"))?;
                let config = serde_json::to_string(&config)?;
                Some((format!("--guide {}", given.display()), format!("sampling.guide={config}")))
            }
            None => None,
        };
        let set = self.set.iter().map(|change| (format!("--set {change}"), change.clone()));
        Ok(scale.into_iter().chain(guide).chain(set).collect())
    }
}

impl Sample {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let devices = self.device.find()?;
        // A folder of parts or of an evaluator's files goes on.
        if self.shard.shard.is_none() && self.prompts.layout.is_none() {
            // Before anything is read; how many channels images have is known later.
            Export::new(&self.out, 3)?;
            if self.out.is_file() && !self.force {
                return Err(format!("{} is there; --force replaces it", self.out.display()).into());
            }
        }
        if !self.prompts.are_given() {
            let mut trained = self.sampling.read(&self.trained, self.seed, &devices)?;
            return of_any!(&mut trained, trained => {
                adapter::add(&mut trained.pipeline, &self.adapters)?;
                self.draw(trained)
            });
        }
        let (device, beside) = devices.split_first().ok_or("expected a device")?;
        self.text(device, beside)
    }

    /// Images of labels.
    fn draw<N: Kind>(&self, trained: &Trained<N>) -> Result<ExitCode> {
        let generator = trained.pipeline.generator();
        let choice = match self.labels.is_empty() {
            true => (0..trained.pipeline.recipe.network.classes()).collect(),
            false => labels::numbers(&self.labels, trained)?,
        };
        let count = self.count.unwrap_or(if self.labels.is_empty() { 40 } else { choice.len() });
        let shape = trained.image_shape()?;
        let labels: Vec<usize> = (0..count).map(|image| choice[image % choice.len()]).collect();
        if let Some(shard) = self.shard.shard {
            if shape[0] != 1 && shape[0] != 3 {
                return Err(format!("--shard: expected images of 1 or 3 channels, found {}", shape[0]).into());
            }
            return part::draw(trained, &labels, shard, &self.out, PartValues::Bytes);
        }
        let columns = choice.len().clamp(4, 12);
        let export = Export::new(&self.out, shape[0])?;
        let bytes = export.check(count, columns, shape)?;
        if bytes > MANY {
            note(format_args!("{} hold {:.1} GB", counted(count as u64, "image"), bytes as f64 / 1e9));
        }

        let mut progress = Progress::new();
        progress.begin("sampling", Some(count as u64));
        let started = Instant::now();
        let batch = generator.sampling.batch.min(count);
        let what = || format!("images at a time (sampling.batch={batch})");
        check_memory(what, &[&shape.map(|side| side as u64)[..], &[batch as u64, 4]].concat())?;
        let visit = &mut |state: Visited<'_>| progress.counted(state.done, "image");
        let mut evaluations = 0;
        generator.batches(&labels, 0, visit, |batches| {
            let counted = batches.inspect(|images| {
                evaluations = images.as_ref().map_or(evaluations, |images| images.evaluations.max(evaluations));
            });
            export.write(count, columns, counted)
        })?;
        let seconds = started.elapsed().as_secs_f64();
        progress.end();
        print(format_args!(
            "{} of {} in {}\n{} for each, seed {}, {:.1} images/s",
            counted(count as u64, "image"),
            trained.weights.display(),
            self.out.display(),
            counted(evaluations as u64, "network evaluation"),
            generator.seed,
            count as f64 / seconds,
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Images of prompts.
    fn text(&self, device: &Device, beside: &[Device]) -> Result<ExitCode> {
        let Sampling { steps, guidance, set, .. } = &self.sampling;
        text::sample(&Request {
            trained: &self.trained,
            prompts: &self.prompts,
            count: self.count,
            steps: *steps,
            guidance: *guidance,
            seed: self.seed,
            adapters: &self.adapters,
            set,
            out: &self.out,
            device,
            beside,
        })
    }
}
