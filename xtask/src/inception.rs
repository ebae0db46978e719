//! The numbers of papers, for `cargo xtask eval --inception`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mixflow::data::Dataset;
use mixflow::evaluate::WeightsFile;
use mixflow::inception::{
    EvaluationOptions, Inception, InceptionEvaluation, Labels, Network, Resize, Sample, Setting, evaluate,
};

use crate::progress::Progress;
use crate::run::{Result, note};
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
    /// Classes of generated images: every one equally often, or drawn at random
    #[arg(long, default_value = "balanced", requires = "inception", value_parser = labels())]
    labels: Labels,
}

fn resize() -> impl TypedValueParser<Value = Resize> {
    let of = |name: String| if name == "adm" { Resize::Adm } else { Resize::PytorchFid };
    PossibleValuesParser::new(["adm", "pytorch-fid"]).map(of)
}

fn labels() -> impl TypedValueParser<Value = Labels> {
    let of = |name: String| if name == "random" { Labels::Random } else { Labels::Balanced };
    PossibleValuesParser::new(["balanced", "random"]).map(of)
}

/// A network that was read.
pub(crate) struct Measuring {
    inception: Inception,
    description: Network,
    labels: Labels,
}

impl InceptionArguments {
    /// Reads the network, if one is asked for.
    pub(crate) fn read(&self) -> Result<Option<Measuring>> {
        let Some(path) = &self.inception else { return Ok(None) };
        let network = Inception::new(&Device::default());
        let (description, inception) = Network::read(path, self.resize, network)?;
        Ok(Some(Measuring { inception, description, labels: self.labels }))
    }
}

impl Measuring {
    /// Measures one set of images against all of another.
    pub(crate) fn image_sets(&self, images: &Path, real: &Path) -> Result<InceptionEvaluation> {
        let [generated, reference] = [self.sample(images)?, self.sample(real)?];
        self.evaluate(
            (&real.display().to_string(), &reference),
            (&images.display().to_string(), &generated),
            Setting::default(),
        )
    }

    /// Makes `count` images and measures them, against the training data unless told otherwise.
    pub(crate) fn network(
        &self,
        trained: &Trained,
        count: usize,
        against: Option<&Path>,
    ) -> Result<InceptionEvaluation> {
        let recipe = &trained.recipe;
        let generator = trained.generator();
        let channels = trained.image_channels();
        if channels != 1 && channels != 3 {
            return Err(
                format!("--inception: expected a network of images with 1 or 3 channels, found {channels}").into()
            );
        }
        let (name, reference) = match against {
            Some(path) => (path.display().to_string(), self.sample(path)?),
            None => (format!("training data of {}", recipe.name), self.training_data(trained, count)?),
        };
        let labels = self.labels.draw(count, generator.null, recipe.seed);
        let mut progress = Progress::new();
        progress.begin("sampling and features", None);
        let resize = self.description.resize;
        let (generated, evaluations) =
            Sample::generated(&generator, &labels, &self.inception, resize, |done| progress.images(done, count))?;
        progress.end();
        let guidance = recipe.sampling.guidance.as_ref().map(serde_json::to_string).transpose()?;
        let setting = Setting {
            labels: Some(self.labels),
            seed: Some(recipe.seed),
            sampler: Some(serde_json::to_string(&recipe.sampling.sampler)?),
            evaluations: Some(evaluations),
            guidance,
            guide: generator.guide.map(|guide| guide.weights.clone()),
            precision: Some("f32".into()),
            autoencoder: trained.autoencoder_weights()?,
            checkpoint: Some(WeightsFile::read(&trained.weights)?),
        };
        self.evaluate((&name, &reference), (&trained.weights.display().to_string(), &generated), setting)
    }

    /// All images that the network may have seen; of an endless source four times as many as are generated.
    fn training_data(&self, trained: &Trained, count: usize) -> Result<Sample> {
        let data = trained.recipe.parts(count)?.0;
        let len = data.len().map_or(4 * count, |len| len as usize);
        let mut progress = Progress::new();
        progress.begin("features of training data", None);
        let resize = self.description.resize;
        told(Sample::of_data(&data, len, &self.inception, resize, |done| progress.images(done, len))?, progress)
    }

    fn sample(&self, path: &Path) -> Result<Sample> {
        let mut progress = Progress::new();
        progress.begin(&format!("features of {}", path.display()), None);
        let resize = self.description.resize;
        told(Sample::read(path, &self.inception, resize, |done, count| progress.images(done, count))?, progress)
    }

    fn evaluate(
        &self,
        reference: (&str, &Sample),
        generated: (&str, &Sample),
        setting: Setting,
    ) -> Result<InceptionEvaluation> {
        let mut progress = Progress::new();
        progress.begin("measuring", None);
        Ok(evaluate(reference, generated, self.description.clone(), EvaluationOptions::default(), setting)?)
    }
}

/// Tells what there is to tell of a sample that was read.
fn told(sample: Sample, mut progress: Progress) -> Result<Sample> {
    progress.end();
    sample.remarks.iter().for_each(note);
    Ok(sample)
}
