use std::fmt;
use std::path::{Path, PathBuf};

use mixflow_backbones::autoencoder::TileConfig;
use mixflow_backbones::inception::{Inception, PUBLISHED_SHA256, Resize};
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};

use super::InceptionSet;
use crate::Error;
use crate::data::Labels;
use crate::evaluation::metric::{
    self, Spread, Subset, frechet_distance, inception_score, kernel_distance_subsets, precision_recall,
};
use crate::files::WeightsFile;
use crate::numbers::plus_minus;
use crate::sampling::Rounding;
use crate::sampling::correction::CorrectionConfig;

/// All numbers of a set of images, with everything that they depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InceptionEvaluation {
    /// Fréchet distance of the pool features.
    pub fid: f64,
    /// Fréchet distance of the spatial features.
    pub sfid: Option<f64>,
    /// Of the generated images.
    pub inception_score: Option<Spread>,
    /// Share of generated images that look real, in [0, 1].
    pub precision: Option<f64>,
    /// Share of real images that can be generated, in [0, 1].
    pub recall: Option<f64>,
    /// Kernel distance of the pool features.
    pub kid: Option<Kid>,
    /// What was measured.
    pub generated: Set,
    /// What it was measured against.
    pub reference: Set,
    /// How features were computed.
    pub network: InceptionNetwork,
    /// What the metrics were asked for.
    pub options: EvaluationOptions,
    /// How the images were made.
    pub setting: Setting,
}

/// One of the two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Folder or file, as the caller names it.
    pub name: String,
    /// Images that were read; `None` where only statistics were.
    pub images: Option<usize>,
    /// Whether FID and sFID read statistics that came with the file, of a set that may be another than the images.
    pub given_statistics: bool,
}

/// Kernel distance of random subsets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kid {
    /// Mean over the subsets.
    pub mean: f64,
    /// Population standard deviation over the subsets; none of a single one.
    pub deviation: Option<f64>,
    /// Images of each set in a subset.
    pub subset_size: usize,
}

/// Which network saw the images, and how they were resized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InceptionNetwork {
    /// File of the weights.
    pub weights: PathBuf,
    /// Its hash.
    pub sha256: String,
    /// Whether these are the published weights, so that the numbers can be compared with those of papers.
    pub published: bool,
    /// Which of the two rules.
    pub resize: Resize,
}

impl InceptionNetwork {
    /// Reads weights and says which they are.
    ///
    /// # Errors
    /// If the file cannot be read or holds another network.
    pub fn read(path: &Path, resize: Resize, network: Inception) -> Result<(Self, Inception), Error> {
        let network = network.load(Weights::read(path)?)?;
        let WeightsFile { file: weights, sha256 } = WeightsFile::read(path)?;
        Ok((Self { weights, published: sha256 == PUBLISHED_SHA256, sha256, resize }, network))
    }
}

/// How the images were made, as far as the caller knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// How classes were chosen.
    pub labels: Option<Labels>,
    /// Seed of the noise.
    pub seed: Option<u64>,
    /// Solver and times.
    pub sampler: Option<String>,
    /// Network evaluations for each image.
    pub evaluations: Option<usize>,
    /// Scale and interval.
    pub guidance: Option<String>,
    /// Weights of the weaker network, where the guidance is away from one.
    pub guide: Option<WeightsFile>,
    /// The scale of guidance that the network was told, of one that was distilled from a guided network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled_guidance: Option<f64>,
    /// How the autoencoder decoded piece by piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<TileConfig>,
    /// How their numbers became bytes.
    #[serde(default, skip_serializing_if = "Rounding::is_nearest")]
    pub bytes: Rounding,
    /// The remedy for exposure bias that a recipe's `sampling.correction` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<CorrectionConfig>,
    /// Type of numbers while sampling, such as `f32`.
    pub precision: Option<String>,
    /// Weights of the autoencoder that decoded latents.
    pub autoencoder: Vec<WeightsFile>,
    /// Weights of the network.
    pub checkpoint: Option<WeightsFile>,
}

/// What the metrics may be asked for; the default is what papers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationOptions {
    /// The `k` of precision and recall: 3 (guided-diffusion).
    pub neighbours: usize,
    /// Images in a split of the Inception Score: 5,000 (guided-diffusion).
    pub score_split: usize,
    /// Images in a subset of KID: 1,000 (torch-fidelity), or all where there are fewer.
    pub kid_size: usize,
    /// Subsets of KID: 100 (torch-fidelity), or one where it is all of both sets.
    pub kid_subsets: usize,
    /// Seed of the subsets.
    pub kid_seed: u64,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self { neighbours: 3, score_split: 5000, kid_size: 1000, kid_subsets: 100, kid_seed: 0 }
    }
}

impl EvaluationOptions {
    /// Whether a set that has images has enough of them for every metric.
    ///
    /// # Errors
    /// If it has too few.
    pub fn check(&self, sample: &InceptionSet) -> Result<(), Error> {
        let (needed, metric) = (self.neighbours + 1, "precision and recall");
        match &sample.features {
            Some(features) if features.pool.rows() < needed => {
                Err(metric::Error::TooFewRows { metric, needed, found: features.pool.rows() }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Pairs of images that [`evaluate`] compares for precision and recall: with `n` images it takes time in `n²`.
pub fn evaluation_pairs(reference: &InceptionSet, generated: &InceptionSet) -> u64 {
    let rows = |sample: &InceptionSet| sample.features.as_ref().map_or(0, |features| features.pool.rows() as u64);
    let [real, made] = [reference, generated].map(rows);
    if real == 0 || made == 0 { 0 } else { real * real + made * made + 2 * real * made }
}

/// Measures `generated` against `reference`, both with the name that the result calls them by.
///
/// # Errors
/// If there are too few images for a metric, or the two sides have features of different widths.
pub fn evaluate(
    (reference_name, reference): (&str, &InceptionSet),
    (generated_name, generated): (&str, &InceptionSet),
    network: InceptionNetwork,
    options: EvaluationOptions,
    setting: Setting,
) -> Result<InceptionEvaluation, Error> {
    let spatial = reference.statistics.spatial.as_ref().zip(generated.statistics.spatial.as_ref());
    let pools = reference.features.as_ref().zip(generated.features.as_ref()).map(|(a, b)| (&a.pool, &b.pool));
    let shares = pools.map(|(real, fake)| precision_recall(real, fake, options.neighbours)).transpose()?;
    let kid = pools.map(|(real, fake)| {
        let size = options.kid_size.min(real.rows()).min(fake.rows());
        // All subsets of that size are one.
        let count = if size == real.rows().max(fake.rows()) { options.kid_subsets.min(1) } else { options.kid_subsets };
        let subsets = Subset::draw(real, fake, size, count, options.kid_seed)?;
        let spread = kernel_distance_subsets(real, fake, &subsets)?;
        Ok::<_, Error>(Kid { mean: spread.mean, deviation: spread.known_deviation(), subset_size: size })
    });
    let logits = generated.features.as_ref().and_then(|features| features.logits.as_ref());
    let score = logits.map(|logits| inception_score(logits, options.score_split));
    let set = |name: &str, sample: &InceptionSet| Set {
        name: name.into(),
        images: sample.features.as_ref().map(|features| features.pool.rows()),
        given_statistics: sample.given_statistics,
    };
    Ok(InceptionEvaluation {
        fid: frechet_distance(&reference.statistics.pool, &generated.statistics.pool)?,
        sfid: spatial.map(|(real, fake)| frechet_distance(real, fake)).transpose()?,
        inception_score: score.transpose()?,
        precision: shares.map(|shares| shares.precision),
        recall: shares.map(|shares| shares.recall),
        kid: kid.transpose()?,
        generated: set(generated_name, generated),
        reference: set(reference_name, reference),
        network,
        options,
        setting,
    })
}

/// A small table for a terminal; it says so when the weights are not the published ones.
impl fmt::Display for InceptionEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |set: &Set| set.images.map_or("statistics".into(), |images| format!("{images} images"));
        writeln!(
            f,
            "{} ({}) against {} ({})",
            self.generated.name,
            size(&self.generated),
            self.reference.name,
            size(&self.reference)
        )?;
        let alone = |number: Option<f64>| number.map(|number| plus_minus(number, None));
        let numbers = [
            ("FID", alone(Some(self.fid))),
            ("sFID", alone(self.sfid)),
            (
                "Inception Score",
                self.inception_score.as_ref().map(|score| plus_minus(score.mean, score.known_deviation())),
            ),
            ("precision", alone(self.precision)),
            ("recall", alone(self.recall)),
            ("KID", self.kid.as_ref().map(|kid| plus_minus(kid.mean, kid.deviation))),
        ];
        for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
            writeln!(f, "{name:<16} {number}")?;
        }
        let Setting { labels, seed, evaluations, .. } = &self.setting;
        if let (Some(labels), Some(seed), Some(evaluations)) = (labels, seed, evaluations) {
            writeln!(f, "{evaluations} network evaluations for each image, seed {seed}, {}", labels.describe())?;
        }
        if !self.network.published {
            writeln!(f, "the weights are not the published ones: do not compare these numbers with those of papers")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::inception::{InceptionFeatures, Statistics};
    use crate::evaluation::metric::Gaussian;
    use crate::evaluation::metric::fixture::noise;

    fn sample(rows: usize, seed: u64) -> InceptionSet {
        let spatial = Gaussian::from_features(&noise(rows, 4, seed + 10)).unwrap();
        let logits = Some(noise(rows, 9, seed + 20));
        let features = InceptionFeatures { pool: noise(rows, 6, seed), logits, spatial };
        features.try_into().unwrap()
    }

    fn network(published: bool) -> InceptionNetwork {
        let sha256 = if published { PUBLISHED_SHA256.into() } else { "0".repeat(64) };
        InceptionNetwork { weights: "inception.pth".into(), sha256, published, resize: Resize::Adm }
    }

    fn measured(reference: &InceptionSet, published: bool) -> InceptionEvaluation {
        let setting = Setting { labels: Some(Labels::Balanced), seed: Some(7), ..Setting::default() };
        let options = EvaluationOptions { kid_size: 20, kid_subsets: 5, ..EvaluationOptions::default() };
        evaluate(("real", reference), ("made", &sample(40, 2)), network(published), options, setting).unwrap()
    }

    #[test]
    fn every_number_is_that_of_its_metric() {
        let (real, made) = (sample(50, 1), sample(40, 2));
        let found = measured(&real, true);
        let [a, b] = [&real, &made].map(|sample| sample.features.as_ref().unwrap());
        assert_eq!(found.fid, frechet_distance(&real.statistics.pool, &made.statistics.pool).unwrap());
        assert_eq!(found.sfid, Some(frechet_distance(&a.spatial, &b.spatial).unwrap()));
        assert_eq!(found.inception_score, Some(inception_score(b.logits.as_ref().unwrap(), 5000).unwrap()));
        let shares = precision_recall(&a.pool, &b.pool, 3).unwrap();
        assert_eq!((found.precision, found.recall), (Some(shares.precision), Some(shares.recall)));
        assert_eq!(found.kid.unwrap().subset_size, 20);
        assert_eq!((found.reference.images, found.generated.images), (Some(50), Some(40)));
    }

    #[test]
    fn a_kernel_distance_of_all_images_has_no_spread() {
        // Every subset of 40 of 40 is the same, and its 100 copies would show a spread of 0.
        let real = sample(40, 1);
        let found = measured(&real, true).kid.unwrap();
        assert!(found.subset_size == 20 && found.deviation.unwrap() > 0.0);
        let all = EvaluationOptions::default();
        let sets = (("real", &real), ("made", &sample(40, 2)));
        let found = evaluate(sets.0, sets.1, network(true), all, Setting::default()).unwrap();
        let kid = found.kid.as_ref().unwrap();
        assert_eq!((kid.subset_size, kid.deviation), (40, None));
        let pools = [&real, sets.1.1].map(|sample| &sample.features.as_ref().unwrap().pool);
        let whole = metric::kernel_distance(pools[0], pools[1]).unwrap();
        assert!((kid.mean - whole).abs() < 1e-12, "{kid:?} and {whole}");
        assert!(!found.to_string().contains('±'), "{found}");
        // One split of an inception score deviates from nothing either.
        assert_eq!(found.inception_score.as_ref().unwrap().parts.len(), 1);
    }

    #[test]
    fn what_is_too_small_is_said_before_anything_is_made() {
        let options = EvaluationOptions::default();
        assert!(options.check(&sample(4, 1)).is_ok());
        let error = options.check(&sample(3, 1)).unwrap_err().to_string();
        assert!(error.contains("at least 4 rows, found 3"), "{error}");
    }

    #[test]
    fn statistics_of_pytorch_fid_give_the_distance_and_the_score_alone() {
        let statistics = Statistics { spatial: None, ..sample(50, 1).statistics };
        let found =
            measured(&InceptionSet { statistics, features: None, given_statistics: true, remarks: vec![] }, true);
        assert_eq!(found.fid, measured(&sample(50, 1), true).fid);
        assert_eq!((found.sfid, found.precision, found.recall, &found.kid), (None, None, None, &None));
        assert!(found.inception_score.is_some() && found.reference.given_statistics);
    }

    #[test]
    fn the_result_file_says_what_was_measured() {
        let found = measured(&sample(50, 1), false);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["setting"]["labels"], &json["setting"]["seed"]), (&"balanced".into(), &7.into()));
        assert_eq!(json["network"]["published"], false);
        assert_eq!(serde_json::from_value::<InceptionEvaluation>(json).unwrap(), found);
        assert!(found.to_string().contains("not the published ones"));
        assert!(!measured(&sample(50, 1), true).to_string().contains("not the published ones"));
    }
}
