//! Images as bytes, one after another, from wherever evaluators keep them.

use std::path::{Path, PathBuf};

use image::{DynamicImage, RgbImage};

use super::decode::{MEMORY, Tally, decode_file};
use super::listing::Listing;
use crate::Error;
use crate::error::data;
use crate::files::npz::{Array, ElementType, Npz};
use crate::files::{PartValues, Parts};

/// An image of bytes, row by row, a pixel's channels together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteImage {
    /// `[height, width, channels]`
    pub bytes: Vec<u8>,
    /// Height, width, and 1 or 3 channels.
    pub shape: [usize; 3],
}

impl ByteImage {
    /// In three channels.
    pub fn into_rgb(self) -> RgbImage {
        let [height, width, channels] = self.shape;
        let bytes = match channels {
            3 => self.bytes,
            _ => self.bytes.into_iter().flat_map(|grey| [grey; 3]).collect(),
        };
        RgbImage::from_raw(width as u32, height as u32, bytes).expect("a byte for each channel of each pixel")
    }
}

/// The image of a file, in three channels.
///
/// # Errors
/// If it cannot be read.
pub fn read_rgb(path: &Path) -> Result<RgbImage, Error> {
    match decode_file(path) {
        Ok(decoded) => Ok(decoded.image.into_rgb8()),
        Err(reason) => Err(data::Error::Image { path: path.into(), reason, advice: "repair or remove it" }.into()),
    }
}

/// The images of a folder, of an array, or of the [`Parts`] of one, read one at a time.
///
/// A folder gives its PNG, JPEG and WebP files at any depth, ordered by path; images may differ in size. A file `.npz`
/// gives its array `arr_0` and a file `.npy` its only one, bytes of shape `[count, height, width, channels]` as the
/// evaluator of guided-diffusion expects them. Grey images have one channel, all others are RGB. Files are decoded as
/// [the files module](crate::files#image-files) says.
#[derive(Debug)]
pub struct ImageSource {
    from: From,
    next: usize,
    count: usize,
    /// What else the folder holds, in words.
    passed_over: Vec<String>,
    tally: Tally,
}

#[derive(Debug)]
enum From {
    Files(Vec<PathBuf>),
    /// The array that is read, those behind it, and the shape of an image of all.
    Arrays(Array, std::vec::IntoIter<PathBuf>, [usize; 3]),
}

impl ImageSource {
    /// Lists the files of a folder, or reads the header of an array.
    ///
    /// # Errors
    /// If the path cannot be read, has no images, or holds an array of another type or shape.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "npz" if !path.is_dir() => Self::of(Npz::open(path)?.array("arr_0")?),
            "npy" if !path.is_dir() => Self::of(Array::open(path)?),
            _ => {
                std::fs::read_dir(path).map_err(Error::io("list the images of", path))?;
                if let Some(parts) = Parts::open(path)? {
                    return Self::of_parts(&parts);
                }
                let listing = Listing::below(path)?;
                let passed_over = listing.passed_over();
                let files = listing.some_images(path)?;
                Ok(Self { passed_over, ..Self::new(files.len(), From::Files(files)) })
            }
        }
    }

    /// Where the image of this number is, for people to read.
    pub fn place(&self, index: usize) -> String {
        match &self.from {
            From::Files(files) => files[index].display().to_string(),
            From::Arrays(..) => format!("image {index} of the array"),
        }
    }

    /// Lines to tell the user: which files of the folder are none of the images, and of those read so far, what of their files
    /// is not in their bytes.
    pub fn remarks(&self) -> Vec<String> {
        [self.passed_over.clone(), self.tally.lines(|index| self.place(index as usize))].concat()
    }

    fn new(count: usize, from: From) -> Self {
        Self { from, next: 0, count, passed_over: vec![], tally: Tally::default() }
    }

    fn of(array: Array) -> Result<Self, Error> {
        let [count, shape @ ..] = image_shape(&array)?;
        Ok(Self::new(count, From::Arrays(array, vec![].into_iter(), shape)))
    }

    fn of_parts(parts: &Parts) -> Result<Self, Error> {
        if parts.config().values != PartValues::Bytes {
            let reason =
                "holds images as numbers, for `eval --parts`; `sample --shard` makes files that are read as images";
            return Err(Error::Images { path: parts.folder().into(), reason: reason.into() });
        }
        let (mut files, mut count) = (parts.files()?.into_iter(), 0);
        for file in files.as_slice() {
            count += image_shape(&Npz::open(file)?.array("arr_0")?)?[0];
        }
        parts.check_count(count)?;
        let first = files
            .next()
            .ok_or_else(|| Error::Images { path: parts.folder().into(), reason: "holds parts of no images".into() })?;
        let array = Npz::open(&first)?.array("arr_0")?;
        let [_, shape @ ..] = image_shape(&array)?;
        Ok(Self::new(count, From::Arrays(array, files, shape)))
    }
}

/// Images of an array, and height, width and channels of each.
fn image_shape(array: &Array) -> Result<[usize; 4], Error> {
    let (kind, shape) = (array.kind(), array.shape());
    match *shape {
        [count, height, width, channels @ (1 | 3)] if kind == ElementType::U8 && !shape.contains(&0) => {
            // The header was checked to fit the file, so this product does not overflow.
            let bytes = height * width * channels;
            if bytes as u64 > MEMORY {
                return Err(array.fault(format!("expected images of {MEMORY} bytes or fewer, found {bytes}")));
            }
            Ok([count, height, width, channels])
        }
        _ => Err(array.fault(format!(
            "expected bytes |u1 of shape [count, height, width, 1 or 3], found {kind} of shape {shape:?}"
        ))),
    }
}

impl Iterator for ImageSource {
    type Item = Result<ByteImage, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        Some(match &mut self.from {
            From::Files(files) => match decode_file(&files[index]) {
                Ok(decoded) => {
                    self.tally.add(index as u64, decoded.losses);
                    Ok(decoded.image.into())
                }
                Err(reason) => {
                    let (path, advice) = (files[index].clone(), "repair or remove it");
                    Err(data::Error::Image { path, reason, advice }.into())
                }
            },
            From::Arrays(array, files, shape) => next_of(array, files, *shape),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count - self.next, Some(self.count - self.next))
    }
}

impl ExactSizeIterator for ImageSource {}

/// The next image of an array, or the first one of the array behind it.
fn next_of(array: &mut Array, files: &mut std::vec::IntoIter<PathBuf>, shape: [usize; 3]) -> Result<ByteImage, Error> {
    if array.is_read()
        && let Some(file) = files.next()
    {
        *array = Npz::open(&file)?.array("arr_0")?;
        let [_, found @ ..] = image_shape(array)?;
        if found != shape {
            return Err(array.fault(format!("expected images of {shape:?} as in the other parts, found {found:?}")));
        }
    }
    let mut bytes = vec![0; shape.iter().product()];
    array.read(&mut bytes)?;
    Ok(ByteImage { bytes, shape })
}

impl std::convert::From<DynamicImage> for ByteImage {
    fn from(image: DynamicImage) -> Self {
        let shape = [image.height() as usize, image.width() as usize, usize::from(image.color().channel_count())];
        Self { bytes: image.into_bytes(), shape }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::GrayImage;

    use super::*;
    use crate::files::npz::npz;

    #[test]
    fn folders_and_arrays_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..2 * 3 * 4 * 3).collect();
        let (images, array) = (folder.path().join("images"), folder.path().join("all.npz"));
        fs::create_dir_all(images.join("deeper")).unwrap();
        for (name, bytes) in ["a.png", "deeper/b.png"].iter().zip(bytes.chunks(36)) {
            RgbImage::from_raw(4, 3, bytes.into()).unwrap().save(images.join(name)).unwrap();
        }
        fs::write(&array, npz(&bytes, &[2, 3, 4, 3])).unwrap();
        for path in [images, array] {
            let source = ImageSource::open(&path).unwrap();
            assert_eq!(source.len(), 2);
            let images: Vec<_> = source.collect::<Result<_, _>>().unwrap();
            let expected = bytes.chunks(36).map(|bytes| ByteImage { bytes: bytes.into(), shape: [3, 4, 3] });
            assert_eq!(images, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn grey_stays_grey() {
        let folder = tempfile::tempdir().unwrap();
        GrayImage::from_raw(2, 1, vec![7, 9]).unwrap().save(folder.path().join("grey.png")).unwrap();
        let image = ImageSource::open(folder.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(image, ByteImage { bytes: vec![7, 9], shape: [1, 2, 1] });
    }

    #[test]
    fn broken_images_end_it_by_name_and_what_is_lost_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        image::RgbaImage::from_pixel(5, 4, image::Rgba([1, 2, 3, 4])).save(at("a.png")).unwrap();
        RgbImage::from_pixel(5, 4, image::Rgb([1, 2, 3])).save(at("b.jpg")).unwrap();
        let whole = fs::read(at("b.jpg")).unwrap();
        let mut source = ImageSource::open(folder.path()).unwrap();
        assert!(source.by_ref().all(|image| image.is_ok_and(|image| image.shape == [4, 5, 3])));
        let lines = source.remarks();
        assert!(lines.len() == 1 && lines[0].contains("alpha is dropped") && lines[0].ends_with("a.png"), "{lines:?}");
        for length in [whole.len() / 10, whole.len() / 2, whole.len() - 1] {
            fs::write(at("b.jpg"), &whole[..length]).unwrap();
            let message = ImageSource::open(folder.path()).unwrap().nth(1).unwrap().unwrap_err().to_string();
            let cut = format!("it is cut after {length} bytes");
            assert!(message.contains("b.jpg") && message.contains(&cut) && !message.contains("skip"), "{message}");
        }
    }

    #[test]
    fn files_that_are_passed_over_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        RgbImage::from_pixel(5, 4, image::Rgb([1, 2, 3])).save(at("a.png")).unwrap();
        for name in ["b.bmp", "c.bmp", ".d.png"] {
            fs::write(at(name), "").unwrap();
        }
        let source = ImageSource::open(folder.path()).unwrap();
        let (count, lines) = (source.len(), source.remarks());
        assert!(count == 1 && lines.len() == 2, "{lines:?}");
        assert!(lines[0].contains("2 .bmp") && lines[0].contains("b.bmp") && lines[1].contains("1 names"), "{lines:?}");
    }

    #[test]
    fn what_holds_no_images_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("statistics.npz"), npz(&[0; 4], &[4])).unwrap();
        fs::write(path("alpha.npz"), npz(&[0; 4], &[1, 1, 1, 4])).unwrap();
        fs::write(path("none.npz"), npz(&[], &[0, 1, 1, 3])).unwrap();
        fs::write(path("other.npz"), b"not an archive").unwrap();
        fs::create_dir(path("empty")).unwrap();
        for (name, word) in [
            ("statistics.npz", "[count, height, width, 1 or 3]"),
            ("alpha.npz", "[count, height, width, 1 or 3]"),
            ("none.npz", "[count, height, width, 1 or 3]"),
            ("other.npz", "it is text"),
            ("empty", "no images"),
            ("absent", "cannot list the images"),
            ("absent.npz", "cannot open"),
        ] {
            let message = ImageSource::open(&path(name)).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains(name), "{name}: {message}");
        }
    }
}
