//! What the networks of a comparison make, measured and shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::arms::{config_name, folder};
use super::post_train::Trained;
use super::{ArmScores, Progress, Results, Study};
use crate::Error;
use crate::data::{Dataset, Labels};
use crate::evaluation::metric::{Features, FrechetReference, Gaussian};
use crate::evaluation::scenes::Scored;
use crate::evaluation::{Against, Generator, Visited};
use crate::files::{Tiles, WeightsFile};
use crate::numbers::thousands;
use crate::recipe::{NetworkSettings, PostTraining, SamplingConfig};
use crate::report::{Arm, Grid, Picture, evaluations_text};
use crate::sampling::Images;
use crate::sampling::correction::CorrectionConfig;

/// Scores of every arm, and what there is to show of them.
#[derive(Default)]
pub(super) struct Measured {
    /// Scores.
    pub(super) results: Results,
    /// Images of the first seed.
    pub(super) shown: Vec<(Arm, SamplingConfig, Images)>,
    /// How the first seed of each arm that only samples does so, and the number of its network in the list of networks.
    pub(super) samplings: Vec<(Arm, usize, SamplingConfig)>,
    /// Seconds that drawing the images of the table took, a seed each.
    pub(super) seconds: BTreeMap<Arm, Vec<f64>>,
    /// What was searched.
    pub(super) searches: Vec<Search>,
}

/// The search of an arm, in all seeds.
pub(super) struct Search {
    arm: Arm,
    candidates: usize,
    /// Network evaluations for it.
    spent: usize,
    /// Numbers of steps, and what each seed chose there.
    chosen: Vec<(usize, Vec<CorrectionConfig>)>,
}

impl Search {
    fn new(arm: Arm, candidates: usize, at: &[SamplingConfig], chosen: &[CorrectionConfig], spent: usize) -> Self {
        let chosen = at.iter().zip(chosen).map(|(sampling, chosen)| (sampling.sampler.grid.steps(), vec![*chosen]));
        Self { arm, candidates, spent, chosen: chosen.collect() }
    }

    /// Of one more seed.
    fn add(&mut self, chosen: &[CorrectionConfig], spent: usize) {
        self.chosen.iter_mut().zip(chosen).for_each(|((_, all), chosen)| all.push(*chosen));
        self.spent += spent;
    }
}

/// In a sentence for the notes of a report.
impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = |all: &[CorrectionConfig]| {
            let mut different: Vec<(&CorrectionConfig, usize)> = vec![];
            for chosen in all {
                match different.iter_mut().find(|(other, _)| *other == chosen) {
                    Some((_, count)) => *count += 1,
                    None => different.push((chosen, 1)),
                }
            }
            let different = different.into_iter().map(|(chosen, count)| format!("{chosen} in {count}"));
            different.collect::<Vec<_>>().join(", ")
        };
        let chosen = self.chosen.iter().map(|(steps, all)| format!("at {steps} steps {}", seeds(all)));
        write!(
            f,
            "{} chose of {} candidates, in so many seeds: {}. They drew images of other noise, compared with the held-out \
             images, which the scores are not: {} network evaluations.",
            self.arm.name(),
            self.candidates,
            chosen.collect::<Vec<_>>().join("; "),
            thousands(self.spent as u64),
        )
    }
}

/// Draws images of labels from noise of this number on.
type Draw<'a> = dyn FnMut(&SamplingConfig, &[usize], u64) -> Result<Images, Error> + 'a;

/// Images of the sample grids in the report, at most.
const SHOWN: usize = 40;

/// How the classes of the images that are measured are chosen.
pub(super) const LABELS: Labels = Labels::Reference;

impl<N: NetworkSettings> Study<'_, N> {
    /// Scores of every arm, and the images to show; `held_out` are features of images that a search compares with, `scenes` what
    /// images of these labels, and others with the recipe's sampling, are scored by, where the data are scenes.
    pub(super) fn measure(
        &self,
        post: &PostTraining,
        labels: &[usize],
        networks: &[Trained<N::Network>],
        (against, held_out, scenes): (&Against<'_>, &Features, Option<&[Scored<'_>; 2]>),
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Measured>, Error> {
        let sampling = &self.recipe.sampling;
        let fault = |invalid| Error::recipe(&self.recipe.name, invalid);
        let features = self.measures.features.name().into();
        let results = Results { labels: Some(LABELS), features, ..Results::default() };
        let mut found = Measured { results, ..Measured::default() };
        let settings: Vec<SamplingConfig> =
            std::iter::once(sampling.clone()).chain(post.other_samplings(sampling)?).collect();
        let [trained, tried, sampled] = post.sets();
        let unseen = scenes.map_or(0, |_| trained + sampled);
        let sets = (trained + tried + sampled) * settings.len() as u64 + unseen;
        progress(Progress::Begin("sampling and measuring", Some(sets * post.images as u64)));
        let mut done = 0;
        let searched_against = match post.sets()[1] {
            0 => None,
            _ => Some(FrechetReference::new(Gaussian::from_features(held_out)?)),
        };
        for (number, (arm, seed, network)) in networks.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let weights = self.weights_of(arm, *seed)?;
            let mut draw = |sampling: &SamplingConfig, labels: &[usize], first: u64| {
                let generator = Generator { sampling, ..self.generator(network) };
                let visit = &mut |state: Visited<'_>| progress(Progress::Images(done + state.done));
                let images = generator.trajectories(labels, first, visit)?;
                done += labels.len() as u64;
                Ok::<_, Error>(images)
            };
            let score = |draw: &mut Draw<'_>,
                         found: &mut Measured,
                         arm: &Arm,
                         (place, sampling): (usize, &SamplingConfig),
                         correction| {
                let begun = Instant::now();
                let images = draw(sampling, labels, 0)?;
                let seconds = begun.elapsed().as_secs_f64();
                let (measurement, mut more) = against.measure(&images)?;
                if let Some([seen, unseen]) = scenes {
                    more.extend(seen.measure(&images));
                    if place == 0 {
                        // Of noise that neither scores nor searches have seen.
                        more.extend(unseen.measure(&draw(sampling, &unseen.labels, 2 * post.images as u64)?));
                    }
                }
                let (steps, evaluations) = (settings[place].sampler.grid.steps(), images.evaluations);
                let (arm, seed, weights) = (arm.clone(), *seed, weights.clone());
                let scores = ArmScores { arm, seed, weights, correction, steps, evaluations, measurement, more };
                if place > 0 {
                    found.results.others.push(scores);
                    return Ok(());
                }
                found.seconds.entry(scores.arm.clone()).or_default().push(seconds);
                if seed == 0 {
                    found.shown.push((scores.arm.clone(), sampling.clone(), images));
                }
                found.results.table.push(scores);
                Ok::<_, Error>(())
            };
            for (place, sampling) in settings.iter().enumerate() {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                score(&mut draw, &mut found, arm, (place, sampling), None)?;
            }
            let samplings = post.arms.iter().filter(|config| config.of().is_some_and(|of| config_name(arm) == of));
            for config in samplings {
                let candidates = config.candidates(&post.lambdas).map_err(fault)?;
                let name = Arm::from(config);
                let (mut chosen, mut spent): (Vec<CorrectionConfig>, usize) = (vec![], 0);
                for (place, sampling) in settings.iter().enumerate() {
                    // Chosen on images from other noise, by their distance from other real images than those of the scores.
                    let mut best = (f64::INFINITY, None);
                    for &correction in &candidates {
                        if self.stop.load(Ordering::Relaxed) {
                            return Ok(None);
                        }
                        let Some(held_out) = searched_against.as_ref().filter(|_| candidates.len() > 1) else { break };
                        let images = draw(&sampling.corrected(correction), labels, post.images as u64)?;
                        let drawn = Gaussian::from_features(&self.measures.of_images(&images)?)?;
                        let distance = held_out.distance(&drawn)?;
                        spent += images.evaluations * labels.len();
                        if distance < best.0 {
                            best = (distance, Some(correction));
                        }
                    }
                    let correction = best.1.unwrap_or(candidates[0]);
                    let corrected = sampling.corrected(correction);
                    score(&mut draw, &mut found, &name, (place, &corrected), Some(correction))?;
                    if place == 0 && *seed == 0 {
                        found.samplings.push((name.clone(), number, corrected));
                    }
                    chosen.push(correction);
                }
                if candidates.len() > 1 {
                    let search = found.searches.iter_mut().find(|search| search.arm == name);
                    match search {
                        Some(search) => search.add(&chosen, spent),
                        None => found.searches.push(Search::new(name, candidates.len(), &settings, &chosen, spent)),
                    }
                }
            }
        }
        // In the order of the recipe; seeds stay in theirs.
        let names: Vec<Arm> = std::iter::once(Arm::Start).chain(post.arms.iter().map(Arm::from)).collect();
        let place = |arm: &Arm| names.iter().position(|name| name == arm);
        found.results.table.sort_by_key(|scores| place(&scores.arm));
        found.results.others.sort_by_key(|scores| place(&scores.arm));
        found.shown.sort_by_key(|(arm, ..)| place(arm));
        found.samplings.sort_by_key(|(arm, ..)| place(arm));
        Ok(Some(found))
    }

    /// The hash of the file that an arm was trained to, if it was trained here.
    fn weights_of(&self, arm: &Arm, seed: u64) -> Result<Option<String>, Error> {
        let folder = if *arm == Arm::Start { "pretraining".into() } else { folder(arm, seed) };
        let file = self.folder.join(folder).join("model.safetensors");
        file.is_file().then(|| Ok(WeightsFile::read(file)?.sha256)).transpose()
    }

    /// The sample grids of the report: real images, then each arm's.
    pub(super) fn grids(
        &self,
        real: &dyn Dataset,
        arms: Vec<(Arm, SamplingConfig, Images)>,
    ) -> Result<Vec<Grid>, Error> {
        let [channels, height, width] = real.shape();
        let tiles = Tiles::in_turns(real.classes().len());
        let picture = |pixels: &[f32]| {
            let image = channels * height * width;
            let count = (pixels.len() / image).min(SHOWN);
            Picture::from(&tiles.image(&pixels[..count * image], [count, channels, height, width]))
        };
        // A folder may have left fewer to train on than are shown of a network.
        let count = real.len().map_or(SHOWN as u64, |len| len.min(SHOWN as u64));
        let pixels = (0..count).map(|index| Ok(real.example(index)?.pixels));
        let pixels: Vec<f32> = pixels.collect::<Result<Vec<_>, Error>>()?.concat();
        let mut grids = vec![Grid { arm: None, caption: "from the training data".into(), picture: picture(&pixels) }];
        grids.extend(arms.into_iter().map(|(arm, sampling, images)| {
            let evaluations = images.evaluations as u64;
            Grid {
                arm: Some(arm),
                caption: format!("{}, {}", sampling.describe(), evaluations_text(evaluations, evaluations)),
                picture: picture(&images.pixels),
            }
        }));
        Ok(grids)
    }
}
