//! `cargo xtask eval`.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use mixflow::device::describe;
use mixflow::evaluation::inception::InceptionEvaluation;
use mixflow::evaluation::{
    ImageSet, Measured, Measures, evaluate, evaluate_features, evaluated_labels, evaluation_pairs,
};
use mixflow::files::{PartValues, WeightsFile, check_writable, write_atomic};
use mixflow::numbers::counted;
use mixflow::{Device, check_memory};
use serde_json::{Value, json};

use crate::arguments::{DevicesArgument, JsonArgument, ShardArgument};
use crate::clip::ClipArguments;
use crate::inception::{InceptionArguments, Measuring};
use crate::kind::{Kind, of_any};
use crate::pairs::say_how_long;
use crate::part;
use crate::progress::Progress;
use crate::record::is_record;
use crate::sample::Sampling;
use crate::terminal::{Result, note, print, print_json};
use crate::trained::{Trained, TrainedArguments};

#[derive(Args)]
#[command(
    mut_arg("path", |path| path.required(false).required_unless_present("images_from")),
    // A part has no numbers.
    mut_arg("shard", |shard| shard.requires("parts").conflicts_with_all(["out", "json"])),
    group(ArgGroup::new("measured").args(["images_from", "inception"]).multiple(true)),
    group(ArgGroup::new("judge").args(["against", "clip"]))
)]
pub(crate) struct Eval {
    #[command(flatten)]
    trained: Option<TrainedArguments>,
    #[command(flatten)]
    sampling: Sampling,
    /// Images to generate and measure, at least 8 [default: as many as the recipe's comparison, or 500]
    #[arg(long, value_name = "N", value_parser = images)]
    images: Option<usize>,
    /// Measure these images instead of a network's: a folder of PNG, JPEG or WebP files, or an .npz with the bytes
    /// [count, height, width, channels] in `arr_0`
    #[arg(
        long,
        value_name = "PATH",
        requires = "judge",
        conflicts_with_all = ["path", "recipe", "arm", "steps", "guidance", "guide", "set", "images", "labels", "shard", "parts"]
    )]
    images_from: Option<PathBuf>,
    /// The real images to measure against, all of them: a folder or an .npz, of the same size unless --inception resizes
    /// them; with it also statistics (`mu`, `sigma`) [default, of a network: the recipe's training data]
    #[arg(long, value_name = "PATH", requires = "measured")]
    against: Option<PathBuf>,
    #[command(flatten)]
    inception: InceptionArguments,
    #[command(flatten)]
    clip: ClipArguments,
    #[command(flatten)]
    shard: ShardArgument,
    /// The folder of the images' parts: to make one of them with --shard, without it to measure all of them
    #[arg(long, value_name = "FOLDER", requires = "path")]
    parts: Option<PathBuf>,
    /// Where the numbers go as JSON [default: eval.json, or inception.json, beside the weights, for those of the Hub in the
    /// current folder; eval-NAME.json for weights NAME.pt; nowhere for --images-from and for a --recipe in the place of the
    /// weights' own]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgument,
    #[command(flatten)]
    device: DevicesArgument,
}

/// A number of images that distances can be taken of.
fn images(text: &str) -> std::result::Result<usize, String> {
    let count = text.parse().ok().filter(|count| (8..=10_000_000).contains(count));
    count.ok_or_else(|| "expected 8 to 10,000,000 images: of fewer no distance tells anything".into())
}

impl Eval {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(out) = &self.out {
            if is_record(out) {
                let out = out.display();
                return Err(format!("--out {out}: what images were begun with is written there: choose another").into());
            }
            check_writable(out)?;
        }
        let devices = self.device.find()?;
        let device = &devices[0];
        if let Some(images) = &self.images_from
            && let Some((scores, by)) = self.clip.measure(images, device)?
        {
            let numbers = json!({
                "images": images, "clip": scores, "by": by, "device": describe(device), "version": env!("CARGO_PKG_VERSION")
            });
            return self.print(scores, &numbers, self.out.as_deref());
        }
        let inception = self.inception.read(device)?;
        match (&self.images_from, &self.against, &self.trained) {
            (Some(images), Some(real), _) => match inception {
                Some(inception) => {
                    self.print_inception(self.out.as_deref(), &inception.image_sets(images, real)?, device)
                }
                None => self.image_sets(images, real),
            },
            (_, _, Some(trained)) => {
                let trained = self.sampling.read(trained, None, &devices)?;
                of_any!(trained, trained => self.network(&trained, inception.as_ref(), device))
            }
            // The command line was checked.
            _ => Err("expected a network, or --images-from and --against".into()),
        }
    }

    fn network<N: Kind>(
        &self,
        trained: &Trained<N>,
        inception: Option<&Measuring>,
        device: &Device,
    ) -> Result<ExitCode> {
        let recipe = &trained.pipeline.recipe;
        let count = self.images.unwrap_or(recipe.post_training.as_ref().map_or(500, |post| post.images));

        if self.against.is_none() {
            trained.check_latents()?;
        }
        if let Some(inception) = inception {
            if let (Some(shard), Some(folder)) = (self.shard.shard, &self.parts) {
                let labels = inception.labels(trained, count, self.against.as_deref())?;
                return part::draw(trained, &labels, shard, folder, PartValues::Bytes);
            }
            let file = self.file(trained, "inception")?;
            let found = inception.network(trained, count, self.against.as_deref(), self.parts.as_deref())?;
            return self.print_inception(file.as_deref(), &found, device);
        }

        let shape = trained.image_shape()?.map(|side| side as u64);
        let what = || format!("measuring {} (--images)", counted(count as u64, "image"));
        // Numbers of 32 bits, and of 64.
        check_memory(what, &[&shape[..], &[count as u64, 4 + 8]].concat())?;
        let (divided, generator, measures) = (trained.divided()?, trained.pipeline.generator(), Measures::default());
        let labels = || evaluated_labels(&divided, count, generator.seed);
        let parts = match (&self.parts, self.shard.shard) {
            (Some(folder), Some(shard)) => return part::draw(trained, &labels()?, shard, folder, PartValues::F32),
            (Some(folder), None) => Some(part::made(trained, &labels()?, folder, PartValues::F32)?),
            (None, _) => None,
        };
        let file = self.file(trained, "eval")?;
        let mut progress = Progress::new();
        let mut evaluation =
            evaluate(&divided, &generator, count, &measures, parts.as_ref(), &mut |event| progress.measuring(event))?;
        progress.end();
        // What weights of another recipe have seen nobody here knows, and of those that a run was given no more than its own part.
        let of_run = evaluation.trained_on_floor.filter(|seen| *seen || !trained.began_elsewhere());
        let other = self.trained.as_ref().is_some_and(|trained| trained.recipe.is_some());
        evaluation.trained_on_floor = of_run.filter(|_| !other);
        evaluation.remarks.iter().for_each(note);

        let mut text = format!(
            "{} ({}, {} network evaluations for each image, seed {}, {}; distances of pixels)\n{}",
            trained.weights.display(),
            evaluation.sampling.describe(),
            evaluation.evaluations,
            evaluation.seed,
            evaluation.labels.describe(),
            evaluation.measurement,
        );
        for Measured { name, generated, floor, .. } in &evaluation.more {
            let _ = write!(text, "\n{name}: {generated:.3}, of real images {floor:.3}");
        }
        for (applies, remark) in [
            (evaluation.decoded, "the real images are decoded latents: what the autoencoder loses is not measured"),
            (
                trained.began_elsewhere(),
                "the run began with weights that it was given: what these have seen of the floor is not known",
            ),
            (
                evaluation.trained_on_floor == Some(true),
                "the network was trained on the images of the floor too: it had no held-out data",
            ),
        ] {
            if applies {
                text += "\n";
                text += remark;
            }
        }
        let mut numbers = json!({
            "evaluation": evaluation,
            "weights": WeightsFile::read(&trained.weights)?,
            "autoencoder": trained.autoencoder_weights()?,
            "device": describe(device),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(recipe) = &trained.other_recipe {
            numbers["recipe"] = recipe.clone().into();
        }
        self.print(text, &numbers, file.as_deref())
    }

    fn image_sets(&self, images: &Path, real: &Path) -> Result<ExitCode> {
        let mut progress = Progress::new();
        progress.begin("reading images", None);
        let sets = ImageSet::read_both([images, real])?;
        progress.end();
        sets.iter().flat_map(ImageSet::remarks).for_each(note);
        let [generated, real_features] = [sets[0].features()?, sets[1].features()?];
        let pairs = evaluation_pairs(generated.rows(), real_features.rows());
        progress.begin("measuring", None);
        say_how_long(&progress, pairs, [&generated, &real_features])?;
        let seed = 0;
        let measurement = evaluate_features(&generated, &real_features, seed)?;
        progress.end();

        let text = format!(
            "{} against {} (distances of pixels; what is in the floor was chosen with seed {seed})\n{measurement}",
            images.display(),
            real.display(),
        );
        let numbers = json!({
            "images": images,
            "against": real,
            "seed": seed,
            "measurement": measurement,
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.print(text, &numbers, self.out.as_deref())
    }

    fn print_inception(&self, file: Option<&Path>, found: &InceptionEvaluation, device: &Device) -> Result<ExitCode> {
        let numbers = json!({ "inception": found, "device": describe(device), "version": env!("CARGO_PKG_VERSION") });
        self.print(found.to_string().trim_end(), &numbers, file)
    }

    /// Where the numbers go, which can be written there: what they are found by takes hours.
    fn file<N: Kind>(&self, trained: &Trained<N>, name: &str) -> Result<Option<PathBuf>> {
        if self.out.is_some() {
            return Ok(self.out.clone());
        }
        let file = trained.result(name);
        if let Some(file) = &file {
            check_writable(file).map_err(|error| format!("{error}: say where the numbers go with --out"))?;
        }
        Ok(file)
    }

    /// Prints what was found and writes it into a file, if there is one.
    fn print(&self, text: impl Display, numbers: &Value, file: Option<&Path>) -> Result<ExitCode> {
        if self.json.json {
            print_json(numbers)?;
        } else {
            print(text)?;
        }
        if let Some(file) = file {
            write_atomic(file, &serde_json::to_vec_pretty(numbers)?)?;
            if !self.json.json {
                print(format_args!("written: {}", file.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
