//! By what images are measured: features of them, and numbers of these.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::Dataset;
use crate::evaluation::metric::{self, Features, MeasureOptions, Measurement, Reference};
use crate::numbers::null_as_nan;
use crate::sampling::Images;

/// Features of images, on which all distances are taken: [`Pixels`],
/// [`PoolFeatures`](crate::evaluation::inception::PoolFeatures), or what one's own network says of them.
///
/// # Example
/// The mean of each channel:
/// ```
/// use mixflow::evaluation::{ImageFeatures, metric::Features};
/// use mixflow::{Error, sampling::Images};
///
/// #[derive(Debug)]
/// struct Colour;
///
/// impl ImageFeatures for Colour {
///     fn name(&self) -> &str {
///         "mean colours"
///     }
///
///     fn features(&self, images: &Images) -> Result<Features, Error> {
///         let [count, channels, height, width] = images.shape;
///         let planes = images.pixels.chunks(height * width);
///         let means = planes.map(|plane| plane.iter().sum::<f32>() / plane.len() as f32).collect::<Vec<_>>();
///         Ok(Features::from_f32(count, channels, &means)?)
///     }
/// }
/// ```
pub trait ImageFeatures: fmt::Debug + Sync {
    /// What they are in a report, such as "pixels", which only those of [`Pixels`] may be called.
    fn name(&self) -> &str;

    /// A row of features of each of at most 64 images, which may depend on that image alone.
    ///
    /// # Shapes
    /// - images: `[count, channels, height, width]`, in [−1, 1] unless the network that made them leaves it
    ///
    /// # Errors
    /// If a feature is not finite; and whatever else is wrong, as [`metric::Error::Other`].
    fn features(&self, images: &Images) -> Result<Features, Error>;
}

/// The pixels themselves, clamped to [−1, 1].
#[derive(Clone, Copy, Debug, Default)]
pub struct Pixels;

impl ImageFeatures for Pixels {
    fn name(&self) -> &str {
        "pixels"
    }

    fn features(&self, images: &Images) -> Result<Features, Error> {
        images.features()
    }
}

pub(crate) fn pixels() -> String {
    Pixels.name().into()
}

pub(crate) fn are_pixels(name: &str) -> bool {
    name == Pixels.name()
}

/// Which values of a measure are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Best {
    /// Smaller is better.
    Low,
    /// Larger is better.
    High,
    /// The nearer to 1 the better.
    One,
}

/// A number of generated images, from their features and those of the real ones that they are compared with.
#[derive(Clone)]
pub struct Measure {
    name: String,
    best: Best,
    of: Arc<Function>,
}

type Function = dyn Fn(&Features, &Features) -> Result<f64, metric::Error> + Send + Sync;

impl Measure {
    /// `of` takes the features of generated images, then those of real ones; it sees no images. What it cannot do is a
    /// [`metric::Error::Other`].
    pub fn new(
        name: impl Into<String>,
        best: Best,
        of: impl Fn(&Features, &Features) -> Result<f64, metric::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), best, of: Arc::new(of) }
    }
}

impl fmt::Debug for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, best, .. } = self;
        f.debug_struct("Measure").field("name", name).field("best", best).finish_non_exhaustive()
    }
}

/// What a [`Measure`] found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the measure.
    pub name: String,
    /// Which values of it are good.
    pub best: Best,
    /// Of the generated images; NaN where there is no number.
    #[serde(deserialize_with = "null_as_nan")]
    pub generated: f64,
    /// The same of real images that are not among those compared with.
    #[serde(deserialize_with = "null_as_nan")]
    pub floor: f64,
    /// What the measures are of that stand in a table of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// By what images are measured: the Fréchet and the kernel distance, precision, recall and the variance ratio of
/// `features`, and whatever is in `more`, of the same features: pixels and others are two tables. The default are pixels alone.
#[derive(Clone, Debug)]
pub struct Measures<'a> {
    /// What all measures see of images.
    pub features: &'a dyn ImageFeatures,
    /// One's own.
    pub more: Vec<Measure>,
}

impl Default for Measures<'_> {
    fn default() -> Self {
        Self { features: &Pixels, more: vec![] }
    }
}

/// Images whose features are taken at a time.
const BATCH: usize = 64;

impl Measures<'_> {
    /// Numbers of an image of this shape.
    pub(crate) fn columns(&self, [channels, height, width]: [usize; 3]) -> Result<usize, Error> {
        let pixels = channels * height * width;
        if are_pixels(self.features.name()) {
            return Ok(pixels);
        }
        let black = Images { pixels: vec![-1.0; pixels], shape: [1, channels, height, width], ..Images::default() };
        Ok(self.features.features(&black)?.columns())
    }

    /// Features of the first `count` images of a source, in its own order; `progress` hears how many were read.
    pub(crate) fn of_data(
        &self,
        data: &dyn Dataset,
        count: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Features, Error> {
        let [channels, height, width] = data.shape();
        let batches = (0..count).step_by(BATCH).map(|first| {
            let examples = (first..count).take(BATCH).map(|index| Ok(data.example(index)?.pixels));
            let examples = examples.collect::<Result<Vec<_>, Error>>()?;
            let shape = [examples.len(), channels, height, width];
            Ok(Images { pixels: examples.concat(), shape, ..Images::default() })
        });
        self.of_batches(batches, count as usize, progress)
    }

    /// Features of `count` images in batches.
    pub(crate) fn of_batches(
        &self,
        batches: impl Iterator<Item = Result<Images, Error>>,
        count: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Features, Error> {
        let (mut values, mut rows, mut columns) = (Vec::new(), 0, 1);
        for images in batches {
            let found = self.features.features(&images?).map_err(|error| match error {
                Error::Metric(metric::Error::NonFinite { row, column, value }) => {
                    Error::Metric(metric::Error::NonFinite { row: rows + row, column, value })
                }
                other => other,
            })?;
            if rows == 0 {
                columns = found.columns();
                values.reserve_exact(count * columns);
            }
            rows += found.rows();
            values.extend(found.iter().flatten());
            progress(rows as u64);
        }
        Ok(Features::new(rows, columns, values)?)
    }

    /// Features of images that were drawn.
    pub(crate) fn of_images(&self, images: &Images) -> Result<Features, Error> {
        let [count, channels, height, width] = images.shape;
        let batches = images.pixels.chunks(BATCH * channels * height * width).map(|pixels| {
            let shape = [pixels.len() / (channels * height * width), channels, height, width];
            Ok(Images { pixels: pixels.to_vec(), shape, ..*images })
        });
        self.of_batches(batches, count, &mut |_| {})
    }

    /// What generated images are held against: real ones, and for the floor others of them.
    pub(crate) fn against<'a>(&'a self, real: &'a Features, floor: &Features) -> Result<Against<'a>, Error> {
        let reference = Reference::new(real, floor, MeasureOptions::default())?;
        let floor = self.more.iter().map(|measure| (measure.of)(floor, real)).collect::<Result<_, _>>()?;
        Ok(Against { measures: self, reference, real, floor })
    }
}

/// Real images that any number of generated sets are held against.
pub(crate) struct Against<'a> {
    measures: &'a Measures<'a>,
    reference: Reference<'a>,
    real: &'a Features,
    /// Of each measure of one's own.
    floor: Vec<f64>,
}

impl Against<'_> {
    /// All numbers of generated images.
    pub(crate) fn measure(&self, images: &Images) -> Result<(Measurement, Vec<Measured>), Error> {
        let generated = self.measures.of_images(images)?;
        let measurement = self.reference.measure(&generated)?;
        let measured = self.measures.more.iter().zip(&self.floor).map(|(Measure { name, best, of }, &floor)| {
            Ok(Measured { name: name.clone(), best: *best, generated: of(&generated, self.real)?, floor, group: None })
        });
        Ok((measurement, measured.collect::<Result<_, metric::Error>>()?))
    }
}
