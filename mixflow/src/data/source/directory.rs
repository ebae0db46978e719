//! A directory of images as a source.

use std::path::{Path, PathBuf};

use super::{Options, Source, SourceEntry, SourceImage, SourceImages, unusable};
use crate::data::{CaptionFormat, Dataset, Error, ImageFolder, OnBroken};
use crate::files::decode::read;
use crate::files::digest;

/// The files of a [`ImageFolder`], in its order.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    folder: ImageFolder,
}

impl Directory {
    /// Lists the images below `path`.
    ///
    /// # Errors
    /// As [`ImageFolder::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        // The size is that of decoded examples, of which none is asked for.
        Ok(Self { path: path.into(), folder: ImageFolder::open(path, 1, OnBroken::Refuse)? })
    }

    /// Lists the images below `path` by their captions.
    ///
    /// # Errors
    /// As [`ImageFolder::captioned`].
    pub fn captioned(path: &Path, format: CaptionFormat) -> Result<Self, Error> {
        Ok(Self { path: path.into(), folder: ImageFolder::captioned(path, 1, OnBroken::Refuse, format)? })
    }

    /// The images below `path` by their classes or captions, with their masks.
    pub(super) fn of(path: &Path, options: &Options) -> Result<Self, Error> {
        options.mask.iter().try_for_each(|mask| mask.check(path))?;
        let (mask, refuse) = (options.mask.as_ref(), OnBroken::Refuse);
        let folder = match options.captions {
            true => ImageFolder::with_captions(path, 1, refuse, options.caption_format, mask, None)?,
            false => ImageFolder::with_classes(path, 1, refuse, mask)?,
        };
        Ok(Self { path: path.into(), folder })
    }

    /// The path below the directory.
    fn name(&self, file: &Path) -> String {
        file.strip_prefix(&self.path).unwrap_or(file).to_string_lossy().into_owned()
    }

    fn sample(&self, index: u64) -> Result<SourceImage, Error> {
        let (file, class) = self.folder.file(index as usize);
        let name = self.name(file);
        let read = |file| read(file).map_err(|reason| unusable(&name, reason));
        let (bytes, mask) = (read(file)?, self.folder.mask_file(index as usize).map(read).transpose()?);
        Ok(SourceImage { name, class, bytes, mask })
    }
}

impl Source for Directory {
    fn len(&self) -> u64 {
        self.folder.len().unwrap_or_default()
    }

    fn classes(&self) -> &[String] {
        self.folder.classes()
    }

    fn describe(&self) -> String {
        format!("folder {}", self.path.display())
    }

    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let entry = |index| {
            let (file, class) = self.folder.file(index as usize);
            let mask = self.folder.mask_file(index as usize);
            let stamp = match (digest::stamp(file), mask.map(digest::stamp)) {
                (stamp, None) => stamp,
                (stamp, Some(mask)) => stamp.zip(mask).map(|(image, mask)| format!("{image} {mask}")),
            };
            let captions = self.folder.captions(index as usize).to_vec();
            SourceEntry { name: self.name(file), class, captions, stamp }
        };
        Ok((0..self.len()).map(entry).collect())
    }

    fn several_captions(&self) -> bool {
        self.folder.several_captions()
    }

    fn notices(&self) -> Vec<String> {
        self.folder.notices()
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
        Ok(Box::new((start..self.len()).map(|index| self.sample(index))))
    }
}
