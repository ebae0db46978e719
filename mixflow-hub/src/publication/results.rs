//! What was measured of a network, from the files that `eval` and a comparison leave.

use std::fs;
use std::path::Path;

use mixflow::backbones::Precision;
use mixflow::compare::Results;
use mixflow::data::Labels;
use mixflow::evaluation::Evaluation;
use mixflow::evaluation::inception::InceptionEvaluation;
use mixflow::evaluation::metric::Measurement;
use mixflow::files::WeightsFile;
use mixflow::recipe::{NetworkSettings, SamplingConfig};
use mixflow::report::Arm;
use mixflow::sampling::{Guidance, Sampler};
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::without_folders;
use super::finished::Finished;
use crate::Error;

/// All that was measured of one network.
#[derive(Debug, Default)]
pub(super) struct MeasuredScores {
    /// Distances on pixels.
    pub(super) pixels: Vec<(Conditions, Measurement)>,
    /// The comparison that the network is an arm of, if its weights were measured in it.
    pub(super) comparison: Option<(Arm, Results)>,
    /// Distances on features of an Inception network.
    pub(super) inception: Vec<(Conditions, Box<InceptionEvaluation>)>,
    /// The files to publish, without folders of this machine.
    pub(super) files: Vec<(String, Value)>,
    /// Files that were found and left out, and why.
    pub(super) left_out: Vec<String>,
}

/// How images were made that were measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// Solver and guidance in words; empty where nobody knows.
    pub(super) sampler: String,
    /// Steps of the solver.
    pub(super) steps: Option<usize>,
    /// Network evaluations for an image.
    pub(super) evaluations: Option<usize>,
    /// Images that were made.
    pub(super) images: Option<usize>,
    /// How their classes were chosen.
    pub(super) labels: Option<Labels>,
    pub(super) seed: Option<u64>,
    /// Type of numbers while sampling.
    pub(super) precision: Option<String>,
    /// The published file that the numbers are in.
    pub(super) file: String,
}

impl Conditions {
    fn new(sampling: &SamplingConfig, evaluations: usize, seed: u64, images: usize, file: &str) -> Self {
        Self {
            labels: Some(Labels::Balanced),
            sampler: sampling.describe(),
            steps: Some(sampling.sampler.grid.steps()),
            evaluations: Some(evaluations),
            images: Some(images),
            seed: Some(seed),
            precision: Some(sampling.precision.to_string()),
            file: file.into(),
        }
    }
}

#[derive(Deserialize)]
struct PixelFile {
    evaluation: Evaluation,
    weights: WeightsFile,
    /// The recipe that it was measured by, where that is not the run's.
    recipe: Option<String>,
}

#[derive(Deserialize)]
struct InceptionFile {
    inception: Box<InceptionEvaluation>,
}

#[derive(Deserialize)]
struct ComparisonFile {
    results: Results,
    report: ComparedReport,
}

#[derive(Deserialize)]
struct ComparedReport {
    recipe: Value,
}

impl MeasuredScores {
    /// Whether there is no number at all.
    pub(super) fn is_empty(&self) -> bool {
        self.pixels.is_empty() && self.inception.is_empty()
    }

    /// What the folder of a network says about the very weights in its file; `published` has them too, and is that file
    /// where it needed no change.
    pub(super) fn read<N: NetworkSettings>(finished: &Finished<N>, published: &WeightsFile) -> Result<Self, Error> {
        let mut measured = Self::default();
        let Some(file) = &finished.file else { return Ok(measured) };
        let own = match finished.read {
            Some(_) => WeightsFile::read(file)?.sha256,
            None => published.sha256.clone(),
        };
        for (name, value) in json_files(&finished.folder)? {
            measured.add(&name, value, &own, published).map_err(|error| {
                let reason = format!("is no result that this version reads: {error}");
                Error::Layout { folder: finished.folder.join(&name), reason }
            })?;
        }
        measured.add_comparison(finished, &own)?;
        Ok(measured)
    }

    /// Adds a file, if it is a result and about weights of the hash `own`.
    fn add(&mut self, name: &str, value: Value, own: &str, published: &WeightsFile) -> Result<(), serde_json::Error> {
        let target = format!("results/{name}");
        let weights = if value.get("evaluation").is_some() {
            let PixelFile { evaluation, weights, recipe } = Deserialize::deserialize(&value)?;
            if let Some(recipe) = recipe.filter(|_| weights.sha256 == own) {
                self.left_out.push(format!("{name} measured by another recipe, {recipe}: run eval without --recipe"));
                return Ok(());
            }
            if weights.sha256 == own && evaluation.features != "pixels" {
                self.left_out.push(format!("{name} measured {}, of which a card says nothing", evaluation.features));
                return Ok(());
            }
            if weights.sha256 == own {
                let Evaluation { sampling, evaluations, seed, labels, measurement, .. } = evaluation;
                let conditions = Conditions::new(&sampling, evaluations, seed, measurement.generated.rows, &target);
                self.pixels.push((Conditions { labels: Some(labels), ..conditions }, measurement));
            }
            Some(weights)
        } else if value.get("inception").is_some() {
            let InceptionFile { inception } = Deserialize::deserialize(&value)?;
            let weights = inception.setting.checkpoint.clone();
            if weights.as_ref().is_some_and(|weights| weights.sha256 == own) {
                self.inception.push((inception_conditions(&inception, &target)?, inception));
            }
            weights
        } else {
            return Ok(());
        };
        match weights {
            Some(weights) if weights.sha256 == own => self.files.push((target, cleaned(value, own, published))),
            Some(_) => self.left_out.push(format!("{name} measured other weights: run eval again")),
            None => self.left_out.push(format!("{name} does not say which weights it measured")),
        }
        Ok(())
    }

    /// Adds what the comparison found about an arm.
    fn add_comparison<N: NetworkSettings>(&mut self, finished: &Finished<N>, own: &str) -> Result<(), Error> {
        let Some((arm, seed)) = arm(finished) else { return Ok(()) };
        let file = finished.run.join("results.json");
        if !file.is_file() {
            return Ok(());
        }
        let fault = |error| {
            let reason = mixflow::backbones::json::explain(&error);
            let reason = format!("is no result of a comparison that this version reads: {reason}");
            Error::Layout { folder: file.clone(), reason }
        };
        let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let value: Value = serde_json::from_str(&text).map_err(fault)?;
        let ComparisonFile { results, report } = Deserialize::deserialize(&value).map_err(fault)?;
        let recipe = &finished.recipe;
        if report.recipe != recipe.to_value() {
            self.left_out.push("results.json is of another recipe: continue it with `train --resume` first".into());
            return Ok(());
        }
        if results.features != "pixels" {
            self.left_out.push(format!("results.json measured {}, of which a card says nothing", results.features));
            return Ok(());
        }
        let target = "results/comparison.json";
        let scores = || results.table.iter().chain(&results.others);
        let mine = || scores().filter(|scores| scores.arm == arm && scores.seed == seed);
        if mine().any(|scores| scores.weights.as_deref() != Some(own)) {
            self.left_out
                .push("results.json measured other weights, or does not say which: run `train --resume`".into());
            return Ok(());
        }
        for scores in mine() {
            let (evaluations, images) = (scores.evaluations, scores.measurement.generated.rows);
            // Noise has the seed of the recipe in every arm.
            let mut conditions = Conditions::new(&recipe.sampling, evaluations, recipe.seed, images, target);
            conditions.steps = match scores.steps {
                0 => steps_of(&recipe.sampling, finished, evaluations),
                steps => Some(steps),
            };
            conditions.labels = results.labels.or(conditions.labels);
            self.pixels.push((conditions, scores.measurement));
        }
        let mut kept = json!({ "results": value["results"], "guide": value["guide"] });
        without_folders(&mut kept);
        self.files.push((target.into(), kept));
        self.comparison = Some((arm, results));
        Ok(())
    }
}

/// Steps that cost so many evaluations, of those that the comparison takes.
fn steps_of<N: NetworkSettings>(
    sampling: &SamplingConfig,
    finished: &Finished<N>,
    evaluations: usize,
) -> Option<usize> {
    let others = finished.recipe.post_training.iter().flat_map(|post| post.solver_steps.iter().copied());
    let costs = |steps| sampling.with_steps(steps).ok()?.evaluations();
    std::iter::once(sampling.sampler.grid.steps()).chain(others).find(|&steps| costs(steps) == Some(evaluations))
}

/// What a comparison calls the network.
fn arm<N: NetworkSettings>(finished: &Finished<N>) -> Option<(Arm, u64)> {
    let folder = finished.arm.as_deref()?;
    if folder == "pretraining" {
        return Some((Arm::Start, 0));
    }
    let (arm, seed) = finished.recipe.post_training.as_ref()?.arm_in(folder)?;
    Some((Arm::from(arm), seed))
}

fn inception_conditions(inception: &InceptionEvaluation, file: &str) -> Result<Conditions, serde_json::Error> {
    let setting = &inception.setting;
    let mut conditions = Conditions {
        evaluations: setting.evaluations,
        images: inception.generated.images,
        labels: setting.labels,
        seed: setting.seed,
        precision: setting.precision.clone(),
        file: file.into(),
        ..Conditions::default()
    };
    if let Some(sampler) = &setting.sampler {
        let sampler: Sampler = serde_json::from_str(sampler)?;
        let guidance: Option<Guidance> = setting.guidance.as_deref().map(serde_json::from_str).transpose()?;
        let sampling = SamplingConfig {
            sampler,
            guidance,
            guide: None,
            distilled_guidance: setting.distilled_guidance,
            correction: setting.correction,
            batch: 1,
            // It has a column of its own.
            precision: Precision::F32,
            tiles: setting.tiles,
            bytes: setting.bytes,
        };
        conditions.steps = Some(sampling.sampler.grid.steps());
        conditions.sampler = sampling.describe();
        if let (Some(guidance), Some(_)) = (guidance, &setting.guide) {
            let told = format!("guidance {}", guidance.scale());
            conditions.sampler = conditions.sampler.replacen(&told, &format!("{told} by a weaker network"), 1);
        }
    }
    Ok(conditions)
}

/// The JSON files directly in a folder, by name. What is no JSON is no result.
fn json_files(folder: &Path) -> Result<Vec<(String, Value)>, Error> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".json")) else {
            continue;
        };
        if ["recipe.json", "results.json"].contains(&name) || !path.is_file() {
            continue;
        }
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        if let Ok(value) = serde_json::from_slice(&text) {
            files.push((name.to_string(), value));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// A result with the published file in place of `own`, and no folder of this machine.
fn cleaned(mut value: Value, own: &str, published: &WeightsFile) -> Value {
    fn rename(value: &mut Value, own: &str, published: &WeightsFile) {
        match value {
            Value::Object(entries) if entries.get("sha256").is_some_and(|hash| hash == own) => {
                *value = json!(published);
            }
            Value::Object(entries) => entries.values_mut().for_each(|value| rename(value, own, published)),
            Value::Array(values) => values.iter_mut().for_each(|value| rename(value, own, published)),
            _ => {}
        }
    }
    rename(&mut value, own, published);
    without_folders(&mut value);
    value
}
