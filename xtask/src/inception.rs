//! The numbers of papers, for `cargo xtask eval --inception`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mixflow::Device;
use mixflow::check_memory;
use mixflow::data::{Dataset, Labels, own_len};
use mixflow::evaluation::inception::{
    EvaluationOptions, Inception, InceptionEvaluation, InceptionNetwork, InceptionSet, Resize, Setting, evaluate,
    evaluation_pairs,
};
use mixflow::evaluation::{class_counts, decoder};
use mixflow::files::{PartValues, WeightsFile};
use mixflow::numbers::counted;
use mixflow::recipe::SamplingConfig;

use crate::kind::Kind;
use crate::pairs::say_how_long;
use crate::part;
use crate::progress::Progress;
use crate::terminal::{Result, note};
use crate::trained::Trained;

/// Which network measures, and what it measures.
#[derive(Args)]
pub(crate) struct InceptionArguments {
    /// Measure FID, sFID, Inception Score, precision, recall and KID with this network: the published
    /// pt_inception-2015-12-05-6726825d.pth, or a file of the same layout
    #[arg(long, value_name = "WEIGHTS")]
    inception: Option<PathBuf>,
    /// How images become its input; numbers of the two cannot be compared
    #[arg(long, default_value = "adm", requires = "inception", value_parser = resize())]
    resize: Resize,
    /// Classes of the images that --inception measures: as often as among the real images, every one equally often, or drawn at random
    /// [default: reference; balanced with --against, whose images have no classes]
    #[arg(long, requires = "inception", value_parser = labels())]
    labels: Option<Labels>,
}

fn resize() -> impl TypedValueParser<Value = Resize> {
    let of = |name: String| if name == "adm" { Resize::Adm } else { Resize::PytorchFid };
    PossibleValuesParser::new(["adm", "pytorch-fid"]).map(of)
}

fn labels() -> impl TypedValueParser<Value = Labels> {
    let of = |name: String| match name.as_str() {
        "reference" => Labels::Reference,
        "random" => Labels::Random,
        _ => Labels::Balanced,
    };
    PossibleValuesParser::new(["reference", "balanced", "random"]).map(of)
}

/// A network that was read.
pub(crate) struct Measuring {
    inception: Inception,
    description: InceptionNetwork,
    labels: Option<Labels>,
}

impl InceptionArguments {
    /// Reads the network onto a device, if one is asked for.
    pub(crate) fn read(&self, device: &Device) -> Result<Option<Measuring>> {
        let Some(path) = &self.inception else { return Ok(None) };
        let network = Inception::new(device);
        let (description, inception) = InceptionNetwork::read(path, self.resize, network)?;
        Ok(Some(Measuring { inception, description, labels: self.labels }))
    }
}

impl Measuring {
    /// Measures one set of images against all of another.
    pub(crate) fn image_sets(&self, images: &Path, real: &Path) -> Result<InceptionEvaluation> {
        for path in [images, real] {
            InceptionSet::check(path)?;
        }
        let [generated, reference] = [self.sample(images)?, self.sample(real)?];
        self.evaluate(
            (&real.display().to_string(), &reference),
            (&images.display().to_string(), &generated),
            Setting::default(),
        )
    }

    /// Makes `count` images and measures them, against the training data unless told otherwise.
    pub(crate) fn network<N: Kind>(
        &self,
        trained: &Trained<N>,
        count: usize,
        against: Option<&Path>,
        parts: Option<&Path>,
    ) -> Result<InceptionEvaluation> {
        let recipe = &trained.pipeline.recipe;
        // Features of 64 bits: 2,048 of the pool, 1,008 logits.
        check_memory(
            || format!("features of {} (--images)", counted(count as u64, "image")),
            &[count as u64, 2048 + 1008, 8],
        )?;
        if against.is_none() {
            InceptionSet::check_data(training_data(trained, count)?.1, count as u64)?;
        }
        let generator = trained.pipeline.generator();
        let [channels, ..] = trained.image_shape()?;
        if channels != 1 && channels != 3 {
            return Err(
                format!("--inception: expected a network of images with 1 or 3 channels, found {channels}").into()
            );
        }
        let labels = self.labels(trained, count, against)?;
        let parts = parts.map(|folder| part::made(trained, &labels, folder, PartValues::Bytes)).transpose()?;
        let (name, reference) = match against {
            Some(path) => (path.display().to_string(), self.sample(path)?),
            None => {
                let decoded = if decoder(recipe, &generator)?.is_some() { "decoded " } else { "" };
                (format!("{decoded}training data of {}", recipe.name), self.training_data(trained, count)?)
            }
        };
        EvaluationOptions::default().check(&reference)?;
        let (generated, evaluations) = match parts {
            Some(parts) => (self.sample(parts.folder())?, parts.evaluations()?),
            None => {
                let mut progress = Progress::new();
                progress.begin("sampling and features", Some(count as u64));
                let tell = |done| progress.counted(done as u64, "image");
                let resize = self.description.resize;
                let made = InceptionSet::generated(&generator, &labels, &self.inception, resize, tell)?;
                progress.end();
                made
            }
        };
        // All that images depend on, so that what is new among them is not forgotten here.
        let SamplingConfig {
            sampler,
            guidance,
            guide: _,
            distilled_guidance,
            correction,
            batch: _,
            precision,
            tiles,
            bytes,
        } = &recipe.sampling;
        let setting = Setting {
            labels: Some(self.chosen(against)?),
            seed: Some(recipe.seed),
            sampler: Some(serde_json::to_string(sampler)?),
            evaluations: Some(evaluations),
            guidance: guidance.as_ref().map(serde_json::to_string).transpose()?,
            distilled_guidance: *distilled_guidance,
            tiles: *tiles,
            bytes: *bytes,
            correction: *correction,
            guide: generator.guide.map(|guide| guide.weights.clone()),
            precision: Some(precision.to_string()),
            autoencoder: trained.autoencoder_weights()?,
            checkpoint: Some(WeightsFile::read(&trained.weights)?),
        };
        self.evaluate((&name, &reference), (&trained.weights.display().to_string(), &generated), setting)
    }

    /// The classes of the images that are made.
    pub(crate) fn labels<N: Kind>(
        &self,
        trained: &Trained<N>,
        count: usize,
        against: Option<&Path>,
    ) -> Result<Vec<usize>> {
        let (recipe, chosen) = (&trained.pipeline.recipe, self.chosen(against)?);
        let classes = recipe.network.classes();
        // Of prompts some are drawn.
        if count < classes && !recipe.network.reads_names() && chosen != Labels::Random {
            let reason = "must be at least the number of classes, so that all are measured";
            return Err(format!("--images {reason}: expected {classes} or more, found {count}").into());
        }
        let counts = match against {
            Some(_) => vec![1; recipe.network.classes()],
            None => {
                let (data, len) = training_data(trained, count)?;
                class_counts(&*data, len)?
            }
        };
        Ok(chosen.draw(count, &counts, recipe.seed))
    }

    /// How they are chosen.
    fn chosen(&self, against: Option<&Path>) -> Result<Labels> {
        match (self.labels, against) {
            (Some(Labels::Reference), Some(_)) => {
                Err("--labels reference: the images of --against have no classes; take balanced or random".into())
            }
            (Some(labels), _) => Ok(labels),
            (None, Some(_)) => Ok(Labels::Balanced),
            (None, None) => Ok(Labels::Reference),
        }
    }

    /// The images that the network may have seen.
    fn training_data<N: Kind>(&self, trained: &Trained<N>, count: usize) -> Result<InceptionSet> {
        let decoder = decoder(&trained.pipeline.recipe, &trained.pipeline.generator())?;
        let (data, len) = training_data(trained, count)?;
        let len = len as usize;
        let mut progress = Progress::new();
        progress.begin("features of training data", Some(len as u64));
        let resize = self.description.resize;
        let sample = InceptionSet::of_data(&*data, len, decoder, &self.inception, resize, |done| {
            progress.counted(done as u64, "image");
        });
        with_remarks(sample?, progress)
    }

    fn sample(&self, path: &Path) -> Result<InceptionSet> {
        let mut progress = Progress::new();
        progress.begin(&format!("features of {}", path.display()), None);
        let resize = self.description.resize;
        with_remarks(
            InceptionSet::read(path, &self.inception, resize, |done, count| progress.images(done, count))?,
            progress,
        )
    }

    fn evaluate(
        &self,
        reference: (&str, &InceptionSet),
        generated: (&str, &InceptionSet),
        setting: Setting,
    ) -> Result<InceptionEvaluation> {
        let mut progress = Progress::new();
        progress.begin("measuring", None);
        if let (Some(real), Some(made)) = (&reference.1.features, &generated.1.features) {
            say_how_long(&progress, evaluation_pairs(reference.1, generated.1), [&real.pool, &made.pool])?;
        }
        Ok(evaluate(reference, generated, self.description.clone(), EvaluationOptions::default(), setting)?)
    }
}

/// The images that a network may have seen, and how many of them are measured: all, of an endless source four times as many as
/// are generated.
fn training_data<N: Kind>(trained: &Trained<N>, count: usize) -> Result<(Arc<dyn Dataset>, u64)> {
    let recipe = trained.divided()?;
    let data: Arc<dyn Dataset> = match &recipe.post_training {
        Some(post) => Arc::new(recipe.parts(post.images)?.0),
        None => recipe.open()?,
    };
    let len = own_len(&*data).unwrap_or(4 * count as u64);
    Ok((data, len))
}

/// A sample that was read, after its remarks are printed.
fn with_remarks(sample: InceptionSet, mut progress: Progress) -> Result<InceptionSet> {
    progress.end();
    sample.remarks.iter().for_each(note);
    Ok(sample)
}
