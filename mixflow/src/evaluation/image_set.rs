//! Images of one size, from a folder or an array.

use std::path::Path;

use crate::evaluation::metric::{Features, Gaussian};
use crate::files::images::{ByteImage, ImageSource};
use crate::numbers::counted;
use crate::{Error, check_memory};

/// Images of one size as bytes, to be measured: nothing is cropped or resized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    pixels: Vec<u8>,
    shape: [usize; 4],
    remarks: Vec<String>,
}

impl ImageSet {
    /// Reads all that an [`ImageSource`] gives: a folder, at any depth, or an array.
    ///
    /// Images that are all grey have one channel, however their files say it; with a coloured image among them all have
    /// three.
    ///
    /// # Errors
    /// As [`ImageSource`], and [`Error::Images`], naming both, if two images differ in size.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::as_stored(path)?.0.without_colour())
    }

    /// With three channels if a file says so, although it may be grey; and whether all files do.
    fn as_stored(path: &Path) -> Result<(Self, bool), Error> {
        let mut source = ImageSource::open(path)?;
        let count = source.len();
        let mut images: Vec<ByteImage> = vec![];
        while let Some(image) = source.next() {
            let image = image?;
            let [high, wide, _] = image.shape;
            let [height, width, _] = images.first().unwrap_or(&image).shape;
            if images.is_empty() {
                // Bytes, then numbers of 64 bits.
                let one = (1 + 8) * image.bytes.len() + size_of::<ByteImage>();
                let what = || {
                    let images = counted(count as u64, "image");
                    format!("measuring {images} of {height} x {width} pixels of {}", path.display())
                };
                check_memory(what, &[count as u64, one as u64])?;
                images.reserve(count);
            }
            if [high, wide] != [height, width] {
                let (other, first) = (source.place(images.len()), source.place(0));
                let reason =
                    format!("{other} has {high} x {wide} pixels (height, width), but {first} has {height} x {width}");
                return Err(Error::Images { path: path.into(), reason });
            }
            images.push(image);
        }
        let [height, width, _] = images.first().expect("a source has an image").shape;
        let channels = images.iter().map(|image| image.shape[2]).fold(1, usize::max);
        let coloured = images.iter().all(|image| image.shape[2] == 3);
        let mut pixels = Vec::with_capacity(count * height * width * channels);
        for ByteImage { bytes, shape: [_, _, own] } in images {
            extend(&mut pixels, &bytes, channels / own);
        }
        let shape = [count, height, width, channels];
        Ok((Self { pixels, shape, remarks: source.remarks() }, coloured))
    }

    /// Reads two sets that are to be compared.
    ///
    /// # Errors
    /// As [`read`](Self::read), and naming both, if they differ in size, before the rest of them is read, or if one is
    /// grey and the other coloured; also if they are too large to be measured.
    pub fn read_both(paths: [&Path; 2]) -> Result<[Self; 2], Error> {
        let differ = |what: [String; 2]| {
            let [one, other] = what;
            let reason = format!("has {one}, but {} has {other}; make them alike", paths[1].display());
            Err(Error::Images { path: paths[0].into(), reason })
        };
        let first = |path| ImageSource::open(path)?.next().expect("a source has an image");
        let [[height, width, _], [high, wide, _]] = [first(paths[0])?.shape, first(paths[1])?.shape];
        if [height, width] != [high, wide] {
            let size = |height, width| format!("images of {height} x {width} pixels (height, width)");
            return differ([size(height, width), size(high, wide)]);
        }
        // Of one channel at least.
        Gaussian::check_columns(height.saturating_mul(width))?;
        let [(one, coloured), (other, too)] = [Self::as_stored(paths[0])?, Self::as_stored(paths[1])?];
        let sets = [one.clone(), other.clone()].map(Self::without_colour);
        match sets.each_ref().map(|set| set.shape[3]) {
            [one, other] if one == other => Ok(sets),
            // A generator of coloured images may make grey ones.
            _ if coloured && too => Ok([one, other]),
            found => differ(found.map(|channels| match channels {
                1 => "grey images, of 1 channel".into(),
                _ => "coloured images, of 3 channels".into(),
            })),
        }
    }

    /// One channel, if red, green and blue are the same everywhere.
    fn without_colour(self) -> Self {
        let [count, height, width, channels] = self.shape;
        let colours = self.pixels.as_chunks::<3>().0;
        if channels == 1 || colours.iter().any(|[red, green, blue]| red != green || green != blue) {
            return self;
        }
        let pixels = colours.iter().map(|[grey, ..]| *grey).collect();
        Self { pixels, shape: [count, height, width, 1], ..self }
    }

    /// `[count, height, width, channels]`, 1 channel or 3.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Bytes, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Lines to tell the user: what of the images' files is not in the bytes.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The pixels as feature vectors in [−1, 1].
    ///
    /// # Errors
    /// None for images that were read; the signature is that of other features.
    pub fn features(&self) -> Result<Features, Error> {
        let [count, height, width, channels] = self.shape;
        let pixels = self.pixels.iter().map(|&byte| f64::from((f32::from(byte) / 255.0 - 0.5) / 0.5)).collect();
        Ok(Features::new(count, height * width * channels, pixels)?)
    }
}

/// Appends each byte `times` times: a grey value as red, green and blue.
fn extend(pixels: &mut Vec<u8>, bytes: &[u8], times: usize) {
    pixels.extend(bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, times)));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, Luma, Rgb, RgbImage};
    use tempfile::TempDir;

    use super::*;
    use crate::files::npz::npz;

    /// Two grey images of 3 x 2 pixels, one of them in a class.
    fn grey() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("class")).unwrap();
        GrayImage::from_fn(2, 3, |x, y| Luma([(10 * y + x) as u8])).save(root.path().join("a.png")).unwrap();
        GrayImage::from_pixel(2, 3, Luma([200])).save(root.path().join("class/b.webp")).unwrap();
        root
    }

    fn message(path: &Path) -> String {
        ImageSet::read(path).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_and_an_array_of_the_same_images_are_the_same_set() {
        let root = grey();
        let folder = ImageSet::read(root.path()).unwrap();
        assert_eq!((folder.shape(), &folder.pixels()[..7]), ([2, 3, 2, 1], &[0, 1, 10, 11, 20, 21, 200][..]));
        let file = root.path().join("all.npz");
        fs::write(&file, npz(folder.pixels(), &folder.shape())).unwrap();
        assert_eq!(ImageSet::read(&file).unwrap(), folder);
        let features = folder.features().unwrap();
        assert_eq!((features.rows(), features.columns(), features.row(0)[0]), (2, 6, -1.0));
    }

    #[test]
    fn grey_images_join_coloured_ones() {
        let root = grey();
        RgbImage::from_pixel(2, 3, Rgb([1, 2, 3])).save(root.path().join("c.png")).unwrap();
        let all = ImageSet::read(root.path()).unwrap();
        assert_eq!((all.shape(), &all.pixels()[3..6]), ([3, 3, 2, 3], &[1, 1, 1][..]));
    }

    #[test]
    fn coloured_images_that_are_all_grey_are_compared_with_coloured_ones() {
        let root = tempfile::tempdir().unwrap();
        let [collapsed, grey, coloured] =
            ["collapsed.npz", "grey.npz", "COLOURED.NPZ"].map(|name| root.path().join(name));
        fs::write(&collapsed, npz(&[7; 48], &[2, 4, 2, 3])).unwrap();
        fs::write(&grey, npz(&[7; 16], &[2, 4, 2, 1])).unwrap();
        fs::write(&coloured, npz(&(0..48).collect::<Vec<u8>>(), &[2, 4, 2, 3])).unwrap();
        let shapes = |paths: [&Path; 2]| ImageSet::read_both(paths).map(|sets| sets.map(|set| set.shape()[3]));
        assert_eq!(shapes([&collapsed, &coloured]).unwrap(), [3, 3]);
        assert_eq!(shapes([&collapsed, &grey]).unwrap(), [1, 1]);
        assert!(shapes([&grey, &coloured]).unwrap_err().to_string().contains("has grey images"));
    }

    /// A file of 4 TB that takes no room on the disk.
    #[cfg(unix)]
    #[test]
    fn more_images_than_memory_holds_are_refused_before_they_are_read() {
        let file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (4194304, 1024, 1024, 1), }";
        let head = [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
        fs::write(file.path(), &head).unwrap();
        file.as_file().set_len(head.len() as u64 + (1 << 42)).unwrap();
        let text = message(file.path());
        assert!(text.contains("4,194,304 images") && text.contains("39.58 TB"), "{text}");
    }

    #[test]
    fn sets_that_differ_in_size_or_colour_are_refused_with_both_values() {
        let [grey, coloured, large] = [grey(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        RgbImage::from_pixel(2, 3, Rgb([1, 2, 3])).save(coloured.path().join("c.png")).unwrap();
        GrayImage::new(5, 4).save(large.path().join("a.png")).unwrap();
        // Not reached: the first images tell.
        fs::write(large.path().join("b.png"), "broken").unwrap();
        let message = |other: &Path| ImageSet::read_both([grey.path(), other]).unwrap_err().to_string();
        for (other, words) in [(&coloured, ["1 channel", "3 channels"]), (&large, ["3 x 2", "4 x 5"])] {
            let text = message(other.path());
            let folders = [&grey, other].map(|folder| folder.path().to_str().unwrap().to_owned());
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(folders.iter().all(|folder| text.contains(folder)), "{text}");
        }
        let [one, other] = ImageSet::read_both([grey.path(), grey.path()]).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn sets_that_cannot_be_used_are_refused_by_file() {
        let root = grey();
        let of = |name: &str| root.path().join(name);
        for path in ["none", "a.png", "empty"] {
            assert!(message(&of(path)).contains(path), "{}", message(&of(path)));
        }
        fs::write(of("four.npz"), npz(&[0; 16], &[2, 2, 1, 4])).unwrap();
        assert!(message(&of("four.npz")).contains("[2, 2, 1, 4]"));
        GrayImage::new(3, 3).save(of("class/z.png")).unwrap();
        let text = message(root.path());
        assert!(["class/z.png", "3 x 3", "a.png", "3 x 2"].iter().all(|word| text.contains(word)), "{text}");
        fs::write(of("class/z.png"), "broken").unwrap();
        assert!(message(root.path()).contains("class/z.png"));
    }
}
