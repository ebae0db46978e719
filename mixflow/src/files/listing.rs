//! The files of a directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::data::Error;
use crate::numbers::counted;

/// The endings of images that are read.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Files below a directory, ordered by path. Names that start with a dot are left out, symbolic links are followed.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Those with the ending of an image that is read.
    pub(crate) images: Vec<PathBuf>,
    /// What the names of images end in, before their ending, that are masks of others; those are not listed.
    masks: Option<String>,
    /// All others.
    pub(crate) others: Vec<PathBuf>,
    /// How many names were left out.
    pub(crate) hidden: usize,
}

/// What is to be listed.
const EXPECTED: &str = "expected a directory of images";

impl Listing {
    /// The files at any depth below `directory`.
    ///
    /// # Errors
    /// If a directory cannot be listed, or symbolic links form a loop.
    pub(crate) fn below(directory: &Path) -> Result<Self, Error> {
        Self::default().and_below(directory)
    }

    /// The same with the files at any depth below `directory`.
    pub(crate) fn and_below(mut self, directory: &Path) -> Result<Self, Error> {
        self.add_below(directory, &mut vec![])?;
        Ok(self)
    }

    /// The same without the masks that lie beside images, by what their names end in.
    pub(crate) fn without_masks(masks: Option<&str>) -> Self {
        Self { masks: masks.map(Into::into), ..Self::default() }
    }

    /// Its images, of which there are some.
    ///
    /// # Errors
    /// [`Error::NoImages`].
    pub(crate) fn some_images(self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        match self.images.is_empty() {
            true => Err(Error::NoImages { path: directory.into(), found: kinds(&self.others) }),
            false => Ok(self.images),
        }
    }

    /// Adds the files at any depth below `directory`; `above` holds the real paths of the directories that lead here.
    pub(crate) fn add_below(&mut self, directory: &Path, above: &mut Vec<PathBuf>) -> Result<(), Error> {
        let real = canonical(directory)?;
        if above.contains(&real) {
            return Err(Error::Loop { path: directory.to_owned() });
        }
        above.push(real);
        for path in self.entries(directory)? {
            if path.is_dir() {
                self.add_below(&path, above)?;
            } else {
                self.add(path);
            }
        }
        above.pop();
        Ok(())
    }

    /// Adds a file. A link to nowhere is one: decoding will name it, if it is to be an image.
    pub(crate) fn add(&mut self, file: PathBuf) {
        let ending = file.extension();
        let is_image = ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)));
        let is_mask =
            |masks: &String| file.file_stem().and_then(OsStr::to_str).is_some_and(|name| name.ends_with(masks));
        if is_image && self.masks.as_ref().is_some_and(is_mask) {
            return;
        }
        // A socket or device is none, whatever its name.
        let is_file = fs::metadata(&file).map_or(true, |kind| kind.is_file());
        let files = if is_image && is_file { &mut self.images } else { &mut self.others };
        files.push(file);
    }

    /// What a directory holds, ordered by name.
    pub(crate) fn entries(&mut self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = || fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>();
        let entries =
            entries().map_err(|source| Error::Read { path: directory.to_owned(), advice: EXPECTED, source })?;
        let is_hidden = |entry: &&fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
        let (hidden, shown): (Vec<_>, Vec<_>) = entries.iter().partition(is_hidden);
        self.hidden += hidden.len();
        let mut paths: Vec<_> = shown.into_iter().map(fs::DirEntry::path).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// What was passed over, in words.
    pub(crate) fn passed_over(&self) -> Vec<String> {
        let others = self.others.first().map(|first| {
            format!(
                "passed over {}, which end in none of .png, .jpg, .jpeg and .webp, the first {}",
                kinds(&self.others),
                first.display()
            )
        });
        let hidden = (self.hidden > 0).then(|| format!("passed over {} names that start with a dot", self.hidden));
        others.into_iter().chain(hidden).collect()
    }
}

/// How many files there are, and of which endings: `3 files (2 .bmp, 1 without ending)`.
pub(crate) fn kinds(files: &[PathBuf]) -> String {
    /// More are not told one by one.
    const MOST: usize = 5;
    let mut counts = BTreeMap::<String, usize>::new();
    for file in files {
        let ending = file.extension().and_then(OsStr::to_str).map(|ending| format!(".{}", ending.to_lowercase()));
        *counts.entry(ending.unwrap_or_else(|| "without ending".into())).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut words: Vec<_> = counts.iter().take(MOST).map(|(ending, count)| format!("{count} {ending}")).collect();
    let more: usize = counts.iter().skip(MOST).map(|(_, count)| count).sum();
    words.extend((more > 0).then(|| format!("{more} others")));
    let count = files.len();
    if count == 0 {
        return "no files".into();
    }
    format!("{} ({})", counted(count as u64, "file"), words.join(", "))
}

pub(crate) fn canonical(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), advice: EXPECTED, source })
}
