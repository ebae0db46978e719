//! A whole comparison: pre-train, post-train all ways, sample, measure, report.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mixflow_backbones::weights::Weights;
use serde_json::json;

use super::measured::{LABELS, Measured};
use super::phases::{Phases, post_training};
use super::{Lag, Progress, Results, Study, arms, encoding, lag, lag_labels, outcome, parts};
use crate::data::{Dataset, Split};
use crate::evaluation::scenes::SceneScores;
use crate::evaluation::{Generator, ValidationImages, class_counts, reference_size};
use crate::files::write_atomic;
use crate::recipe::{AdapterConfig, Guide, METADATA, NetworkSettings, ObjectiveConfig, PostTraining};
use crate::report::{Arm, Curve, Environment, Phase, Report, Strip, Summary};
use crate::train::{Change, Event, Start, changes};
use crate::{Error, Objective, device};

/// How a study ended.
#[derive(Debug)]
pub enum StudyOutcome {
    /// The report, and where the page is.
    Finished(Box<Report>, PathBuf),
    /// It was asked to stop; a training's checkpoint is written.
    Interrupted,
}

impl<N: NetworkSettings> Study<'_, N> {
    /// Runs the study from `network`, on its device, or from where the folder stands. `start` replaces the pre-training.
    /// `objective` makes what the trainings minimise, such as [`NetworkSettings::objective`]. On the CPU
    /// post-trainings of a small network go on side by side, each the same bit for bit as alone.
    ///
    /// # Errors
    /// Whatever stops a training, sampling fails with, or the folder refuses.
    pub fn run<O: Objective<N::Network>>(
        &self,
        network: N::Network,
        start: Option<N::Network>,
        objective: impl Fn(&ObjectiveConfig) -> O + Sync,
        mut progress: impl FnMut(Progress),
    ) -> Result<StudyOutcome, Error> {
        let post = self.recipe.post_training.as_ref().ok_or_else(|| {
            self.fault("a comparison needs `post_training`, such as {\"steps\": 500, \"gamma\": 0.8}".into())
        })?;
        let (train, held_out) = parts(self.recipe, post, &self.measures)?;
        let trainings =
            post.trainings(&self.recipe.objective).map_err(|invalid| Error::recipe(&self.recipe.name, invalid))?;
        let trainings: Vec<(Arm, ObjectiveConfig)> =
            trainings.into_iter().map(|(arm, objective)| (Arm::from(arm), objective)).collect();
        let (train, held_out): (Arc<Split>, Arc<Split>) = (Arc::new(train), Arc::new(held_out));
        let phases = &RefCell::new(Phases::open(&self.folder));
        let mut progress = |event: Progress| {
            if matches!(event, Progress::Training { event: Event::Saved(_), .. }) {
                phases.borrow_mut().save();
            }
            progress(event);
        };
        phases.borrow_mut().begin("pre-training");
        // What is learned and followed are latents where there is an autoencoder; what is measured are always images.
        let device = device::of(&network);
        let mut learn = |name: &str, part: &Arc<Split>| {
            let tell = &mut encoding(self.stop, part.len(), &mut progress);
            self.recipe.learned(&self.folder, name, part.clone(), self.autoencoder, &device, tell)
        };
        let learned = learn("training", &train).and_then(|learned| Ok((learned, learn("held-out", &held_out)?)));
        let Some((learned, unseen)) = Error::unless_stopped(learned)? else { return Ok(StudyOutcome::Interrupted) };

        let validation = Error::unless_stopped(ValidationImages::of(
            self.recipe,
            self.local,
            &network,
            (train.classes(), &self.conditioner),
            (self.autoencoder, self.guide),
            &self.folder,
            &mut |done| {
                progress(Progress::Labels(done as u64));
                Error::if_set(self.stop)
            },
        ))?;
        let Some(validation) = validation else { return Ok(StudyOutcome::Interrupted) };
        validation.iter().flat_map(ValidationImages::notices).for_each(|notice| progress(Progress::Note(notice)));
        let validation = validation.as_ref();
        let given = start.is_some();
        let start = match start {
            Some(start) => start,
            None => {
                self.check_arms_wait(post, &trainings)?;
                progress(Progress::Begin("pre-training", Some(self.recipe.training.steps)));
                let config = (&self.recipe.training, self.stop);
                let settings = (&self.recipe.objective, &objective);
                let folder = self.folder.join("pretraining");
                let progress = &mut |event| progress(Progress::Training { folder: &folder, event });
                match self.train("pretraining", network, settings, config, 0, &learned, validation, progress)? {
                    Some(start) => start,
                    None => return Ok(StudyOutcome::Interrupted),
                }
            }
        };
        let file = if given { "start" } else { "pretraining/model.safetensors" };
        let weights = Weights::of(&start, self.recipe.network.official_key());
        // Arms that began before files of weights named their format started from the same weights under another hash.
        let [origin, former] = [METADATA, &METADATA[1..]].map(|metadata| Start::of_weights(file, &weights, metadata));
        let (origin, former) = (origin?, former?);
        let began = |folder: &PathBuf| Start::read(folder).is_ok_and(|start| start.as_ref() == Some(&former));
        let origin =
            if self.arm_folders(post, &trainings).any(|folder| began(&folder)) { former.clone() } else { origin };
        for folder in self.arm_folders(post, &trainings) {
            arms::check_started(&folder, &origin)?;
        }
        let mut networks = vec![(Arm::Start, 0, start.clone())];
        let (of, images) = ((post, &trainings[..]), (&learned, validation));
        let trained = self.post_train(of, (&start, &origin), &objective, images, phases, &mut progress)?;
        let Some(trained) = trained else { return Ok(StudyOutcome::Interrupted) };
        networks.extend(trained);

        phases.borrow_mut().begin_anew("sampling and measuring");
        let (size, floor_size) = (reference_size(&*train, post.images), post.images as u64);
        progress(Progress::Begin("real images", Some(size + floor_size)));
        let real = self.measures.of_data(&*train, size, &mut |done| progress(Progress::Images(done)))?;
        let floor =
            self.measures.of_data(&*held_out, floor_size, &mut |done| progress(Progress::Images(size + done)))?;
        progress(Progress::Begin("measuring real images", None));
        let against = self.measures.against(&real, &floor)?;
        let shares = class_counts(&*train, size)?;
        let labels = LABELS.draw(post.images, &shares, self.recipe.seed);
        let scenes = SceneScores::of(&self.recipe.data, post.images)?;
        let scenes = scenes.as_ref().map(|scenes| [scenes.seen(&labels), scenes.unseen()]);
        let measured = self.measure(post, &labels, &networks, (&against, &floor, scenes.as_ref()), &mut progress)?;
        let Some(measured) = measured else { return Ok(StudyOutcome::Interrupted) };
        let Measured { results, shown, samplings, seconds, searches } = measured;

        phases.borrow_mut().begin_anew("Slow Flow");
        let followed = if post.slow_flow { lag_labels(post.images.min(250), &*train, &*held_out)? } else { vec![] };
        let mut lags: Vec<(Arm, Lag)> = Vec::new();
        if post.slow_flow {
            let trained = networks.iter().filter(|(_, seed, _)| *seed == 0);
            let trained = trained.map(|(arm, _, network)| (arm, network, &self.recipe.sampling));
            let sampled = samplings.iter().map(|(arm, number, sampling)| (arm, &networks[*number].2, sampling));
            let arms: Vec<_> = trained.chain(sampled).collect();
            progress(Progress::Begin("Slow Flow", Some((arms.len() * followed.len()) as u64)));
            for (arm, network, sampling) in arms {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(StudyOutcome::Interrupted);
                }
                let before = (lags.len() * followed.len()) as u64;
                let progress = &mut |done| progress(Progress::Images(before + done));
                let generator = Generator { sampling, ..self.generator(network) };
                lags.push((arm.clone(), lag(&generator, &followed, &*learned, &*unseen, progress)?));
            }
        }

        let mut report = self.report(post, given, &results, &start, train.shape(), phases.borrow_mut().all());
        report.arms = post.described(&trainings);
        report.timed(&seconds, post.seeds);
        report.notes.extend(searches.iter().map(ToString::to_string));
        report.notes.push(post.describe(&self.recipe.training));
        report.notes.extend(self.recipe.adapter.as_ref().map(AdapterConfig::describe));
        report.grids = self.grids(&*train, shown)?;
        let start = (!given).then(|| (Arm::Start, "pretraining".to_string()));
        let trained = start.into_iter().chain(trainings.iter().map(|(arm, _)| (arm.clone(), arms::folder(arm, 0))));
        for (arm, folder) in trained {
            report.strips.extend(Strip::read(arm, &self.folder.join(folder))?);
        }
        report.drawn = self.recipe.validation.iter().flat_map(|config| config.drawn(train.classes())).collect();
        let of_classes = |missing: &dyn Fn(usize) -> bool| {
            let names = train.classes().iter().enumerate().filter(|(class, _)| missing(*class));
            names.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let reads_names = self.recipe.network.reads_names();
        let rare = of_classes(&|class| shares[class] > 0 && !labels.contains(&class));
        if reads_names && !rare.is_empty() {
            report.notes.push(format!(
                "Generated images are of {} captions, drawn from {} of the real images.",
                labels.iter().collect::<BTreeSet<_>>().len(),
                shares.iter().filter(|share| **share > 0).count()
            ));
        } else if !rare.is_empty() {
            report.notes.push(format!(
                "Classes too rare among the real images for one of {} generated ones: {rare}.",
                labels.len()
            ));
        }
        if post.slow_flow {
            report.slow_flow = outcome::slow_flow(&lags, &self.recipe.sampling.describe());
            let (classes, count) = (train.classes().len(), followed.len());
            // Where there are fewer images than classes, those beyond the last one followed had no turn.
            let last = if count < classes { followed.iter().max().copied().unwrap_or(0) } else { classes };
            let unfollowed = of_classes(&|class| class < last && !followed.contains(&class));
            if !unfollowed.is_empty() && !reads_names {
                report.notes.push(format!("Slow Flow leaves out classes without a held-out image: {unfollowed}."));
            }
            let different = followed.iter().collect::<BTreeSet<_>>().len();
            if reads_names && different < classes {
                report
                    .notes
                    .push(format!("Slow Flow follows {count} images, of {different} of the {classes} captions."));
            } else if count < classes {
                report
                    .notes
                    .push(format!("Slow Flow follows {count} images, each of another of the {classes} classes."));
            }
        }
        if self.autoencoder.is_some() {
            let [channels, height, width] = learned.shape();
            report.notes.push(format!(
                "The networks learn and draw the latents of an autoencoder, {channels} × {height} × {width} numbers an \
                 image; Slow Flow follows latents, every measure sees decoded images."
            ));
        }
        if let Some(Guide { weights, .. }) = self.guide {
            report.notes.push(format!(
                "Every arm is guided by one weaker network, {}, SHA-256 {}.",
                weights.file.display(),
                weights.sha256
            ));
        }
        for Change { step, key, from, to } in changes(&self.folder.join("pretraining"))? {
            report.notes.push(format!("From step {step} of the pre-training on, {key} was {to} instead of {from}."));
        }
        if given {
            report.notes.push("The start was loaded from a file: there was no pre-training in this run.".into());
            let unknown = || "What the start was trained on is not known: it may have seen the held-out images.".into();
            report.notes.push(self.seen.clone().unwrap_or_else(unknown));
        }
        let precision = self.recipe.training.precision;
        if !precision.is_full() {
            report.notes.push(format!("The networks multiplied in {precision} while they were trained."));
        }
        let page = self.folder.join("report.html");
        let mut json = json!({ "results": results, "report": report });
        if let Some(guide) = self.guide {
            json["guide"] = json!(guide.weights);
        }
        let json = serde_json::to_vec_pretty(&json).expect("plain data is JSON");
        for (path, bytes) in [(self.folder.join("results.json"), json), (page.clone(), report.html().into_bytes())] {
            write_atomic(&path, &bytes)?;
        }
        Ok(StudyOutcome::Finished(Box::new(report), page))
    }

    fn report(
        &self,
        post: &PostTraining,
        given: bool,
        results: &Results,
        network: &N::Network,
        shape: [usize; 3],
        phases: Vec<Phase>,
    ) -> Report {
        let sampler = self.recipe.sampling.describe();
        let trained: Vec<Arm> = post.arms.iter().filter(|arm| arm.of().is_none()).map(Arm::from).collect();
        let trainings = (0..post.seeds).flat_map(|seed| trained.iter().map(move |arm| (arm.clone(), seed)));
        let curves = std::iter::once((Arm::Start, 0, "pretraining".to_string()))
            .chain(trainings.map(|(arm, seed)| (arm.clone(), seed, arms::folder(&arm, seed))))
            .map(|(arm, seed, folder)| Curve::read(arm, seed, &self.folder.join(folder).join("metrics.jsonl")))
            .filter(|curve| !curve.points.is_empty())
            .collect();
        Report {
            title: match results.table.iter().any(|scores| matches!(scores.arm, Arm::Other(_))) {
                true => format!("{}: remedies for exposure bias", self.recipe.name),
                false => format!("{}: plain and MixFlow post-training", self.recipe.name),
            },
            summary: Summary {
                data: self.recipe.data.describe().into(),
                shape,
                latents: Some(self.recipe.network.shape()).filter(|made| *made != shape),
                network: format!("a {}", self.recipe.network.name()),
                parameters: self.recipe.parameters_of(network),
                pretrain_steps: if given { 0 } else { self.recipe.training.steps },
                posttrain_steps: post.steps,
                gamma: post.gamma,
            },
            recipe: self.recipe.to_value(),
            curves,
            frechet_by_evaluations: results.by_evaluations(&sampler),
            table: results.table(&sampler),
            differences: results.differences(),
            environment: Environment { phases, ..Environment::here(&device::of(network)) },
            ..Report::default()
        }
    }
}

impl Report {
    /// Adds what training and drawing took, in seconds a seed.
    fn timed(&mut self, drawing: &BTreeMap<Arm, Vec<f64>>, seeds: u64) {
        for row in &mut self.table.rows {
            row.metrics.sampling_seconds = drawing.get(&row.arm).into_iter().flatten().copied().collect();
            let trained = self.environment.phases.iter().find(|phase| phase.name == post_training(&row.arm));
            row.metrics.training_seconds = trained.map(|phase| phase.seconds / seeds as f64).into_iter().collect();
        }
    }
}
