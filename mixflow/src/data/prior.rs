//! Prior preservation: images of a class that are learned beside those of one instance of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bucket_order::Members;
use super::image_captions::ImageCaptions;
use super::order::{index_at, shuffled};
use super::{CaptionFormat, Dataset, Error, Example, Fingerprint, Variation};
use crate::error::data::DRAW_PRIOR;
use crate::files::listing::{Listing, canonical};
use crate::numbers::counted;
use crate::random::Stream;

/// Which images keep a network's idea of a class, as written in a recipe: every other image of a batch is one of them.
///
/// Their loss counts `weight` times that of the others: a step minimises the mean over the instance's images plus `weight` times
/// the mean over the prior ones.
///
/// # Source
/// Ruiz et al. 2022, `DreamBooth` (arXiv 2208.12242), section 3.2 and equation 2; `--with_prior_preservation`,
/// `--class_data_dir`, `--class_prompt` and `--prior_loss_weight` of `diffusers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// What each of them is told, such as "a photo of a dog", and no other image.
    pub caption: String,
    /// A directory of them, beside the other one; none: those of the data that have this caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// From 0 on; 1 unless it is said.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// How many images of a source are there to be learned for their own sake, the first ones: those for prior preservation are not.
pub fn own_len(data: &dyn Dataset) -> Option<u64> {
    data.prior().map_or(data.len(), |prior| Some(prior.first))
}

impl PriorConfig {
    /// What is wrong with it, if anything.
    pub(super) fn check(&self, images: &Path) -> Result<(), Error> {
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(fault(format!("has a weight that must be 0 or above, found {}", self.weight)));
        }
        let Some(path) = &self.path else { return Ok(()) };
        let advice = "data.prior.path must be a directory of images of the class";
        let prior = path.canonicalize().map_err(|source| Error::Read { path: path.clone(), advice, source })?;
        let images = canonical(images)?;
        if prior.starts_with(&images) || images.starts_with(&prior) {
            let reason = format!("has the images of {} among those of data.path: move them beside", path.display());
            return Err(fault(reason));
        }
        Ok(())
    }

    /// What they are told.
    fn captions(&self) -> ImageCaptions {
        CaptionFormat::Whole.of_text(&self.caption)
    }

    /// Those of another directory than that of `own` images, without the masks that lie beside them.
    pub(super) fn images(
        &self,
        path: &Path,
        own: &[(PathBuf, ImageCaptions)],
        masks: Option<&str>,
    ) -> Result<Vec<(PathBuf, ImageCaptions)>, Error> {
        let own_captions = self.captions();
        let is_told = |(_, captions): &&(PathBuf, ImageCaptions)| {
            captions.0.iter().any(|(caption, _)| *caption == own_captions.0[0].0)
        };
        if let Some((file, _)) = own.iter().find(is_told) {
            let reason = format!("has the caption of an image of data.path, {}: {:?}", file.display(), self.caption);
            return Err(fault(reason));
        }
        let files = Listing::without_masks(masks).and_below(path)?.images;
        match files.is_empty() {
            true => Err(fault(format!("has no images in {}: {DRAW_PRIOR}", path.display()))),
            false => Ok(files.into_iter().map(|file| (file, own_captions.clone())).collect()),
        }
    }

    /// The class of the prior images among those of the data.
    pub(super) fn label(&self, classes: &[String]) -> Result<usize, Error> {
        let own_captions = self.captions();
        let label = classes.iter().position(|class| *class == own_captions.0[0].0);
        label.ok_or_else(|| fault(format!("has a caption that no image has, {:?}: {DRAW_PRIOR}", self.caption)))
    }
}

fn fault(reason: String) -> Error {
    Error::Prior { reason }
}

/// Which examples of a data set are there for prior preservation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// The first of them; all others follow it.
    pub first: u64,
    /// How often their loss counts.
    pub weight: f64,
}

impl Prior {
    /// The example at a training position, of `len` altogether: an instance's at even ones, a prior one at odd ones.
    pub(super) fn index_at(&self, seed: u64, position: u64, len: u64) -> u64 {
        let number = position / 2;
        match position % 2 {
            0 => index_at(seed, number, Some(self.first)),
            _ => self.first + shuffled(seed, Stream::Prior, number, len - self.first),
        }
    }

    /// The factor of the loss at a training position, with which the mean over all is the sum of two means.
    pub(super) fn weight_at(&self, position: u64) -> f32 {
        match position % 2 {
            0 => 2.0,
            _ => (2.0 * self.weight) as f32,
        }
    }
}

/// The instance's examples of a data set, then the prior ones.
#[derive(Debug)]
pub(super) struct WithPrior {
    data: Arc<dyn Dataset>,
    order: Vec<u64>,
    prior: Prior,
    caption: String,
}

impl WithPrior {
    /// Of a finite set, whose `label` says an example's class without reading it.
    ///
    /// # Errors
    /// If there are none of one kind, or none for prior preservation of a size that others have.
    pub(super) fn new(
        data: Arc<dyn Dataset>,
        config: &PriorConfig,
        label: impl Fn(u64) -> Result<usize, Error>,
    ) -> Result<Self, Error> {
        let own = config.label(data.classes())?;
        let labels = (0..data.len().unwrap_or(0)).map(label).collect::<Result<Vec<_>, _>>()?;
        let (prior, mut order): (Vec<u64>, Vec<u64>) =
            (0..labels.len() as u64).partition(|index| labels[*index as usize] == own);
        let prior_of = Prior { first: order.len() as u64, weight: config.weight };
        match [order.is_empty(), prior.is_empty()] {
            [true, _] => return Err(fault(format!("has the caption of every image, {:?}", config.caption))),
            [_, true] => return Err(fault(format!("has a caption of which no image is left: {DRAW_PRIOR}"))),
            _ => order.extend(prior),
        }
        let found = Self { data, order, prior: prior_of, caption: config.caption.clone() };
        Members::of(&found).map_or(Ok(()), |members| members.check(found.buckets()))?;
        Ok(found)
    }

    fn index(&self, index: u64) -> u64 {
        self.order[index as usize]
    }
}

impl Dataset for WithPrior {
    fn len(&self) -> Option<u64> {
        Some(self.order.len() as u64)
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.data.shape()
    }

    fn buckets(&self) -> &[[usize; 3]] {
        self.data.buckets()
    }

    fn bucket(&self, index: u64) -> usize {
        self.data.bucket(self.index(index))
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        self.data.example(self.index(index))
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        self.data.label(self.index(index))
    }

    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        self.data.variant(self.index(index), variation)
    }

    fn prior(&self) -> Option<Prior> {
        Some(self.prior)
    }

    fn masked(&self) -> bool {
        self.data.masked()
    }

    fn several_captions(&self) -> bool {
        self.data.several_captions()
    }

    fn features(&self) -> Vec<[usize; 2]> {
        self.data.features()
    }

    fn broken(&self) -> Vec<PathBuf> {
        self.data.broken()
    }

    fn remarks(&self) -> Vec<String> {
        self.data.remarks()
    }

    /// Which are which, and how to make more where there are fewer prior images than others.
    fn notices(&self) -> Vec<String> {
        let (first, all) = (self.prior.first, self.order.len() as u64);
        let [instance, prior] = [first, all - first].map(|count| counted(count, "image"));
        let line = format!("every other image of a batch is one of {prior} told {:?}, beside {instance}", self.caption);
        let few = (all - first < first).then(|| {
            format!("there are fewer prior images than others, so that each is seen more often: {DRAW_PRIOR}")
        });
        let unseen = Members::of(self).map_or(0, |members| members.unseen() as u64);
        let unseen = (unseen > 0).then(|| {
            format!("{} of a size that no other image has: not seen in training", counted(unseen, "prior image"))
        });
        self.data.notices().into_iter().chain([line]).chain(few).chain(unseen).collect()
    }

    fn stamp(&self) -> Option<String> {
        self.data.stamp()
    }

    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        self.data.fingerprint()
    }
}

#[cfg(test)]
mod tests;
