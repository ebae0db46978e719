use std::fmt;

use serde::{Deserialize, Serialize};

use super::kernel::{between, within};
use super::{
    DensityCoverage, Error, Features, FrechetReference, Gaussian, Manifold, Slices, density_coverage, variance_ratio,
};
use crate::numbers::{null_as_nan, plus_minus};

/// All numbers of a generated set, with the real-against-real floor beside them.
///
/// # Errors
/// Those of [`Reference::new`] and [`Reference::measure`].
pub fn measure(
    reference: &Features,
    floor_split: &Features,
    generated: &Features,
    options: MeasureOptions,
) -> Result<Measurement, Error> {
    Reference::new(reference, floor_split, options)?.measure(generated)
}

/// What a user may choose about a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureOptions {
    /// The `k` of precision and recall; 3 in the literature.
    pub neighbours: usize,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self { neighbours: 3 }
    }
}

/// The numbers of one set against the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Size of the set.
    pub rows: usize,
    /// [`frechet_distance`](super::frechet_distance).
    pub frechet: f64,
    /// [`kernel_distance`](super::kernel_distance), all pairs.
    pub kernel: f64,
    /// See [`precision_recall`](super::precision_recall).
    pub precision: f64,
    /// See [`precision_recall`](super::precision_recall).
    pub recall: f64,
    /// [`variance_ratio`].
    pub variance_ratio: f64,
    /// [`density_coverage`] with five neighbours, or all there are; NaN where it was not measured.
    #[serde(default = "missing", deserialize_with = "null_as_nan")]
    pub density: f64,
    /// The same.
    #[serde(default = "missing", deserialize_with = "null_as_nan")]
    pub coverage: f64,
    /// [`Slices::distance`] along [`Slices::DIRECTIONS`]; NaN where it was not measured.
    #[serde(default = "missing", deserialize_with = "null_as_nan")]
    pub sliced: f64,
}

fn missing() -> f64 {
    f64::NAN
}

/// Of density and coverage, in the literature.
const DENSITY_NEIGHBOURS: usize = 5;

/// A generated set measured against the reference, and real images in the same way.
///
/// The floor is what a perfect generator would get. It is one for the generated numbers only when both sets have the
/// same size, because a Fréchet distance falls and recall rises with it: see [`Measurement::sizes_match`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Size of the reference.
    pub reference_rows: usize,
    /// Numbers in each feature vector.
    pub columns: usize,
    /// The `k` of precision and recall.
    pub neighbours: usize,
    /// The generated set.
    pub generated: Scores,
    /// Real images, against others of them.
    pub floor: Scores,
    /// How many others: the reference, where the images of the floor are not in it; else the rest of it.
    pub floor_reference_rows: usize,
}

impl Measurement {
    /// Whether generated set and floor are of one size, and so comparable.
    pub fn sizes_match(&self) -> bool {
        self.generated.rows == self.floor.rows
    }
}

/// A small table for a terminal; it says so when the sizes differ.
impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference_rows, columns, neighbours, generated, floor, floor_reference_rows } = self;
        writeln!(f, "against {reference_rows} real images, {columns} features, k = {neighbours}")?;
        writeln!(f, "            images   Fréchet     kernel  precision  recall  variance")?;
        for (name, s) in [("generated", generated), ("real floor", floor)] {
            let [frechet, kernel] = [s.frechet, s.kernel].map(|distance| plus_minus(distance, None));
            write!(f, "{name:<10} {:>7} {frechet:>9} {kernel:>10} ", s.rows)?;
            writeln!(f, "{:>10.3} {:>7.3} {:>9.3}", s.precision, s.recall, s.variance_ratio)?;
        }
        if floor_reference_rows != reference_rows {
            writeln!(f, "the floor: {} of the real images against the other {floor_reference_rows}", floor.rows)?;
        }
        if !self.sizes_match() {
            writeln!(f, "the two sets differ in size: the floor is not one for these numbers")?;
        }
        Ok(())
    }
}

/// A reference and its floor, computed once for any number of generated sets.
#[derive(Clone, Debug)]
pub struct Reference<'a> {
    real: Real<'a>,
    floor: Scores,
    floor_reference_rows: usize,
}

impl<'a> Reference<'a> {
    /// Measures `floor_split`, real images that are not in `reference`, against `reference`.
    ///
    /// Give as many as there will be generated images, and shuffle before splitting: two classes are not a floor for
    /// each other.
    ///
    /// # Errors
    /// [`Error::Width`]; [`Error::TooFewRows`] unless both sets have more rows than `neighbours`, and two at least;
    /// [`Error::Zero`] for zero neighbours; [`Error::ConstantReference`].
    pub fn new(reference: &'a Features, floor_split: &Features, options: MeasureOptions) -> Result<Self, Error> {
        let real = Real::new(reference, options)?;
        let floor = real.scores(floor_split)?;
        Ok(Self { real, floor, floor_reference_rows: reference.rows() })
    }

    /// As [`new`](Self::new) where no real images were held out: generated images are measured against all of `reference`,
    /// and for the floor its rows `floor` against its other rows.
    ///
    /// The floor's reference is the smaller one, so that the floor comes out a little too high.
    ///
    /// # Errors
    /// As [`new`](Self::new), of either part.
    pub fn with_floor_inside(
        reference: &'a Features,
        [floor, others]: [&[usize]; 2],
        options: MeasureOptions,
    ) -> Result<Self, Error> {
        let [floor, others] = [floor, others].map(|rows| reference.select(rows));
        let floor = Real::new(&others, options)?.scores(&floor)?;
        Ok(Self { real: Real::new(reference, options)?, floor, floor_reference_rows: others.rows() })
    }

    /// The numbers of a generated set, and the floor.
    ///
    /// # Errors
    /// [`Error::Width`]; [`Error::TooFewRows`] unless there are more rows than neighbours, and two at least.
    pub fn measure(&self, generated: &Features) -> Result<Measurement, Error> {
        Ok(Measurement {
            reference_rows: self.real.features.rows(),
            columns: self.real.features.columns(),
            neighbours: self.real.manifold.neighbours(),
            generated: self.real.scores(generated)?,
            floor: self.floor,
            floor_reference_rows: self.floor_reference_rows,
        })
    }
}

/// What the scores of any set need of the reference.
#[derive(Clone, Debug)]
struct Real<'a> {
    features: &'a Features,
    frechet: FrechetReference,
    /// Mean kernel of two of its rows.
    kernel: f64,
    manifold: Manifold<'a>,
    density: Manifold<'a>,
    slices: Slices,
}

impl<'a> Real<'a> {
    fn new(features: &'a Features, options: MeasureOptions) -> Result<Self, Error> {
        Ok(Self {
            features,
            frechet: FrechetReference::new(Gaussian::from_features(features)?),
            kernel: within(features)?,
            manifold: Manifold::new(features, options.neighbours)?,
            density: Manifold::new(features, DENSITY_NEIGHBOURS.min(features.rows() - 1))?,
            slices: Slices::new(features, Slices::DIRECTIONS)?,
        })
    }

    fn scores(&self, set: &Features) -> Result<Scores, Error> {
        self.features.same_width(set)?;
        let gaussian = Gaussian::from_features(set)?;
        let shares = self.manifold.precision_recall(set)?;
        let DensityCoverage { density, coverage } = density_coverage(&self.density, set)?;
        Ok(Scores {
            rows: set.rows(),
            frechet: self.frechet.distance(&gaussian)?,
            kernel: self.kernel + within(set)? - 2.0 * between(self.features, set)?,
            precision: shares.precision,
            recall: shares.recall,
            variance_ratio: variance_ratio(self.frechet.gaussian(), &gaussian)?,
            density,
            coverage,
            sliced: self.slices.distance(set)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::noise;
    use super::super::{frechet_distance, kernel_distance, precision_recall};
    use super::*;

    #[test]
    fn agrees_with_the_single_metrics() {
        let (real, floor, generated) = (noise(60, 6, 1), noise(50, 6, 2), noise(50, 6, 3));
        let found = measure(&real, &floor, &generated, MeasureOptions::default()).unwrap();
        assert!(found.sizes_match());
        for (set, scores) in [(&floor, found.floor), (&generated, found.generated)] {
            let gaussians = [&real, set].map(|set| Gaussian::from_features(set).unwrap());
            let shares = precision_recall(&real, set, 3).unwrap();
            assert_eq!(scores.frechet, frechet_distance(&gaussians[0], &gaussians[1]).unwrap());
            assert_eq!(scores.kernel, kernel_distance(&real, set).unwrap());
            assert_eq!((scores.precision, scores.recall), (shares.precision, shares.recall));
            assert_eq!((scores.rows, found.reference_rows, found.neighbours), (50, 60, 3));
        }
    }

    #[test]
    fn a_shrunken_generator_keeps_precision_and_loses_the_rest() {
        let (real, floor, generated) = (noise(300, 8, 1), noise(200, 8, 2), noise(200, 8, 3));
        let shrunken = generated.iter().flatten().map(|x| 0.5 + 0.5 * (x - 0.5)).collect();
        let shrunken = Features::new(200, 8, shrunken).unwrap();
        let reference = Reference::new(&real, &floor, MeasureOptions::default()).unwrap();
        let good = reference.measure(&generated).unwrap();
        let bad = reference.measure(&shrunken).unwrap();
        assert_eq!(good.floor, bad.floor);
        assert!((good.generated.frechet / good.floor.frechet - 1.0).abs() < 0.5);
        assert!(bad.generated.frechet > 3.0 * bad.floor.frechet);
        assert!(bad.generated.precision > bad.floor.precision);
        assert!(bad.generated.recall < 0.5 * bad.floor.recall);
        assert!((bad.generated.variance_ratio - 0.25).abs() < 0.02);
    }

    #[test]
    fn a_floor_of_another_size_is_told() {
        let (real, floor, generated) = (noise(60, 3, 1), noise(50, 3, 2), noise(40, 3, 3));
        let found = measure(&real, &floor, &generated, MeasureOptions { neighbours: 5 }).unwrap();
        assert!(!found.sizes_match());
        assert!(found.to_string().contains("differ in size"), "{found}");
        let read: Measurement = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!((read.generated.rows, read.floor.rows, read.neighbours), (40, 50, 5));
    }

    #[test]
    fn unusable_sets_are_refused() {
        let set = noise(9, 3, 1);
        let flat = Features::new(9, 3, vec![1.0; 27]).unwrap();
        let options = MeasureOptions::default();
        assert!(matches!(measure(&set, &set, &noise(9, 4, 2), options), Err(Error::Width { .. })));
        assert!(matches!(measure(&set, &noise(3, 3, 2), &set, options), Err(Error::TooFewRows { .. })));
        assert!(matches!(measure(&flat, &set, &set, options), Err(Error::ConstantReference { rows: 9 })));
    }
}
