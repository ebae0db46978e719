//! Parts of images, written as they are made, and read again.

use std::fs;
use std::path::Path;

use crate::files::npz::{Array, ElementType, Npz};
use crate::files::{LABEL, PartValues, Parts};
use crate::numbers::counted;
use crate::sampling::Images;
use crate::sampling::export::write_archive;
use crate::{Error, Shard, check_memory};

/// The array of images as they are.
const IMAGES: &str = "images";

/// The array of one number: network evaluations for each image.
const EVALUATIONS: &str = "evaluations";

impl Parts {
    /// Writes a part as its batches come, in the memory of one. Where another process has made it meanwhile, this is no error.
    ///
    /// # Errors
    /// The first of `batches`, and if the file system refuses.
    ///
    /// # Panics
    /// If the batches have another number of images than the part, or images of several shapes.
    pub fn write(&self, shard: Shard, batches: impl Iterator<Item = Result<Images, Error>>) -> Result<(), Error> {
        let images = self.images_of(shard);
        let (count, values) = ((images.end - images.start) as usize, self.config().values);
        let (mut evaluations, mut begun, mut failed) = (0, false, false);
        let batches = batches.inspect(|images| failed |= images.is_err());
        let written = write_archive(&self.file(shard), batches, |archive, batches| {
            let label = self.label(shard);
            archive.array(LABEL, ElementType::U8, &[label.len()])?;
            archive.write(&label)?;
            for images in batches {
                let images = images?;
                evaluations = images.evaluations.max(evaluations);
                let [_, channels, height, width] = images.shape;
                let (name, kind, shape, bytes) = match values {
                    PartValues::Bytes => ("arr_0", ElementType::U8, [count, height, width, channels], images.bytes()),
                    PartValues::F32 => {
                        let bytes = images.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
                        (IMAGES, ElementType::F32, [count, channels, height, width], bytes)
                    }
                };
                if !std::mem::replace(&mut begun, true) {
                    archive.array(name, kind, &shape)?;
                }
                archive.write(&bytes)?;
            }
            archive.array(EVALUATIONS, ElementType::I64, &[1])?;
            archive.write(&(evaluations as i64).to_le_bytes())
        });
        if failed || !self.has(shard) {
            return written;
        }
        self.remove_leftovers(shard);
        Ok(())
    }

    /// Removes what processes that were killed have left of a part that is there. One that still makes it finds it made.
    fn remove_leftovers(&self, shard: Shard) {
        let start = format!(".{}.npz.", shard.name());
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let leftover = |name: &str| name.starts_with(&start) && name.ends_with(".tmp");
        for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(leftover)) {
            // Nobody reads them.
            let _ = fs::remove_file(entry.path());
        }
    }

    /// All images, which were stored as they are.
    ///
    /// # Errors
    /// If they are stored as bytes; names the parts that are not there; if one cannot be read, is of another size than the others, or all do not fit memory.
    pub fn images(&self) -> Result<Images, Error> {
        if self.config().values != PartValues::F32 {
            let reason = "holds images as bytes: expected those that `eval --shard` makes without --inception".into();
            return Err(Error::Images { path: self.folder().into(), reason });
        }
        let mut all = Images { pixels: vec![], shape: [0; 4], ..Images::default() };
        for file in self.files()? {
            let array = Npz::open(&file)?.array(IMAGES)?;
            let shape: [usize; 4] = match (array.kind(), array.shape().try_into()) {
                (ElementType::F32, Ok(shape)) => shape,
                _ => return Err(array.fault("expected numbers <f4 of shape [images, channels, height, width]")),
            };
            if all.pixels.is_empty() {
                let numbers = shape[1..].iter().map(|side| *side as u64).product::<u64>();
                let what = || format!("{} of {}", counted(self.config().images, "image"), self.folder().display());
                // And one part in 64 bits, while it is read.
                check_memory(what, &[self.config().images + 2 * shape[0] as u64, numbers, 4])?;
                all.shape = shape;
            } else if all.shape[1..] != shape[1..] {
                return Err(array.fault(format!("has images of {:?}, others have {:?}", &shape[1..], &all.shape[1..])));
            } else {
                all.shape[0] += shape[0];
            }
            all.pixels.extend(array.values()?.into_iter().map(|value| value as f32));
            all.evaluations = all.evaluations.max(evaluations(&file)?);
        }
        self.check_count(all.shape[0])?;
        Ok(all)
    }

    /// Network evaluations for each image, of the part that took most.
    ///
    /// # Errors
    /// As [`files`](Self::files), and if one cannot be read.
    pub fn evaluations(&self) -> Result<usize, Error> {
        self.files()?.iter().try_fold(0, |most, file| Ok(evaluations(file)?.max(most)))
    }
}

fn evaluations(file: &Path) -> Result<usize, Error> {
    let array: Array = Npz::open(file)?.array(EVALUATIONS)?;
    let values = array.values()?;
    values.first().map(|number| *number as usize).ok_or_else(|| Error::array(file, "evaluations: expected one number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::PartsConfig;
    use crate::files::images::ImageSource;

    fn config(values: PartValues) -> PartsConfig {
        let made = json!({ "seed": 3, "weights": ["abc"] });
        PartsConfig { images: 7, parts: 3, batch: 2, values, made: made.as_object().unwrap().clone() }
    }

    /// Images of 1 x 2 pixels whose first channel is their number.
    fn images(range: std::ops::Range<u64>) -> Images {
        let pixels = range.clone().flat_map(|number| [number as f32 / 16.0, 0.5, -1.0, 1.0, 0.25, -0.3]).collect();
        Images {
            pixels,
            shape: [(range.end - range.start) as usize, 3, 1, 2],
            evaluations: range.end as usize,
            ..Images::default()
        }
    }

    fn write(parts: &Parts, number: usize) {
        let shard = Shard::new(number, 3).unwrap();
        let range = parts.images_of(shard);
        let batches = range.clone().step_by(2).map(|first| Ok(images(first..range.end.min(first + 2))));
        parts.write(shard, batches).unwrap();
    }

    #[test]
    fn parts_are_read_as_one_whatever_order_they_come_in() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::begin(folder.path(), config(PartValues::F32)).unwrap();
        for (number, missing) in [(3, "2/3"), (1, "none"), (2, "")] {
            write(&parts, number);
            match missing {
                "" => assert_eq!(parts.images().unwrap(), images(0..7)),
                "none" => assert!(parts.images().unwrap_err().to_string().contains("--shard 2/3")),
                _ => assert!(parts.images().unwrap_err().to_string().contains("--shard 1/3, 2/3")),
            }
        }
        // As a second process finds them.
        let found = Parts::open(folder.path()).unwrap().unwrap();
        assert_eq!((found.evaluations().unwrap(), found.config()), (7, &config(PartValues::F32)));
    }

    #[test]
    fn bytes_are_a_source_of_images() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::begin(folder.path(), config(PartValues::Bytes)).unwrap();
        (1..=3).for_each(|number| write(&parts, number));
        let source = ImageSource::open(folder.path()).unwrap();
        assert_eq!(source.len(), 7);
        let found: Vec<_> = source.collect::<Result<_, _>>().unwrap();
        assert_eq!(found, images(0..7).byte_images().collect::<Vec<_>>());

        fs::remove_file(parts.file(Shard::new(2, 3).unwrap())).unwrap();
        let error = ImageSource::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--shard 2/3"), "{error}");
        // A part under another one's name, of as many images.
        let [first, second] = [1, 2].map(|number| parts.file(Shard::new(number, 3).unwrap()));
        fs::copy(&first, &second).unwrap();
        let error = ImageSource::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is part 1 by what it says itself"), "{error}");
        // One that is cut off is not there; what a killed process left goes when it is.
        fs::write(folder.path().join(".part-00002-of-00003.npz.12.tmp"), "half").unwrap();
        fs::write(&second, &fs::read(&first).unwrap()[..500]).unwrap();
        assert!(!parts.has(Shard::new(2, 3).unwrap()) && parts.has(Shard::new(1, 3).unwrap()));
        write(&parts, 2);
        assert_eq!(ImageSource::open(folder.path()).unwrap().count(), 7);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        // One of other images, which came from elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut other = config(PartValues::Bytes);
        other.made.insert("seed".into(), json!(4));
        let other = Parts::begin(elsewhere.path(), other).unwrap();
        write(&other, 2);
        fs::copy(other.file(Shard::new(2, 3).unwrap()), &second).unwrap();
        let error = ImageSource::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another `seed`, 3, not 4"), "{error}");
    }

    #[test]
    fn parts_of_something_else_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(&Parts::begin(folder.path(), config(PartValues::F32)).unwrap(), 1);
        let refused = |config: PartsConfig| Parts::begin(folder.path(), config).unwrap_err().to_string();
        let mut other = config(PartValues::F32);
        other.made.insert("seed".into(), json!(4));
        assert!(refused(other).contains("another `seed`, 3, not 4"));
        let more = PartsConfig { images: 8, ..config(PartValues::F32) };
        assert!(refused(more).contains("another `images`, 7, not 8"));
        assert!(refused(config(PartValues::Bytes)).contains("another `values`"));
        let divided = PartsConfig { parts: 4, ..config(PartValues::F32) };
        assert!(refused(divided).contains("a part of 3 in all, not of 4"));
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("notes.txt"), "mine").unwrap();
        let error = Parts::begin(elsewhere.path(), config(PartValues::F32)).unwrap_err().to_string();
        assert!(error.contains("notes.txt"), "{error}");
    }

    #[test]
    fn a_part_that_failed_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::begin(folder.path(), config(PartValues::F32)).unwrap();
        let fault = Error::Export { path: "x".into(), reason: "a batch failed".into() };
        let shard = Shard::new(2, 3).unwrap();
        let error = parts.write(shard, [Ok(images(2..4)), Err(fault)].into_iter()).unwrap_err().to_string();
        assert!(error.contains("a batch failed") && !parts.file(shard).exists(), "{error}");
    }
}
