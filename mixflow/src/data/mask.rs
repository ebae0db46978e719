//! Masks: which parts of an image a loss counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use super::buckets::Size;
use super::resample::{Filter, taps};
use crate::files::decode::upright_size;
use crate::files::listing::{Listing, canonical};

/// Where the masks of images are, as written in a recipe: white counts in full, black not at all, and grey in between.
///
/// A mask is cut, resized and mirrored as its image is. A loss is weighted by it place by place, where a place of a network on
/// latents has the mean of the mask over the pixels that it stands for. An autoencoder that a run trains first learns whole
/// images.
///
/// # Source
/// `--alpha_mask` and `--masked_loss` with `conditioning_data_dir` of kohya-ss/sd-scripts; `-masklabel.png` of `OneTrainer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskConfig {
    /// The alpha channel of an image; one without counts as a whole. Of the colours below it, the network still sees those that
    /// are stored.
    Alpha,
    /// A folder with a mask of the same size and name for each image, in the same sub-folder, whatever both end in.
    Folder(PathBuf),
    /// What the name of a mask ends in, which lies beside its image: of `cat.jpg` it is `cat-masklabel.png` by `-masklabel`, as
    /// `OneTrainer` has it, or `cat.mask.png` by `.mask`.
    Beside(String),
}

impl MaskConfig {
    /// What names of masks end in that lie beside their images.
    pub(super) fn beside(&self) -> Option<&str> {
        match self {
            Self::Beside(ending) => Some(ending),
            Self::Alpha | Self::Folder(_) => None,
        }
    }

    /// Refuses masks among the images, which would be taken for some.
    pub(super) fn check(&self, images: &Path) -> Result<(), Error> {
        if self.beside().is_some_and(|ending| ending.is_empty() || ending.contains(['/', '\\'])) {
            let reason =
                "cannot be told from their images: say what their names end in, such as {\"beside\": \"-masklabel\"}";
            return Err(Error::Mask { path: images.into(), reason: reason.into() });
        }
        let Self::Folder(folder) = self else { return Ok(()) };
        let advice = "expected a directory of masks, an image for each of those that are learned";
        let inside = folder.canonicalize().map_err(|source| Error::Read { path: folder.clone(), advice, source })?;
        match canonical(images).is_ok_and(|images| inside.starts_with(images)) {
            true => {
                Err(Error::Mask { path: folder.clone(), reason: "lie among their images: move them beside".into() })
            }
            false => Ok(()),
        }
    }
}

/// The masks of a list of images.
#[derive(Debug)]
pub(super) enum Masks {
    /// Their alpha channels.
    Alpha,
    /// A file for each of the folder's images, and none for others, of which the alpha channel counts.
    Files(Vec<Option<PathBuf>>),
}

impl Masks {
    /// Those of images below a folder. The heads of all files are read: one of another size than its image is refused, and what
    /// has no head is left to decoding.
    pub(super) fn find(config: &MaskConfig, root: &Path, images: &[PathBuf]) -> Result<Self, Error> {
        let (folder, ending) = match config {
            MaskConfig::Alpha => return Ok(Self::Alpha),
            MaskConfig::Folder(folder) => (folder.as_path(), ""),
            MaskConfig::Beside(ending) => (root, ending.as_str()),
        };
        let fault = |path: &Path, reason: String| Err(Error::Mask { path: path.into(), reason });
        let mut known = BTreeMap::new();
        for mask in Listing::below(folder)?.some_images(folder)? {
            let name = mask.strip_prefix(folder).unwrap_or(&mask).with_extension("");
            let Some(name) = without_ending(name, ending) else { continue };
            if let Some(other) = known.insert(name, mask.clone()) {
                return fault(&mask, format!("stand beside {}, where only one of them can be meant", other.display()));
            }
        }
        let name = |image: &PathBuf| image.strip_prefix(root).unwrap_or(image).with_extension("");
        let own = || images.iter().filter(|image| image.starts_with(root));
        let mut without = own().filter(|image| !known.contains_key(&name(image)));
        if let Some(image) = without.next() {
            let (missing, all) = (1 + without.count(), own().count());
            let reason =
                format!("are not there; expected those of {} ({missing} of {all} images have none)", image.display());
            let name = folder.join(name(image)).into_os_string();
            return fault(
                &PathBuf::from([name, ending.into(), ".png".into()].into_iter().collect::<OsString>()),
                reason,
            );
        }
        let masks: Vec<_> = images.iter().map(|image| known.get(&name(image)).cloned()).collect();
        let other = images.par_iter().zip(&masks).find_map_first(|(image, mask)| {
            let mask = mask.as_ref()?;
            let (own, expected) = (upright_size(mask).ok()?, upright_size(image).ok()?);
            (own != expected).then(|| (mask.clone(), format!("do not fit: {}", other_size(own, expected))))
        });
        other.map_or(Ok(Self::Files(masks)), |(mask, reason)| fault(&mask, reason))
    }

    /// Of the sizes of the files in bytes, where there are any: other masks have others.
    pub(super) fn digest(&self) -> Option<String> {
        let Self::Files(files) = self else { return None };
        let size = |file: &Option<PathBuf>| file.as_ref()?.metadata().ok().map(|found| found.len());
        let sizes: Vec<u64> = files.par_iter().map(|file| size(file).unwrap_or(0)).collect();
        let digest = sizes.iter().fold(Sha256::new(), |digest, size| digest.chain_update(size.to_le_bytes()));
        Some(hex::encode(digest.finalize()))
    }

    /// The file of the mask of an image, where it has one of its own.
    pub(super) fn file(&self, image: usize) -> Option<&Path> {
        match self {
            Self::Alpha => None,
            Self::Files(files) => files[image].as_deref(),
        }
    }
}

/// A name without what it ends in; none where it ends in something else.
fn without_ending(name: PathBuf, ending: &str) -> Option<PathBuf> {
    if ending.is_empty() { Some(name) } else { name.to_str()?.strip_suffix(ending).map(PathBuf::from) }
}

/// What is wrong with a mask whose width and height are not those of its image.
pub(super) fn other_size([width, height]: [u32; 2], [wide, high]: [u32; 2]) -> String {
    format!("{width} x {height} pixels (width, height) are not those of the image, {wide} x {high}")
}

/// The numbers of a mask of that many pixels on another grid: of a coarser one the means over its places.
pub(super) fn on_grid(mask: &[f32], [height, width]: Size, [high, wide]: Size) -> Vec<f32> {
    let [across, down] =
        [(width, wide), (height, high)].map(|(from, to)| taps(Filter::Box, from as u32, to as u32, 0..to as u32));
    let place = |row: usize, column: usize| {
        let (down, across) = (&down[row], &across[column]);
        let row = |(row, weight): (usize, &f64)| {
            let numbers = &mask[(down.first + row) * width + across.first..];
            weight
                * numbers.iter().zip(&across.weights).map(|(number, weight)| f64::from(*number) * weight).sum::<f64>()
        };
        down.weights.iter().enumerate().map(row).sum::<f64>().clamp(0.0, 1.0) as f32
    };
    (0..high)
        .flat_map(|row| (0..wide).map(move |column| (row, column)))
        .map(|(row, column)| place(row, column))
        .collect()
}

#[cfg(test)]
mod tests;
