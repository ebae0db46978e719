use std::path::Path;

use mixflow_backbones::inception::{Inception, Resize};

use super::{InceptionFeatures, Statistics, features};
use crate::Error;
use crate::images::ImageSource;
use crate::npz::Npz;

/// One side of a comparison.
///
/// A reference batch of guided-diffusion has both parts, of different sets: its statistics are those of the whole
/// training set, its images, which precision and recall are measured on, only 10,000 of them.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What FID and sFID read.
    pub statistics: Statistics,
    /// What the other metrics read; statistics alone have no images.
    pub features: Option<InceptionFeatures>,
    /// Whether the statistics came from a file, and not from these features.
    pub given_statistics: bool,
}

impl Sample {
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
        let archive = path.extension().is_some_and(|ending| ending == "npz") && !path.is_dir();
        let mut archive = archive.then(|| Npz::open(path)).transpose()?;
        let statistics = match &mut archive {
            Some(archive) if Statistics::are_in(archive) => Some(Statistics::read(archive)?),
            _ => None,
        };
        let features = match (&archive, &statistics) {
            (Some(archive), Some(_)) if !archive.has("arr_0") => None,
            _ => {
                let images = ImageSource::open(path)?;
                let count = images.len();
                Some(features(images, network, resize, |done| progress(done, count))?)
            }
        };
        let given_statistics = statistics.is_some();
        let statistics = match (statistics, &features) {
            (Some(statistics), _) => statistics,
            (None, Some(features)) => features.statistics()?,
            (None, None) => unreachable!("without statistics, images were read"),
        };
        Ok(Self { statistics, features, given_statistics })
    }
}

impl TryFrom<InceptionFeatures> for Sample {
    type Error = Error;

    /// Images that are in memory.
    fn try_from(features: InceptionFeatures) -> Result<Self, Error> {
        Ok(Self { statistics: features.statistics()?, features: Some(features), given_statistics: false })
    }
}
