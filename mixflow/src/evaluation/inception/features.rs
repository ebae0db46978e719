use burn::tensor::{Tensor, TensorData};
use mixflow_backbones::inception::{Inception, Resize, SIDE};
use rayon::prelude::*;

use super::Statistics;
use crate::Error;
use crate::evaluation::ImageFeatures;
use crate::evaluation::metric::{Features, Gaussian, GaussianAccumulator};
use crate::files::images::ByteImage;
use crate::sampling::Images;

/// What the metrics read of a set of images. 50,000 images take 1.2 GB, as a reference 0.8 GB.
#[derive(Clone, Debug)]
pub struct InceptionFeatures {
    /// `[images, 2048]`
    pub pool: Features,
    /// Without bias, `[images, 1008]`; none of a reference, of which no metric reads them.
    pub logits: Option<Features>,
    /// Of the spatial features, 2023 for each image.
    pub spatial: Gaussian,
}

impl InceptionFeatures {
    /// Mean and covariance of both kinds of features.
    ///
    /// # Errors
    /// Below two images.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        Ok(Statistics { pool: Gaussian::from_features(&self.pool)?, spatial: Some(self.spatial.clone()) })
    }
}

/// Pool features of an Inception network, by which a comparison or an evaluation can measure images in the place of pixels.
#[derive(Debug)]
pub struct PoolFeatures<'a> {
    /// The network.
    pub network: &'a Inception,
    /// How it gets images of other sizes.
    pub resize: Resize,
}

impl ImageFeatures for PoolFeatures<'_> {
    fn name(&self) -> &str {
        "Inception’s pool features"
    }

    fn features(&self, images: &Images) -> Result<Features, Error> {
        let images: Vec<ByteImage> = images.byte_images().collect();
        let mut values = Vec::with_capacity(images.len() * POOL);
        for batch in images.chunks(BATCH) {
            let [pool, ..] = run(batch, self.network, self.resize)?;
            values.extend(pool.iter().flatten());
        }
        Ok(Features::new(images.len(), POOL, values)?)
    }
}

/// Images that pass through the network together. Fixed, and the last batch is filled up: how a product is summed may
/// depend on its size, and so no number here depends on anybody's batch.
const BATCH: usize = 8;

/// Width of the pool features.
pub(super) const POOL: usize = 2048;

/// Width of the spatial features.
pub(super) const SPATIAL: usize = 7 * 17 * 17;

/// Number of logits.
pub(super) const LOGITS: usize = 1008;

const WIDTHS: [usize; 3] = [POOL, LOGITS, SPATIAL];

/// Runs all images through the network; `progress` gets the number of those that are done.
///
/// # Errors
/// If an image cannot be read, a feature is not finite, or there are fewer than two images.
pub fn features(
    images: impl IntoIterator<Item = Result<ByteImage, Error>>,
    network: &Inception,
    resize: Resize,
    progress: impl FnMut(usize),
) -> Result<InceptionFeatures, Error> {
    run_all(images, network, resize, Some(vec![]), vec![], progress)
}

/// The same of a reference of `count` images.
pub(super) fn reference_features(
    images: impl IntoIterator<Item = Result<ByteImage, Error>>,
    count: usize,
    network: &Inception,
    resize: Resize,
    progress: impl FnMut(usize),
) -> Result<InceptionFeatures, Error> {
    run_all(images, network, resize, None, Vec::with_capacity(count * POOL), progress)
}

/// Runs all images through the network, and keeps the logits where there is room for them.
fn run_all(
    images: impl IntoIterator<Item = Result<ByteImage, Error>>,
    network: &Inception,
    resize: Resize,
    mut logits: Option<Vec<f64>>,
    mut pool: Vec<f64>,
    mut progress: impl FnMut(usize),
) -> Result<InceptionFeatures, Error> {
    let [width, classes, spatial] = WIDTHS;
    let mut spatial = GaussianAccumulator::new(spatial);
    let mut count = 0;
    let mut images = images.into_iter();
    loop {
        let batch = images.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            break;
        }
        count += batch.len();
        let outputs = run(&batch, network, resize)?;
        pool.extend(outputs[0].iter().flatten());
        if let Some(logits) = &mut logits {
            logits.extend(outputs[1].iter().flatten());
        }
        spatial.update(&outputs[2])?;
        progress(count);
    }
    Ok(InceptionFeatures {
        pool: Features::new(count, width, pool)?,
        logits: logits.map(|logits| Features::new(count, classes, logits)).transpose()?,
        spatial: spatial.finish()?,
    })
}

/// Pool features, logits and spatial features of up to [`BATCH`] images.
fn run(images: &[ByteImage], network: &Inception, resize: Resize) -> Result<[Features; 3], Error> {
    let mut pixels: Vec<f32> =
        images.par_iter().flat_map_iter(|image| resize.input(&image.bytes, image.shape)).collect();
    pixels.resize(BATCH * 3 * SIDE * SIDE, 0.0);
    let device = network.fc.weight.val().device();
    let activations = network.forward(Tensor::from_data(TensorData::new(pixels, [BATCH, 3, SIDE, SIDE]), &device));
    let pool = activations.pool();
    let logits = network.unbiased_logits(pool.clone());
    let spatial = activations.spatial.flatten(1, 3);
    let [pool, logits, spatial] = [pool, logits, spatial].map(|output: Tensor<2>| {
        let columns = output.dims()[1];
        let values: Vec<f64> = output.into_data().iter::<f64>().take(images.len() * columns).collect();
        Features::new(images.len(), columns, values)
    });
    Ok([pool?, logits?, spatial?])
}
