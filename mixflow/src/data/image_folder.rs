//! A directory of images.

mod class_names;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::buckets::{BucketConfig, Buckets};
use super::captions::{Captioned, captioned};
use super::crop::{Crop, Cropped, MaskOf, crop};
use super::image_captions::{CaptionFormat, CaptionNumbers, several};
use super::mask::Masks;
use super::{
    Dataset, Error, Example, Fingerprint, LARGEST, MaskConfig, PriorConfig, Variation, checked_size, shape_in_training,
};
use crate::files::decode::{Tally, read, upright_size};
use crate::files::digest;
use crate::files::listing::{Listing, canonical, kinds};
use crate::numbers::counted;
use crate::random::{self, Stream};
use class_names::odd_classes;

/// What to do about an image that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBroken {
    /// Fail, naming the file.
    #[default]
    Refuse,
    /// Show the next readable image of its class instead, of images with captions the next one and its caption, and list the file
    /// in [`Dataset::broken`]. Such an image's [`Dataset::label`] is found by decoding it.
    Skip,
}

/// Images in class sub-directories, or with captions, centre-cropped to a square.
///
/// The sub-directories of the path are the classes, ordered by name. Each holds PNG, JPEG or WebP files, at any depth,
/// ordered by path: found by the endings .png, .jpg, .jpeg and .webp, told apart by their content. Names that start
/// with a dot are ignored, symbolic links are followed. Images are decoded when asked for, as
/// [the data module](super#image-files) says, and cut by [`center_crop`](super::center_crop).
#[derive(Debug)]
pub struct ImageFolder {
    path: PathBuf,
    size: usize,
    /// Shorter side before a random square is cut.
    random_crop: Option<usize>,
    /// In training, the sizes of all images.
    buckets: Option<Buckets>,
    masks: Option<Masks>,
    /// Of each image, where some have several.
    captions: Vec<Vec<(usize, f64)>>,
    on_broken: OnBroken,
    captioned: bool,
    /// The class of images for prior preservation, and where they lie, if that is elsewhere.
    prior: Option<usize>,
    prior_path: Option<PathBuf>,
    classes: Vec<String>,
    /// Class `c` has the files `starts[c]..starts[c + 1]`.
    starts: Vec<usize>,
    files: Vec<PathBuf>,
    notices: Vec<String>,
    /// Indices of files found broken, and what is wrong with them.
    broken: Mutex<BTreeMap<usize, String>>,
    tally: Mutex<Tally>,
}

impl ImageFolder {
    /// Lists the images below `path`, to be shown at `size × size` pixels and three channels.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096, a directory cannot be listed, there are no classes, a class has no images or a name
    /// that is not UTF-8, or symbolic links form a loop.
    pub fn open(path: &Path, size: usize, on_broken: OnBroken) -> Result<Self, Error> {
        Self::with_classes(path, size, on_broken, None)
    }

    /// The same with a mask for each image, if they have some.
    pub(super) fn with_classes(
        path: &Path,
        size: usize,
        on_broken: OnBroken,
        mask: Option<&MaskConfig>,
    ) -> Result<Self, Error> {
        let mut folder = Self::empty(path, size, on_broken)?;
        let mut listing = Listing::without_masks(mask.and_then(MaskConfig::beside));
        let entries = listing.entries(path)?;
        let (directories, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
        if directories.is_empty() {
            return Err(Error::NoClasses { path: path.to_owned(), found: kinds(&files) });
        }
        for directory in directories {
            let name = directory.file_name().and_then(OsStr::to_str).map(str::to_owned);
            folder.classes.push(name.ok_or_else(|| Error::NotUtf8 { path: directory.clone() })?);
            let mut above = vec![canonical(path)?];
            let others = listing.others.len();
            listing.add_below(&directory, &mut above)?;
            if folder.starts.last() == Some(&listing.images.len()) {
                return Err(Error::EmptyClass { path: directory, found: kinds(&listing.others[others..]) });
            }
            folder.starts.push(listing.images.len());
        }
        folder.files = std::mem::take(&mut listing.images);
        files.into_iter().for_each(|file| listing.add(file));
        folder.notices = listing.passed_over();
        if let Some(first) = listing.images.first() {
            let images = counted(listing.images.len() as u64, "image");
            folder.notices.push(format!("passed over {images} in no class, the first {}", first.display()));
        }
        folder.notices.extend(odd_classes(path, &folder.classes));
        folder.masked_by(mask)
    }

    /// Lists the images at any depth below `path` by their captions, which are the classes: all different ones, ordered.
    ///
    /// Captions stand in `metadata.jsonl`, a line `{"file_name": "cat.png", "text": "a cat"}` for each image, or in a file
    /// of each image's name with the ending .txt beside it. White space in them counts as one space. Several captions of an image
    /// are a list `["a cat", "my cat"]` in the table, perhaps with `"weights": [3, 1]`, or as `format` says; the first of them is
    /// its class, and [`Example::label_at`] takes one at a time.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096, a directory or a caption cannot be read, an image is without one or there are none.
    pub fn captioned(path: &Path, size: usize, on_broken: OnBroken, format: CaptionFormat) -> Result<Self, Error> {
        Self::with_captions(path, size, on_broken, format, None, None)
    }

    /// The same with a mask for each image, and with the images of a class, which may lie in another directory.
    pub(super) fn with_captions(
        path: &Path,
        size: usize,
        on_broken: OnBroken,
        format: CaptionFormat,
        mask: Option<&MaskConfig>,
        prior: Option<&PriorConfig>,
    ) -> Result<Self, Error> {
        let empty = Self::empty(path, size, on_broken)?;
        let Captioned { mut images, notices } = captioned(path, format, mask.and_then(MaskConfig::beside))?;
        let prior_path = prior.and_then(|prior| prior.path.clone());
        if let (Some(prior), Some(path)) = (prior, &prior_path) {
            images.extend(prior.images(path, &images, mask.and_then(MaskConfig::beside))?);
        }
        let mut captions = CaptionNumbers::default();
        let numbered = |(file, told)| {
            captions.add(told);
            file
        };
        let files: Vec<PathBuf> = images.into_iter().map(numbered).collect();
        let (classes, captions) = captions.classes();
        let mut images: Vec<_> = files.into_iter().zip(captions).collect();
        images.sort_by(|(a, of), (b, others)| (of[0].0, a).cmp(&(others[0].0, b)));
        let starts = (0..=classes.len()).map(|class| images.partition_point(|(_, of)| of[0].0 < class)).collect();
        let (files, captions): (_, Vec<_>) = images.into_iter().unzip();
        let prior = prior.map(|prior| prior.label(&classes)).transpose()?;
        let captions = several(captions);
        Self { captioned: true, captions, classes, starts, files, notices, prior, prior_path, ..empty }.masked_by(mask)
    }

    /// One that holds nothing yet.
    fn empty(path: &Path, size: usize, on_broken: OnBroken) -> Result<Self, Error> {
        Ok(Self {
            path: path.into(),
            size: checked_size(size)?,
            random_crop: None,
            buckets: None,
            masks: None,
            captions: vec![],
            on_broken,
            captioned: false,
            prior: None,
            prior_path: None,
            classes: vec![],
            starts: vec![0],
            files: vec![],
            notices: vec![],
            broken: Mutex::default(),
            tally: Mutex::default(),
        })
    }

    /// In training, resizes images to this shorter side and cuts a random square, [`random_crop`](super::random_crop), instead of the central
    /// one.
    ///
    /// # Errors
    /// If it is below the size of the square or above 4096.
    pub fn with_random_crop(self, short_side: usize) -> Result<Self, Error> {
        if !(self.size..=LARGEST).contains(&short_side) {
            let expected = "from data.size to 4096 pixels";
            return Err(Error::OutOfRange { name: "random_crop", expected, found: short_side as u64 });
        }
        Ok(Self { random_crop: Some(short_side), ..self })
    }

    /// In training, shows each image in the size of these that is nearest to its own aspect ratio, instead of the square.
    ///
    /// The heads of all files are read for it. An image whose head says no size takes the size of the square.
    ///
    /// # Errors
    /// For steps and sizes that are out of range.
    pub fn with_buckets(self, config: &BucketConfig) -> Result<Self, Error> {
        config.check(self.size)?;
        let sizes: Vec<_> = self.files.par_iter().map(|file| upright_size(file).ok()).collect();
        let buckets = Buckets::new(config, self.size, &sizes);
        let mut folder = Self { random_crop: None, ..self };
        folder.notices.extend(buckets.notices(|image| folder.files[image].display().to_string()));
        folder.buckets = Some(buckets);
        Ok(folder)
    }

    /// The same with a mask for each image; those that lie beside their images are among the images here, and are for
    /// [`DataConfig`](super::DataConfig).
    ///
    /// # Errors
    /// [`Error::Mask`] if an image has none, or one of another size.
    pub fn with_masks(self, config: &MaskConfig) -> Result<Self, Error> {
        self.masked_by(Some(config))
    }

    fn masked_by(self, config: Option<&MaskConfig>) -> Result<Self, Error> {
        let masks = config.map(|config| Masks::find(config, &self.path, &self.files)).transpose()?;
        Ok(Self { masks, ..self })
    }

    /// The path of a file inside the folder, with `/` on every system.
    fn name(&self, index: usize) -> Vec<u8> {
        let file = &self.files[index];
        let roots = [&self.path].into_iter().chain(&self.prior_path);
        let inside = roots.filter_map(|root| file.strip_prefix(root).ok()).next().unwrap_or(file);
        inside.components().map(|part| part.as_os_str().as_encoded_bytes()).collect::<Vec<_>>().join(&b'/')
    }

    /// A file and its class.
    pub(super) fn file(&self, index: usize) -> (&Path, usize) {
        (&self.files[index], self.starts.partition_point(|&start| start <= index) - 1)
    }

    /// The captions of an image, with their weights, where some images have several.
    pub(super) fn captions(&self, index: usize) -> &[(usize, f64)] {
        self.captions.get(index).map_or(&[], Vec::as_slice)
    }

    /// The file of the mask of an image, where it has one.
    pub(super) fn mask_file(&self, index: usize) -> Option<&Path> {
        self.masks.as_ref()?.file(index)
    }

    /// The example of an index, or of what stands in for it, with the class of the image that is shown.
    fn cut(&self, index: u64, crop: Crop) -> Result<Example, Error> {
        let index = index as usize;
        assert!(index < self.files.len(), "index {index} of {} images", self.files.len());
        let (_, label) = self.file(index);
        let of = |file: usize, Cropped { pixels, mask, .. }| {
            let captions = self.captions(file).to_vec();
            Example { mask, captions, ..Example::new(pixels, self.file(file).1) }
        };
        if self.on_broken == OnBroken::Refuse {
            return Ok(of(index, self.image(index, crop)?));
        }
        let class = self.starts[label]..self.starts[label + 1];
        // A caption is mostly of one image; that of a class is of many, and they are no others.
        let is_prior = |label: usize| Some(label) == self.prior;
        let among = if self.captioned && !is_prior(label) { 0..self.files.len() } else { class };
        // Which files decode is a property of the files, so the substitute is the same for every reader.
        let found = (index..among.end)
            .chain(among.start..index)
            .filter(|&file| !self.known_broken(file) && is_prior(self.file(file).1) == is_prior(label))
            .find_map(|file| Some(of(file, self.image(file, crop).ok()?)));
        found.ok_or_else(|| {
            let (count, path) = (among.len(), self.files[among.start].clone());
            match self.captioned {
                true => Error::NoneReadable { count, path },
                false => Error::AllBroken { class: self.classes[label].clone(), count, path },
            }
        })
    }

    /// Decodes and cuts a file, or remembers that it is broken.
    fn image(&self, file: usize, shape: Crop) -> Result<Cropped, Error> {
        let cropped = || -> Result<Cropped, String> {
            let mask = self.mask_file(file).map(read).transpose();
            let mask = mask.map_err(|reason| format!("its mask cannot be used: {reason}"))?;
            let mask = match (&self.masks, &mask) {
                (None, _) => MaskOf::None,
                (Some(Masks::Alpha), _) => MaskOf::Alpha,
                (Some(_), Some(bytes)) => MaskOf::File(bytes),
                // An image for prior preservation counts as a whole.
                (Some(_), None) => MaskOf::None,
            };
            let mut cropped = crop(&read(&self.files[file])?, mask, |_| shape)?;
            if self.masks.is_some() {
                cropped.mask.get_or_insert_with(|| vec![1.0; cropped.size.iter().product()]);
            }
            Ok(cropped)
        };
        let cropped = cropped().map_err(|reason| {
            lock(&self.broken).insert(file, reason.clone());
            let advice = "repair or remove it, or set `data.on_broken` to `skip`";
            Error::Image { path: self.files[file].clone(), reason, advice }
        })?;
        lock(&self.tally).add(file as u64, cropped.losses);
        Ok(cropped)
    }

    fn known_broken(&self, file: usize) -> bool {
        lock(&self.broken).contains_key(&file)
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> Option<u64> {
        Some(self.files.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn shape(&self) -> [usize; 3] {
        [3, self.size, self.size]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        self.cut(index, Crop::Center([self.size; 2]))
    }

    fn buckets(&self) -> &[[usize; 3]] {
        self.buckets.as_ref().map_or(&[], |buckets| &buckets.shapes)
    }

    fn bucket(&self, index: u64) -> usize {
        self.buckets.as_ref().map_or(0, |buckets| buckets.of(index as usize))
    }

    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        let crop = match (&self.buckets, self.random_crop) {
            (Some(buckets), _) => Crop::Center(buckets.size(index as usize)),
            (None, None) => Crop::Center([self.size; 2]),
            (None, Some(short_side)) => {
                let mut rng = random::rng(variation.seed, Stream::Crop, variation.position);
                let place = std::array::from_fn(|_| random::uniform(&mut rng));
                Crop::Random { size: self.size, short_side, place }
            }
        };
        let mut example = self.cut(index, crop)?;
        let [_, _, width] = shape_in_training(self, index);
        variation.mirror(&mut example, width);
        Ok(example)
    }

    fn masked(&self) -> bool {
        self.masks.is_some()
    }

    fn several_captions(&self) -> bool {
        !self.captions.is_empty()
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        match (self.captioned, self.on_broken) {
            // The caption of the image that is shown.
            (true, OnBroken::Skip) => Ok(self.cut(index, Crop::Center([1; 2]))?.label),
            _ => Ok(self.file(index as usize).1),
        }
    }

    fn broken(&self) -> Vec<PathBuf> {
        lock(&self.broken).keys().map(|&file| self.files[file].clone()).collect()
    }

    fn remarks(&self) -> Vec<String> {
        let broken = lock(&self.broken);
        let [another, others] = match self.captioned {
            true => ["another with its caption", "others with their captions"],
            false => ["another of its class", "others of their class"],
        };
        let mut lines = match broken.len() {
            0 => vec![],
            1 => vec![format!("1 image is broken and was replaced by {another}:")],
            count => vec![format!("{count} images are broken and were replaced by {others}:")],
        };
        lines.extend(broken.iter().map(|(&file, reason)| format!("  {}: {reason}", self.files[file].display())));
        lines.extend(lock(&self.tally).lines(|file| self.files[file as usize].display().to_string()));
        lines
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    /// Of sizes and times of the files, and of their masks'.
    fn stamp(&self) -> Option<String> {
        let mut digest = Sha256::new();
        let files = |index: usize| [Some(&*self.files[index]), self.mask_file(index)];
        let of = |index: usize| files(index).map(|file| file.and_then(digest::stamp).unwrap_or_default()).join("\n");
        let stamps: Vec<String> = (0..self.files.len()).into_par_iter().map(of).collect();
        stamps.iter().for_each(|stamp| digest.update(format!("{stamp}\n")));
        Some(hex::encode(digest.finalize()))
    }

    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let labels =
            self.starts.windows(2).enumerate().flat_map(|(label, range)| (range[0]..range[1]).map(move |_| label));
        let names = (0..self.files.len()).map(|index| self.name(index));
        // Other sizes are another order, other masks another loss, whatever the names. Of several captions the first is the class.
        let captions = self.several_captions().then(|| hex::encode(Sha256::digest(format!("{:?}", self.captions))));
        let masks = self.masks.as_ref().and_then(Masks::digest);
        let content = [self.buckets.as_ref().map(Buckets::digest), masks, captions];
        let content: Vec<String> = content.into_iter().flatten().collect();
        let content = (!content.is_empty()).then(|| content.join(" "));
        let size = |file: &PathBuf| file.metadata().map_or(0, |file| file.len()).to_le_bytes();
        let sizes: Vec<u8> = self.files.par_iter().flat_map_iter(size).collect();
        let sizes = Some(hex::encode(Sha256::digest(sizes)));
        let captions = self.captions.iter().map(Vec::as_slice);
        Ok(Fingerprint {
            sizes,
            content,
            ..Fingerprint::named(&self.classes, names.zip(labels)).with_captions(captions)
        })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
