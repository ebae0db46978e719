//! What the networks of a comparison make, measured and shown.

use std::sync::atomic::Ordering;

use super::{ArmScores, Progress, Results, Study, arms};
use crate::Error;
use crate::data::{Dataset, Labels};
use crate::evaluation::{Against, Generator, Visited};
use crate::files::{Tiles, WeightsFile};
use crate::recipe::{NetworkSettings, PostTraining, SamplingConfig};
use crate::report::{Arm, Grid, Picture, evaluations_text};
use crate::sampling::Images;
use crate::sampling::correction::{CorrectionConfig, ScheduleCorrector};

/// Scores of every arm, and the images to show of each.
pub(super) type Measured = (Results, Vec<(Arm, Images)>);

/// Images of the sample grids in the report, at most.
const SHOWN: usize = 40;

/// How the classes of the images that are measured are chosen.
pub(super) const LABELS: Labels = Labels::Reference;

impl<N: NetworkSettings> Study<'_, N> {
    /// Scores of every arm, and the images to show.
    pub(super) fn measure(
        &self,
        post: &PostTraining,
        labels: &[usize],
        arms: &[(Arm, u64, N::Network)],
        against: &Against<'_>,
        tell: &mut impl FnMut(Progress),
    ) -> Result<Option<Measured>, Error> {
        let sampling = &self.recipe.sampling;
        let features = self.measures.features.name().into();
        let mut results = Results { labels: Some(LABELS), features, ..Results::default() };
        let mut shown = Vec::new();
        let controls = arms.iter().filter(|(arm, ..)| *arm == Arm::Standard).count() * (post.lambdas.len() + 1);
        let others = post.other_samplings(sampling)?;
        let sets = arms.len() as u64 * (1 + others.len() as u64) + controls as u64;
        tell(Progress::Begin("sampling and measuring", Some(sets * post.images as u64)));
        let mut done = 0;
        for (arm, seed, network) in arms {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let weights = self.weights_of(*arm, *seed)?;
            let mut score = |sampling: &SamplingConfig, arm: Arm, lambda: f64, first: u64| {
                let factor = CorrectionConfig::ScheduleCorrector(ScheduleCorrector { a: lambda - 1.0, b: 0.0 });
                let scaled = SamplingConfig { correction: Some(factor), ..sampling.clone() };
                let made = if arm == Arm::Control { &scaled } else { sampling };
                let generator = Generator { sampling: made, ..self.generator(network) };
                let visit = &mut |state: Visited<'_>| tell(Progress::Images(done + state.done));
                let images = generator.trajectories(labels, first, visit)?;
                let (measurement, more) = against.measure(&images)?;
                done += labels.len() as u64;
                let (steps, evaluations) = (sampling.sampler.grid.steps(), images.evaluations);
                let (seed, weights) = (*seed, weights.clone());
                let scores = ArmScores { arm, seed, weights, lambda, steps, evaluations, measurement, more };
                Ok::<_, Error>((scores, images))
            };
            let (scores, images) = score(sampling, *arm, 1.0, 0)?;
            results.table.push(scores);
            if *seed == 0 {
                shown.push((*arm, images));
            }
            for other in &others {
                results.others.push(score(other, *arm, 1.0, 0)?.0);
            }
            if *arm == Arm::Standard {
                // The factor is chosen on images from other noise, then measured on the noise that all arms share.
                let mut best = (f64::INFINITY, 1.0);
                for &lambda in &post.lambdas {
                    let (scores, _) = score(sampling, Arm::Control, lambda, post.images as u64)?;
                    let found = scores.measurement.generated.frechet;
                    if found < best.0 {
                        best = (found, lambda);
                    }
                }
                let (scores, images) = score(sampling, Arm::Control, best.1, 0)?;
                results.table.push(scores);
                if *seed == 0 {
                    shown.push((Arm::Control, images));
                }
            }
        }
        shown.sort_by_key(|(arm, _)| *arm);
        Ok(Some((results, shown)))
    }

    /// The hash of the file that an arm was trained to, if it was trained here.
    fn weights_of(&self, arm: Arm, seed: u64) -> Result<Option<String>, Error> {
        let folder = if arm == Arm::Start { "pretraining".into() } else { arms::folder(arm.name(), seed) };
        let file = self.folder.join(folder).join("model.safetensors");
        file.is_file().then(|| Ok(WeightsFile::read(file)?.sha256)).transpose()
    }

    /// The sample grids of the report: real images, then each arm's.
    pub(super) fn grids(&self, real: &dyn Dataset, arms: Vec<(Arm, Images)>) -> Result<Vec<Grid>, Error> {
        let [channels, height, width] = real.shape();
        let tiles = Tiles { columns: real.classes().len().clamp(1, 10), ..Tiles::default() };
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
        let sampler = self.recipe.sampling.describe();
        grids.extend(arms.into_iter().map(|(arm, images)| {
            let evaluations = images.evaluations as u64;
            Grid {
                arm: Some(arm),
                caption: format!("{sampler}, {}", evaluations_text(evaluations, evaluations)),
                picture: picture(&images.pixels),
            }
        }));
        Ok(grids)
    }
}
