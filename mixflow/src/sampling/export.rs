//! Images as files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::files::images::ByteImage;
use crate::files::npz::{ElementType, NpzWriter};
use crate::files::{Tiles, check_writable, png, write_atomic, write_atomic_with};
use crate::numbers::counted;
use crate::sampling::Images;
use crate::{Error, check_memory};

/// Where images go, checked before they are made.
///
/// The ending of the path tells the form: `.png` is one picture of all images, `.npz` is the array `arr_0` of bytes
/// `[count, height, width, channels]` that the evaluator of guided-diffusion reads, and a path without an ending is a
/// folder of single pictures `000000.png` and so on.
#[derive(Clone, Debug)]
pub struct Export {
    path: PathBuf,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Grid,
    Npz,
    Folder,
}

impl Export {
    /// Checks that images of `channels` channels can be written to `path`, and creates the folders above it.
    ///
    /// # Errors
    /// For another ending, for channels that are not 1 or 3, for a folder that is not empty, and if the folder cannot be
    /// created or written to.
    pub fn new(path: impl Into<PathBuf>, channels: usize) -> Result<Self, Error> {
        let path = path.into();
        let fault = |reason: String| Error::Export { path: path.clone(), reason };
        let form = match path.extension().and_then(|ending| ending.to_str()) {
            Some("png") => Form::Grid,
            Some("npz") => Form::Npz,
            None => Form::Folder,
            Some(other) => return Err(fault(format!("expected .png, .npz or a folder, found .{other}"))),
        };
        if channels != 1 && channels != 3 {
            return Err(fault(format!("expected images of 1 or 3 channels, found {channels}; decode latents first")));
        }
        if (form == Form::Folder) != path.is_dir() && path.exists() {
            return Err(fault("expected a new path: a file .png or .npz, or a folder".into()));
        }
        if form == Form::Folder && fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(fault("the folder is not empty; choose another".into()));
        }
        check_writable(&if form == Form::Folder { path.join("000000.png") } else { path.clone() })?;
        Ok(Self { path, form })
    }

    /// Whether so many images of this shape (channels, height, width) can be written, before they are made: a picture takes
    /// memory for all of them, the other forms on the disk alone. Returns the bytes that they hold.
    ///
    /// # Errors
    /// If they do not fit memory, or no file can hold them.
    pub fn check(&self, count: usize, columns: usize, shape: [usize; 3]) -> Result<u64, Error> {
        /// More than anybody looks at.
        const MOST: usize = 10_000;
        let [_, height, width] = shape;
        let numbers = shape.iter().try_fold(count as u64, |product, &side| product.checked_mul(side as u64));
        let fault = |reason: String| Error::Export { path: self.path.clone(), reason };
        let numbers = numbers
            .ok_or_else(|| fault(format!("no file holds {} of {height} x {width}", counted(count as u64, "image"))))?;
        if self.form == Form::Grid {
            if count > MOST {
                return Err(fault(format!(
                    "a picture shows at most {MOST} images, not {count}: choose .npz or a folder"
                )));
            }
            let what =
                || format!("{count} images of {height} x {width} pixels in one picture (not in .npz or a folder)");
            // Its pixels as numbers, the picture and its file.
            check_memory(what, &[numbers, 4 + 2 * u64::from(Tiles::default().scale.pow(2))])?;
            Tiles { columns, ..Tiles::default() }.size(count, [height, width]).ok_or_else(|| {
                fault(format!("a picture of {count} images has more pixels than PNG knows; write .npz or a folder"))
            })?;
        }
        Ok(numbers)
    }

    /// Writes `count` images as they come, a picture of all of them with `columns` in a row.
    ///
    /// Nothing appears under an array's or a picture's name before it is whole. An array and single pictures take the
    /// memory of one batch.
    ///
    /// # Errors
    /// The first of `batches`, and if the file system refuses.
    ///
    /// # Panics
    /// If the batches have another number of images, or images of several shapes.
    pub fn write(
        &self,
        count: usize,
        columns: usize,
        batches: impl IntoIterator<Item = Result<Images, Error>>,
    ) -> Result<(), Error> {
        let batches = batches.into_iter();
        match self.form {
            Form::Grid => {
                let mut pixels = vec![];
                let mut shape = [0; 4];
                for batch in batches {
                    let images = batch?;
                    pixels.extend(images.pixels);
                    shape = [count, images.shape[1], images.shape[2], images.shape[3]];
                }
                write_atomic(&self.path, &Tiles { columns, ..Tiles::default() }.png(&pixels, shape))
            }
            Form::Npz => self.write_npz(count, batches),
            Form::Folder => {
                let mut index = 0;
                for batch in batches {
                    for image in batch?.byte_images() {
                        let path = self.path.join(format!("{index:06}.png"));
                        write_atomic(&path, &png(&image.into_rgb()))?;
                        index += 1;
                    }
                }
                assert_eq!(index, count, "images in the batches");
                Ok(())
            }
        }
    }

    fn write_npz(&self, count: usize, batches: impl Iterator<Item = Result<Images, Error>>) -> Result<(), Error> {
        write_archive(&self.path, batches, |archive, batches| {
            let mut begun = false;
            for images in batches {
                let images = images?;
                let [_, channels, height, width] = images.shape;
                if !std::mem::replace(&mut begun, true) {
                    archive.array("arr_0", ElementType::U8, &[count, height, width, channels])?;
                }
                archive.write(&images.bytes())?;
            }
            Ok(())
        })
    }
}

/// Writes an archive of batches, which is whole or not there, in the memory of one.
///
/// # Errors
/// The first of `batches`, and if the file system refuses.
pub(super) fn write_archive(
    path: &Path,
    batches: impl Iterator<Item = Result<Images, Error>>,
    write: impl FnOnce(&mut NpzWriter<BufWriter<&mut File>>, &mut dyn Iterator<Item = io::Result<Images>>) -> io::Result<()>,
) -> Result<(), Error> {
    let mut fault = None;
    let written = write_atomic_with(path, |file| {
        let mut archive = NpzWriter::new(BufWriter::new(file));
        let mut batches = batches.map(|images| {
            images.map_err(|error| {
                fault = Some(error);
                io::Error::other("there are no more images")
            })
        });
        write(&mut archive, &mut batches)?;
        archive.finish()?.flush()
    });
    fault.map_or(written, Err)
}

impl Images {
    /// The images as an evaluator finds them in files, each number the byte that [`rounding`](Self::rounding) says.
    pub fn byte_images(&self) -> impl Iterator<Item = ByteImage> {
        let [_, channels, height, width] = self.shape;
        let shape = [height, width, channels];
        let bytes = self.bytes();
        let starts = (0..bytes.len()).step_by(height * width * channels);
        starts.map(move |at| ByteImage { bytes: bytes[at..at + height * width * channels].into(), shape })
    }

    /// The pixels as bytes, `[count, height, width, channels]`.
    pub fn bytes(&self) -> Vec<u8> {
        let [_, channels, height, width] = self.shape;
        let plane = height * width;
        let images = self.pixels.chunks(channels * plane);
        images
            .flat_map(|image| (0..plane).flat_map(move |at| (0..channels).map(move |c| image[c * plane + at])))
            .map(|pixel| self.rounding.byte(pixel))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::images::ImageSource;
    use crate::files::npz::npz;
    use crate::sampling::Rounding;

    fn images() -> Images {
        // Two images of 1 x 2 pixels: red, green, blue planes.
        let pixels = vec![-1.0, 1.0, 0.0, 0.0, 1.0, -1.0, 1.0, 1.0, 1.0, -9.0, 9.0, 0.0];
        Images { pixels, shape: [2, 3, 1, 2], ..Images::default() }
    }

    #[test]
    fn bytes_have_channels_last() {
        let bytes = [0, 128, 255, 255, 128, 0, 255, 255, 255, 255, 0, 128];
        assert_eq!(images().bytes(), bytes);
        let found: Vec<_> = images().byte_images().collect();
        assert_eq!(found, [0, 6].map(|at| ByteImage { bytes: bytes[at..at + 6].into(), shape: [1, 2, 3] }));
    }

    #[test]
    fn bytes_are_the_nearest_or_those_below() {
        // A tenth of a byte above the middle between 127 and 128.
        let folder = tempfile::tempdir().unwrap();
        for (rounding, byte) in [(Rounding::Nearest, 128), (Rounding::Floor, 127)] {
            let images = Images { pixels: vec![0.1 / 127.5; 2], shape: [1, 1, 1, 2], evaluations: 0, rounding };
            assert_eq!(images.bytes(), [byte; 2]);
            for name in ["all.npz", "single"] {
                let path = folder.path().join(format!("{byte}-{name}"));
                Export::new(&path, 1).unwrap().write(1, 1, [Ok(images.clone())]).unwrap();
                let read = ImageSource::open(&path).unwrap().next().unwrap().unwrap();
                assert!(read.bytes.iter().all(|found| *found == byte), "{name}: {read:?}");
            }
        }
    }

    #[test]
    fn the_ending_tells_the_form() {
        let folder = tempfile::tempdir().unwrap();
        let files = |path: &str| fs::read_dir(folder.path().join(path)).unwrap().count();
        for path in ["new/grid.png", "new/all.npz", "single"] {
            Export::new(folder.path().join(path), 3).unwrap().write(2, 2, [Ok(images())]).unwrap();
        }
        assert_eq!((files("new"), files("single")), (2, 2));
        let single = image::open(folder.path().join("single/000000.png")).unwrap().to_rgb8();
        assert_eq!(single.into_raw(), images().bytes()[..6]);
    }

    #[test]
    fn batches_are_written_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let one = |first: usize| Images {
            pixels: images().pixels[first * 6..(first + 1) * 6].into(),
            shape: [1, 3, 1, 2],
            ..Images::default()
        };
        for name in ["a.npz", "a.png"] {
            let (whole, parts) = (folder.path().join(name), folder.path().join(format!("parts-{name}")));
            Export::new(&whole, 3).unwrap().write(2, 2, [Ok(images())]).unwrap();
            Export::new(&parts, 3).unwrap().write(2, 2, [Ok(one(0)), Ok(one(1))]).unwrap();
            assert_eq!(fs::read(whole).unwrap(), fs::read(parts).unwrap(), "{name}");
        }
        assert_eq!(fs::read(folder.path().join("a.npz")).unwrap(), npz(&images().bytes(), &[2, 1, 2, 3]));
    }

    #[test]
    fn a_failure_between_batches_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.npz", "a.png"] {
            let fault = Error::Export { path: "x".into(), reason: "a batch failed".into() };
            let path = folder.path().join(name);
            let error = Export::new(&path, 3).unwrap().write(4, 2, [Ok(images()), Err(fault)]).unwrap_err();
            assert!(error.to_string().contains("a batch failed"), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn more_than_a_picture_holds_is_refused_and_streamed_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let export = |name: &str| Export::new(folder.path().join(name), 3).unwrap();
        let count = 5_000_000_000;
        for (name, count, words) in
            [("a.png", count, "not 5000000000"), ("a.npz", usize::MAX, "18,446,744,073,709,551,615 images")]
        {
            let message = export(name).check(count, 10, [3, 32, 32]).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        for name in ["a.npz", "single"] {
            assert_eq!(export(name).check(count, 10, [3, 32, 32]).unwrap(), 5_000_000_000 * 3072);
        }
        assert_eq!(export("a.png").check(40, 10, [1, 8, 8]).unwrap(), 2560);
        let message = export("a.png").check(10_001, 10, [1, 8, 8]).unwrap_err().to_string();
        assert!(message.contains("at most 10000 images, not 10001"), "{message}");
        // Few enough for memory, but one below the other.
        let message = export("a.png").check(10_000, 1, [1, 1 << 19, 1]).unwrap_err().to_string();
        assert!(message.contains("PNG") || message.contains("memory"), "{message}");
    }

    #[test]
    fn what_cannot_be_written_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a.png/b")).unwrap();
        for (path, channels, word) in
            [("x.jpg", 3, ".jpg"), ("x.png", 4, "found 4"), ("a.png", 3, "new path"), ("", 3, "not empty")]
        {
            let message = Export::new(folder.path().join(path), channels).unwrap_err().to_string();
            assert!(message.contains(word), "{path}: {message}");
        }
    }
}
