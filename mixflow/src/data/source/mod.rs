//! Collections of encoded images, read once from the first to the last.
//!
//! A [`Source`] is what [`encode_dataset`](super::latents::encode_dataset) reads; for training on images themselves
//! there is [`Dataset`](super::Dataset).

mod directory;
#[cfg(feature = "parquet")]
mod parquet;
mod part;
mod renumbered;
mod web_dataset;

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

pub use self::directory::Directory;
#[cfg(feature = "parquet")]
pub use self::parquet::Parquet;
pub use self::part::PartOf;
pub use self::renumbered::Renumbered;
pub use self::web_dataset::WebDataset;

use mixflow_backbones::not_data::{LOOKED_AT, why_not_binary};
use sha2::{Digest, Sha256};

use super::crop::{Crop, Cropped, MaskOf, crop};
use super::{CaptionFormat, Error, MaskConfig};

/// Labelled images in an order that never changes.
#[allow(clippy::len_without_is_empty, reason = "no source is ever empty: opening an empty one is an error")]
pub trait Source: Debug {
    /// Number of samples.
    fn len(&self) -> u64;

    /// Names of the classes.
    fn classes(&self) -> &[String];

    /// Where the images are, in words; stands in the manifest.
    fn describe(&self) -> String;

    /// What is known of every sample without decoding it, in their order; provided: all images are read for it.
    ///
    /// # Errors
    /// If the source cannot be read.
    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let entry =
            |SourceImage { name, class, .. }: SourceImage| SourceEntry { name, class, captions: vec![], stamp: None };
        self.samples(0)?.map(|sample| sample.map(entry)).collect()
    }

    /// Whether images have several captions, as [`SourceEntry::captions`] says of each; provided: no.
    fn several_captions(&self) -> bool {
        false
    }

    /// What the user should know of how they were found, in words; provided: nothing.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// The samples from number `start` on. An error ends them, but for [`Error::Image`], which stands for one of them.
    ///
    /// # Errors
    /// If the source cannot be read.
    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error>;
}

/// What archives and shards do not tell of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Names of the classes of archives and shards, by label; a directory names its own.
    pub classes: Option<Vec<String>>,
    /// The column of shards with the images.
    pub image_column: Option<String>,
    /// The column of shards with the labels, or the captions.
    pub label_column: Option<String>,
    /// Whether images are told by captions, all different ones of which are the classes: of a directory those that
    /// [`ImageFolder::captioned`](super::ImageFolder::captioned) reads.
    pub captions: bool,
    /// How the texts of captions are read.
    pub caption_format: CaptionFormat,
    /// Where the masks of the images are; archives and shards have alpha channels alone.
    pub mask: Option<MaskConfig>,
}

/// The source that these paths are: one directory of images ([`Directory`]), `.tar` archives ([`WebDataset`]) or `.parquet`
/// shards (`Parquet`, with the feature `parquet`), told by their endings.
///
/// # Errors
/// As the sources' own, if the paths are not of one kind, for options that their kind does not have, and for shards without
/// the feature.
pub fn open(paths: &[PathBuf], options: &Options) -> Result<Box<dyn Source>, Error> {
    let has = |path: &Path, ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let all = |ending: &str| paths.iter().all(|path| has(path, ending));
    let classes = options.classes.as_ref();
    let columns = options.image_column.is_some() || options.label_column.is_some();
    let fault = |reason: &str| {
        let path = paths.first().cloned().unwrap_or_default();
        Err(Error::Archive { path, reason: reason.into() })
    };
    match paths {
        [] => fault("nothing was given; expected a directory, .tar archives or .parquet shards"),
        _ if options.captions && classes.is_some() => fault("captions are the classes; leave their names out"),
        [directory] if directory.is_dir() && classes.is_some() => {
            fault("a directory names its classes itself; leave the names out")
        }
        _ if columns && !all("parquet") => fault("only .parquet shards have columns; leave their names out"),
        [directory] if directory.is_dir() => Ok(Box::new(Directory::of(directory, options)?)),
        _ if options.mask.as_ref().is_some_and(|mask| *mask != MaskConfig::Alpha) && (all("tar") || all("parquet")) => {
            fault("masks in files are for a directory of images; of archives and shards, alpha channels are masks")
        }
        archives if all("tar") && options.captions => {
            Ok(Box::new(WebDataset::captioned(archives, options.caption_format)?))
        }
        archives if all("tar") => Ok(Box::new(WebDataset::open(archives, classes.cloned())?)),
        #[cfg(feature = "parquet")]
        shards if all("parquet") => Ok(Box::new(Parquet::open(shards, options)?)),
        #[cfg(not(feature = "parquet"))]
        _ if all("parquet") => fault("this program was built without parquet; build it with `--features parquet`"),
        packed
            if packed
                .iter()
                .any(|path| ["gz", "tgz", "zst", "xz", "bz2", "zip"].iter().any(|ending| has(path, ending))) =>
        {
            fault("compressed archives are not read; decompress them to .tar first")
        }
        [missing] if !missing.exists() => fault("there is no such file or directory"),
        _ => fault("expected one directory of images, or .tar archives alone, or .parquet shards alone"),
    }
}

/// The names of files without folders. They are part of the names of samples, and so they must differ.
fn file_names(files: &[PathBuf]) -> Result<Vec<String>, Error> {
    let mut seen = HashSet::new();
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reason = "a file of this name is given twice, and images are known by it; rename one or leave it out";
        if seen.insert(name.clone()) {
            Ok(name)
        } else {
            Err(Error::Archive { path: path.clone(), reason: reason.into() })
        }
    };
    files.iter().map(name).collect()
}

/// Which classes have no images, in words; `used` are the labels of all images.
fn without_images(classes: &[String], used: impl Iterator<Item = usize>) -> Option<String> {
    /// More are not told one by one.
    const MOST: usize = 10;
    let used: HashSet<_> = used.collect();
    let without = classes.iter().enumerate().filter(|(label, _)| !used.contains(label)).map(|(_, class)| &class[..]);
    let without: Vec<_> = without.collect();
    let (count, shown) = (without.len(), without[..without.len().min(MOST)].join(", "));
    let more = if count > MOST { ", …" } else { "" };
    (count > 0).then(|| format!("{count} of {} classes have no image: {shown}{more}", classes.len()))
}

/// The samples of a [`Source`].
pub type SourceImages<'a> = Box<dyn Iterator<Item = Result<SourceImage, Error>> + 'a>;

/// A [`SourceImage`] without its image.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceEntry {
    /// As [`SourceImage::name`].
    pub name: String,
    /// As [`SourceImage::class`].
    pub class: usize,
    /// Of several captions the labels and how often each is told among them; `class` is the first. None of images with one.
    pub captions: Vec<(usize, f64)>,
    /// Another one whenever the image may be another one, such as size and time of its file; none where nothing tells.
    pub stamp: Option<String>,
}

impl SourceEntry {
    /// All that it is told by, with weights: its captions, or its class.
    pub(super) fn weighted_labels(&self) -> Vec<(usize, f64)> {
        if self.captions.is_empty() { vec![(self.class, 1.0)] } else { self.captions.clone() }
    }
}

/// An image, not yet decoded, with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceImage {
    /// Where it comes from: unique in its source.
    pub name: String,
    /// Index into [`Source::classes`].
    pub class: usize,
    /// A PNG, JPEG or WebP file.
    pub bytes: Vec<u8>,
    /// Another one with its mask, where that is a file.
    pub mask: Option<Vec<u8>>,
}

impl SourceImage {
    /// The central square, `[3, size, size]` in [−1, 1].
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be decoded.
    ///
    /// # Panics
    /// If `size` is zero.
    pub fn planes(&self, size: usize) -> Result<Vec<f32>, Error> {
        Ok(self.cut(false, |_| [size; 2])?.pixels)
    }

    /// The central rectangle that has the height and width that `size_of` says of the image's width and height, with its mask
    /// where there is one of its own, or where the alpha channel is to be one.
    pub(super) fn cut(&self, masked: bool, size_of: impl FnOnce([u32; 2]) -> [usize; 2]) -> Result<Cropped, Error> {
        let mask = match &self.mask {
            Some(mask) => MaskOf::File(mask),
            None if masked => MaskOf::Alpha,
            None => MaskOf::None,
        };
        crop(&self.bytes, mask, |image| Crop::Center(size_of(image))).map_err(|reason| unusable(&self.name, reason))
    }

    /// SHA-256 of its file, with the mask behind it where that is a file.
    pub(super) fn hash(&self) -> [u8; 32] {
        let digest = Sha256::new().chain_update(&self.bytes);
        self.mask.iter().fold(digest, |digest, mask| digest.chain_update(mask)).finalize().into()
    }
}

fn unusable(name: &str, reason: String) -> Error {
    let advice = "repair or remove it, or leave out what is broken with `--on-broken skip`";
    Error::Image { path: Path::new(name).into(), reason, advice }
}

/// What a file really is that is named as an archive: the rest of a sentence. It is read from its start, to which it is set
/// back.
fn disguise(file: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    let mut start = vec![];
    file.by_ref().take(LOOKED_AT as u64).read_to_end(&mut start)?;
    file.rewind()?;
    let zip = start.starts_with(b"PK\x03\x04").then(|| "is a ZIP archive: unpack it and take the folder".into());
    Ok(zip.or_else(|| why_not_binary(&start)))
}

#[cfg(test)]
mod tests;
