use std::path::Path;

use mixflow_backbones::Backbone;
use mixflow_backbones::inception::{Inception, Resize};

use super::features::{LOGITS, POOL, SPATIAL, reference_features};
use super::{InceptionFeatures, Statistics, features};
use crate::data::Dataset;
use crate::evaluation::decoded::decoded;
use crate::evaluation::{Decoder, Generator};
use crate::files::images::ImageSource;
use crate::files::npz::Npz;
use crate::numbers::counted;
use crate::sampling::Images;
use crate::{Error, check_memory, device};

/// One side of a comparison.
///
/// A reference batch of guided-diffusion has both parts, of different sets: its statistics are those of the whole
/// training set, its images, which precision and recall are measured on, only 10,000 of them.
#[derive(Clone, Debug)]
pub struct InceptionSet {
    /// What FID and sFID read.
    pub statistics: Statistics,
    /// What the other metrics read; statistics alone have no images.
    pub features: Option<InceptionFeatures>,
    /// Whether the statistics came from a file, and not from these features.
    pub given_statistics: bool,
    /// Lines to tell the user of the images: which files are broken and why, and what of others is not in the bytes.
    pub remarks: Vec<String>,
}

impl InceptionSet {
    /// Reads a folder of images, an archive of images, of statistics, or of both. `progress` gets the number of images
    /// that went through the network, and how many there are.
    ///
    /// # Errors
    /// If the path holds neither, or something damaged.
    pub fn read(
        path: &Path,
        network: &Inception,
        resize: Resize,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let (statistics, images) = open(path)?;
        let mut read = None;
        let mut remarks: Vec<String> =
            statistics.iter().filter_map(|statistics| other_rule(path, statistics, resize)).collect();
        if let Some(mut images) = images {
            let count = images.len();
            read = Some(features(&mut images, network, resize, |done| progress(done, count))?);
            remarks.extend(images.remarks());
        }
        let features = read;
        let given_statistics = statistics.is_some();
        let statistics = match (statistics, &features) {
            (Some(statistics), _) => statistics,
            (None, Some(features)) => features.statistics()?,
            (None, None) => unreachable!("without statistics, images were read"),
        };
        Ok(Self { statistics, features, given_statistics, remarks })
    }

    /// What [`read`](Self::read) would say of a path before it sees an image: whether there are any, and of statistics
    /// whether they are of Inception's features.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn check(path: &Path) -> Result<(), Error> {
        open(path).map(drop)
    }

    /// The first `count` images of training data, as a reference, which a decoder on the device of the network makes of stored
    /// latents.
    ///
    /// # Errors
    /// If their features do not fit memory, an image cannot be read, or there are fewer than two.
    pub fn of_data(
        data: &dyn Dataset,
        count: usize,
        decoder: Option<Decoder<'_>>,
        network: &Inception,
        resize: Resize,
        progress: impl FnMut(usize),
    ) -> Result<Self, Error> {
        Self::check_data(count as u64, 0)?;
        if let Some(decoder) = decoder {
            let device = device::of(network);
            let images = decoded(data, count as u64, decoder, &device).flat_map(|images| match images {
                Ok(images) => images.byte_images().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            });
            return reference_features(images, count, network, resize, progress)?.try_into();
        }
        let [channels, height, width] = data.shape();
        let image = |index| {
            let pixels = data.example(index)?.pixels;
            let image = Images { pixels, shape: [1, channels, height, width], ..Images::default() };
            let bytes = image.byte_images().next();
            Ok(bytes.expect("one image was put in"))
        };
        let images = (0..count as u64).map(image);
        let sample = reference_features(images, count, network, resize, progress)?.try_into()?;
        Ok(Self { remarks: data.remarks(), ..sample })
    }

    /// Whether features of `count` images of the training data and of `generated` ones fit memory.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn check_data(count: u64, generated: u64) -> Result<(), Error> {
        let what = || {
            let images = counted(count, "image");
            format!("features of {images} of the training data (name a published reference instead, with --against)")
        };
        let [pool, logits] = [POOL, LOGITS].map(|width| width as u64);
        check_memory(what, &[count.saturating_add(generated).saturating_mul(pool) + generated * logits, 8])
    }

    /// One generated image a label, and the network evaluations of each. Only a batch of them is held at a time.
    ///
    /// # Errors
    /// If sampling fails, or there are fewer than two labels.
    pub fn generated<B: Backbone>(
        generator: &Generator<'_, B>,
        labels: &[usize],
        network: &Inception,
        resize: Resize,
        progress: impl FnMut(usize),
    ) -> Result<(Self, usize), Error> {
        let mut evaluations = 0;
        let features = generator.batches(labels, 0, &mut |_| {}, |batches| {
            let images = batches.flat_map(|images| match images {
                Ok(images) => {
                    evaluations = evaluations.max(images.evaluations);
                    images.byte_images().map(Ok).collect()
                }
                Err(error) => vec![Err(error)],
            });
            features(images, network, resize, progress)
        })?;
        Ok((features.try_into()?, evaluations))
    }
}

/// What to tell of given statistics that are probably of images that were resized by the other rule: pytorch-fid writes no
/// spatial features, guided-diffusion does.
fn other_rule(path: &Path, statistics: &Statistics, resize: Resize) -> Option<String> {
    let (has, writer, rule) = match (&statistics.spatial, resize) {
        (None, Resize::Adm) => ("no", "pytorch-fid", "pytorch-fid"),
        (Some(_), Resize::PytorchFid) => ("also", "guided-diffusion", "adm"),
        _ => return None,
    };
    Some(format!(
        "{} has {has} statistics of spatial features, as {writer} writes them, whose images were resized by another rule: \
         unless they were not, the numbers are only right with --resize {rule}",
        path.display()
    ))
}

/// The statistics in a path and its images, of which there is one at least.
fn open(path: &Path) -> Result<(Option<Statistics>, Option<ImageSource>), Error> {
    let archive = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz")) && !path.is_dir();
    let mut archive = archive.then(|| Npz::open(path)).transpose()?;
    let statistics = match &mut archive {
        Some(archive) if Statistics::are_in(archive) => Some(Statistics::read(archive)?),
        _ => None,
    };
    if let Some(Statistics { pool, spatial }) = &statistics {
        for (name, found, expected) in [("mu", Some(pool), POOL), ("mu_s", spatial.as_ref(), SPATIAL)] {
            if let Some(found) = found.map(|gaussian| gaussian.mean().len()).filter(|found| *found != expected) {
                let reason = format!("{name}: expected {expected} features, as Inception gives, found {found}");
                return Err(Error::array(path, reason));
            }
        }
    }
    let images = match (&archive, &statistics) {
        (Some(archive), Some(_)) if !archive.has("arr_0") => None,
        _ => Some(ImageSource::open(path)?),
    };
    Ok((statistics, images))
}

impl TryFrom<InceptionFeatures> for InceptionSet {
    type Error = Error;

    /// Images that are in memory.
    fn try_from(features: InceptionFeatures) -> Result<Self, Error> {
        let statistics = features.statistics()?;
        Ok(Self { statistics, features: Some(features), given_statistics: false, remarks: vec![] })
    }
}
