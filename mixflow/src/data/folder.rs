//! A directory of images.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::captions::{Captioned, captioned};
use super::{Dataset, Error, Example, Fingerprint, LARGEST, Variation};
use super::{center_crop, checked_size, random_crop, to_planes};
use crate::files::decode::{Decoded, Losses, Tally, decode_rgb, read};
use crate::files::listing::{Listing, canonical, kinds};
use crate::random::{self, Stream};

/// What to do about an image that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBroken {
    /// Fail, naming the file.
    #[default]
    Refuse,
    /// Show the next readable image of its class instead and list the file in [`Dataset::broken`].
    Skip,
}

/// Images in class sub-directories, or with captions, centre-cropped to a square.
///
/// The sub-directories of the path are the classes, ordered by name. Each holds PNG, JPEG or WebP files, at any depth,
/// ordered by path: found by the endings .png, .jpg, .jpeg and .webp, told apart by their content. Names that start
/// with a dot are ignored, symbolic links are followed. Images are decoded when asked for, as
/// [the data module](super#image-files) says, and cut by [`center_crop`].
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    size: usize,
    /// Shorter side before a random square is cut.
    random_crop: Option<usize>,
    on_broken: OnBroken,
    classes: Vec<String>,
    /// Class `c` has the files `starts[c]..starts[c + 1]`.
    starts: Vec<usize>,
    files: Vec<PathBuf>,
    notices: Vec<String>,
    /// Indices of files found broken, and what is wrong with them.
    broken: Mutex<BTreeMap<usize, String>>,
    tally: Mutex<Tally>,
}

impl Folder {
    /// Lists the images below `path`, to be shown at `size × size` pixels and three channels.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096, a directory cannot be listed, there are no classes, a class has no images or a name
    /// that is not UTF-8, or symbolic links form a loop.
    pub fn open(path: &Path, size: usize, on_broken: OnBroken) -> Result<Self, Error> {
        let size = checked_size(size)?;
        let mut folder = Self {
            path: path.into(),
            size,
            random_crop: None,
            on_broken,
            classes: Vec::new(),
            starts: vec![0],
            files: Vec::new(),
            notices: Vec::new(),
            broken: Mutex::default(),
            tally: Mutex::default(),
        };
        let mut listing = Listing::default();
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
            let count = listing.images.len();
            folder
                .notices
                .push(format!("passed over {count} images that are in no class, the first {}", first.display()));
        }
        folder.notices.extend(odd_classes(path, &folder.classes));
        Ok(folder)
    }

    /// Lists the images at any depth below `path` by their captions, which are the classes: all different ones, ordered.
    ///
    /// Captions stand in `metadata.jsonl`, a line `{"file_name": "cat.png", "text": "a cat"}` for each image, or in a file
    /// of each image's name with the ending .txt beside it. White space in them counts as one space.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096, a directory or a caption cannot be read, an image is without one or there are none.
    pub fn captioned(path: &Path, size: usize, on_broken: OnBroken) -> Result<Self, Error> {
        let size = checked_size(size)?;
        let Captioned { mut images, notices } = captioned(path)?;
        images.sort_by(|(a, caption), (b, other)| (caption, a).cmp(&(other, b)));
        let (mut classes, mut starts, mut files) = (Vec::<String>::new(), vec![], vec![]);
        for (file, caption) in images {
            if classes.last() != Some(&caption) {
                classes.push(caption);
                starts.push(files.len());
            }
            files.push(file);
        }
        starts.push(files.len());
        let path = path.into();
        let (broken, tally) = Default::default();
        Ok(Self { path, size, random_crop: None, on_broken, classes, starts, files, notices, broken, tally })
    }

    /// In training, resizes images to this shorter side and cuts a random square, [`random_crop`], instead of the central
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

    /// The path of a file inside the folder, with `/` on every system.
    fn name(&self, index: usize) -> Vec<u8> {
        let file = &self.files[index];
        let inside = file.strip_prefix(&self.path).unwrap_or(file);
        inside.components().map(|part| part.as_os_str().as_encoded_bytes()).collect::<Vec<_>>().join(&b'/')
    }

    /// A file and its class.
    pub(super) fn file(&self, index: usize) -> (&Path, usize) {
        (&self.files[index], self.starts.partition_point(|&start| start <= index) - 1)
    }

    /// The image of an index, or what stands in for it, and its class.
    fn labelled(&self, index: u64) -> Result<(Decoded<RgbImage>, usize), Error> {
        let index = index as usize;
        assert!(index < self.files.len(), "index {index} of {} images", self.files.len());
        let (_, label) = self.file(index);
        let class = self.starts[label]..self.starts[label + 1];
        let image = match self.on_broken {
            OnBroken::Refuse => self.image(index)?,
            // Which files decode is a property of the files, so the substitute is the same for every reader.
            OnBroken::Skip => (index..class.end)
                .chain(class.start..index)
                .filter(|&file| !self.known_broken(file))
                .find_map(|file| self.image(file).ok())
                .ok_or_else(|| Error::AllBroken {
                    class: self.classes[label].clone(),
                    count: class.len(),
                    path: self.files[class.start].clone(),
                })?,
        };
        Ok((image, label))
    }

    /// Decodes a file, or remembers that it is broken.
    fn image(&self, file: usize) -> Result<Decoded<RgbImage>, Error> {
        let decoded = read(&self.files[file]).and_then(|bytes| decode_rgb(&bytes)).map_err(|reason| {
            lock(&self.broken).insert(file, reason.clone());
            let advice = "repair or remove it, or set `data.on_broken` to `skip`";
            Error::Image { path: self.files[file].clone(), reason, advice }
        })?;
        let shorter = decoded.image.width().min(decoded.image.height()) as usize;
        let enlarged = Losses::ENLARGED.when(shorter < self.random_crop.unwrap_or(self.size));
        lock(&self.tally).add(file as u64, decoded.losses | enlarged);
        Ok(decoded)
    }

    fn known_broken(&self, file: usize) -> bool {
        lock(&self.broken).contains_key(&file)
    }
}

impl Dataset for Folder {
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
        let (image, label) = self.labelled(index)?;
        Ok(Example { pixels: to_planes(&center_crop(&image.image, self.size as u32)), label, features: vec![] })
    }

    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        let mut example = match self.random_crop {
            None => self.example(index)?,
            Some(short_side) => {
                let (image, label) = self.labelled(index)?;
                let mut rng = random::rng(variation.seed, Stream::Crop, variation.position);
                let place = std::array::from_fn(|_| random::uniform(&mut rng));
                let square = random_crop(&image.image, self.size as u32, short_side as u32, place);
                Example { pixels: to_planes(&square), label, features: vec![] }
            }
        };
        variation.mirror(&mut example, self.size);
        Ok(example)
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        Ok(self.file(index as usize).1)
    }

    fn broken(&self) -> Vec<PathBuf> {
        lock(&self.broken).keys().map(|&file| self.files[file].clone()).collect()
    }

    fn remarks(&self) -> Vec<String> {
        let broken = lock(&self.broken);
        let mut lines = match broken.len() {
            0 => vec![],
            1 => vec!["1 image is broken and was replaced by another of its class:".to_owned()],
            count => vec![format!("{count} images are broken and were replaced by others of their class:")],
        };
        lines.extend(broken.iter().map(|(&file, reason)| format!("  {}: {reason}", self.files[file].display())));
        lines.extend(lock(&self.tally).lines(|file| self.files[file as usize].display().to_string()));
        lines
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let labels =
            self.starts.windows(2).enumerate().flat_map(|(label, range)| (range[0]..range[1]).map(move |_| label));
        let names = (0..self.files.len()).map(|index| self.name(index));
        Ok(Fingerprint::named(&self.classes, names.zip(labels)))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts that a data set is often divided into, as directories are called that are no classes.
const PARTS: [&str; 9] = ["train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"];

/// What is odd about the names of the classes at `path`, in words.
fn odd_classes(path: &Path, classes: &[String]) -> Option<String> {
    let shown = |class: &String| format!("`{class}`");
    if classes.iter().all(|class| PARTS.contains(&class.to_lowercase().as_str())) {
        let names = classes.iter().map(shown).collect::<Vec<_>>().join(", ");
        let part = path.join(&classes[0]);
        return Some(format!(
            "{names} are taken for classes and look like parts of a data set: to take one of them, name it, such as {}",
            part.display()
        ));
    }
    if let [only] = classes {
        return Some(format!("{} is the only class: labels tell the network nothing", shown(only)));
    }
    let numbers: Option<Vec<u64>> = classes.iter().map(|class| class.parse().ok()).collect();
    let turn = numbers?.windows(2).position(|pair| pair[0] > pair[1])?;
    let [first, second] = [turn, turn + 1].map(|label| shown(&classes[label]));
    Some(format!("classes are ordered as text: {first} is label {turn}, {second} is label {}", turn + 1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use image::{ImageFormat, Rgb};
    use tempfile::TempDir;

    use super::*;

    /// Two classes of flat images: `a` 10, 20 and 30 bright, `b` 200.
    fn fixture() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, value: u8, format| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(12, 9, Rgb([value; 3])).save_with_format(path, format).unwrap();
        };
        write("a/1.png", 10, ImageFormat::Png);
        write("a/2.JPG", 20, ImageFormat::Jpeg);
        write("a/deeper/3.webp", 30, ImageFormat::WebP);
        write("b/misnamed.jpeg", 200, ImageFormat::Png);
        write("b/.hidden.png", 0, ImageFormat::Png);
        fs::write(root.path().join("b/notes.txt"), "no image").unwrap();
        fs::write(root.path().join("README"), "no class").unwrap();
        root
    }

    fn value(folder: &Folder, index: u64) -> u8 {
        let pixels = folder.example(index).unwrap().pixels;
        assert_eq!(pixels.len(), 3 * 4 * 4);
        super::super::Quantize::Sit.byte(pixels[20])
    }

    #[test]
    fn classes_and_files_come_in_order_of_name() {
        let root = fixture();
        let folder = Folder::open(root.path(), 4, OnBroken::Refuse).unwrap();
        assert_eq!((folder.classes(), folder.len()), (&["a".to_owned(), "b".to_owned()][..], Some(4)));
        assert_eq!([0, 1, 2, 3].map(|i| value(&folder, i)), [10, 20, 30, 200]);
        assert_eq!([0, 1, 2, 3].map(|i| folder.example(i).unwrap().label), [0, 0, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|i| folder.label(i).unwrap()), [0, 0, 0, 1]);
    }

    #[test]
    fn captions_are_classes_in_their_order() {
        let root = fixture();
        for (name, caption) in
            [("a/1", "two  cats\n"), ("a/2", "a dog"), ("a/deeper/3", "two cats"), ("b/misnamed", "")]
        {
            fs::write(root.path().join(name).with_extension("txt"), caption).unwrap();
        }
        let open = || Folder::captioned(root.path(), 4, OnBroken::Refuse);
        let folder = open().unwrap();
        assert_eq!(folder.classes(), ["", "a dog", "two cats"]);
        assert_eq!(
            [0, 1, 2, 3].map(|i| (folder.label(i).unwrap(), value(&folder, i))),
            [(0, 200), (1, 20), (2, 10), (2, 30)]
        );

        // A table counts instead.
        let table = root.path().join("metadata.jsonl");
        let line = |name, key, text| format!("{{\"file_name\": \"{name}\", \"{key}\": \"{text}\", \"width\": 12}}\n");
        fs::write(&table, line("a/1.png", "text", "one") + "\n" + &line("b/misnamed.jpeg", "caption", "another"))
            .unwrap();
        let folder = open().unwrap();
        assert_eq!((folder.classes(), value(&folder, 0)), (&["another".to_owned(), "one".into()][..], 200));
    }

    #[test]
    fn images_without_captions_are_named() {
        let root = fixture();
        let complain = |word: &str| {
            let error = Folder::captioned(root.path(), 4, OnBroken::Refuse).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        complain("a/1.txt");
        for (text, word) in [
            ("", "no images"),
            ("{}", "line 1: the key `file_name` is missing"),
            ("{\"file_name\": \"a/1.png\", \"text\": \"a\\u0000b\"}", "zeros in line 1"),
            ("\n{\"file_name\": \"a/1.png\"}", "no `text` in line 2"),
            ("{\"file_name\": \"none.png\", \"text\": \"\"}", "name none.png in line 1"),
            ("{\"file_name\": \"a/../../x.png\", \"text\": \"\"}", "name a/../../x.png in line 1, which is outside"),
            ("{\"file_name\": \"/etc/x.png\", \"text\": \"\"}", "name /etc/x.png in line 1, which is outside"),
            ("{\"file_name\": \"..\\\\x.png\", \"text\": \"\"}", "line 1, which is outside"),
            (
                "{\"file_name\": \"a/1.png\", \"text\": \"\"}\n{\"file_name\": \"./a\\\\1.png\", \"text\": \"\"}",
                "in line 1 and in line 2",
            ),
        ] {
            fs::write(root.path().join("metadata.jsonl"), text).unwrap();
            complain(word);
        }
    }

    #[test]
    fn tables_and_texts_of_other_systems_are_read() {
        let root = fixture();
        let table = root.path().join("metadata.jsonl");
        let lines = [
            "\u{feff}{\"file_name\": \"a\\\\1.png\", \"caption\": \"tags\", \"text\": \"one\"}",
            "{\"file_name\": \"./a/2.JPG\", \"text\": \" \"}",
        ];
        fs::write(&table, lines.join("\r\n") + "\r\n\r\n").unwrap();
        let open = || Folder::captioned(root.path(), 4, OnBroken::Refuse);
        let folder = open().unwrap();
        assert_eq!((folder.classes(), value(&folder, 1)), (&[String::new(), "one".into()][..], 10));
        let notices = folder.notices().join("\n").replace(&format!("{}/", root.path().display()), "");
        for words in [
            "passed over 2 files (1 .txt, 1 without ending)",
            "2 images have no line in metadata.jsonl and are passed over, the first a/deeper/3.webp",
            "1 lines of metadata.jsonl have a `text` and a `caption`: `text` is taken",
            "1 images have an empty caption, the first a/2.JPG",
        ] {
            assert!(notices.contains(words), "{words}: {notices}");
        }
        fs::write(&table, b"{\"file_name\": \"a/1.png\",\n \"text\": \"ch\xe2t\"}").unwrap();
        let message = open().unwrap_err().to_string();
        assert!(message.contains("not UTF-8 in line 2"), "{message}");

        fs::remove_file(&table).unwrap();
        for name in ["a/1.txt", "a/2.TXT", "a/deeper/3.txt", "b/misnamed.txt"] {
            fs::write(root.path().join(name), "\u{feff}a cat\r\n").unwrap();
        }
        let folder = open().unwrap();
        assert_eq!(folder.classes(), ["a cat"]);
        assert!(folder.notices()[0].contains("2 files (1 .txt, 1 without ending)"), "{:?}", folder.notices());
        fs::write(root.path().join("a/1.TXT"), "a dog").unwrap();
        assert!(open().unwrap_err().to_string().contains("only one of them"));
    }

    #[test]
    fn what_is_passed_over_is_told() {
        let root = fixture();
        for name in ["a/4.bmp", "a/5.BMP", "a/6.gif", "b/7.tiff", "loose.png"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        let notices = Folder::open(root.path(), 4, OnBroken::Refuse).unwrap().notices();
        let of = |name: &str| root.path().join(name).display().to_string();
        assert_eq!(
            notices,
            [
                format!(
                    "passed over 6 files (2 .bmp, 1 .gif, 1 .tiff, 1 .txt, 1 without ending), which end in none of .png, .jpg, \
                 .jpeg and .webp, the first {}",
                    of("a/4.bmp")
                ),
                "passed over 1 names that start with a dot".into(),
                format!("passed over 1 images that are in no class, the first {}", of("loose.png")),
            ]
        );
        // Of two readers each finds the same.
        let folder: std::sync::Arc<dyn Dataset> =
            std::sync::Arc::new(Folder::open(root.path(), 4, OnBroken::Refuse).unwrap());
        assert_eq!(super::super::split(&folder, 1, 0).unwrap().0.notices(), notices);
    }

    #[test]
    fn names_that_are_hardly_classes_are_told() {
        for (classes, words) in [
            (&["train", "val"][..], "`train`, `val` are taken for classes and look like parts of a data set"),
            (&["Test"], "`Test` are taken for classes"),
            (&["cats"], "`cats` is the only class"),
            (&["1", "10", "2"], "classes are ordered as text: `10` is label 1, `2` is label 2"),
        ] {
            let classes: Vec<String> = classes.iter().map(|&class| class.into()).collect();
            let told = odd_classes(Path::new("photos"), &classes).unwrap();
            assert!(told.contains(words), "{told}");
        }
        for classes in [["1", "2"], ["01", "10"], ["train", "cats"]] {
            assert_eq!(odd_classes(Path::new("photos"), &classes.map(String::from)), None);
        }
    }

    #[test]
    fn random_squares_differ_between_positions_and_not_between_readings() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        let ramp = RgbImage::from_fn(64, 48, |x, y| Rgb([3 * x as u8, 5 * y as u8, 0]));
        ramp.save(root.path().join("a/ramp.png")).unwrap();
        let folder = || Folder::open(root.path(), 16, OnBroken::Refuse).unwrap();
        let cropped = folder().with_random_crop(24).unwrap();
        let at = |position| {
            let square = |flip| cropped.variant(0, Variation { seed: 1, position, flip }).unwrap().pixels;
            assert_eq!(square(false), square(false));
            square(false)
        };
        let squares: Vec<_> = (0..20).map(at).collect();
        assert!((1..20).any(|i| squares[i] != squares[0]));
        assert_eq!(cropped.example(0).unwrap(), folder().example(0).unwrap(), "outside training the centre is taken");
        assert!(folder().with_random_crop(15).unwrap_err().to_string().contains("found 15"));
    }

    #[test]
    fn a_broken_image_is_named_and_refused_or_replaced() {
        let root = fixture();
        let broken = root.path().join("a/2.JPG");
        let bytes = fs::read(&broken).unwrap();
        for damage in [&bytes[..20], &bytes[..bytes.len() / 10], &bytes[..bytes.len() - 9], b"", b"not an image at all"]
        {
            fs::write(&broken, damage).unwrap();
            let refuse = Folder::open(root.path(), 4, OnBroken::Refuse).unwrap();
            let error = refuse.example(1).unwrap_err();
            assert!(matches!(&error, Error::Image { path, .. } if *path == broken), "{error}");
            assert!(error.to_string().contains("2.JPG"));

            let skip = Folder::open(root.path(), 4, OnBroken::Skip).unwrap();
            assert_eq!([1, 0, 1].map(|i| value(&skip, i)), [30, 10, 30]);
            assert_eq!(skip.broken(), [broken.as_path()]);
            let lines = skip.remarks();
            assert!(lines[0].starts_with("1 image is broken"), "{lines:?}");
            assert!(
                lines[1].contains("2.JPG: ") && error.to_string().contains(lines[1].split("2.JPG: ").nth(1).unwrap())
            );
        }
        fs::write(root.path().join("a/deeper/3.webp"), b"").unwrap();
        let skip = Folder::open(root.path(), 4, OnBroken::Skip).unwrap();
        assert_eq!([1, 2].map(|i| value(&skip, i)), [10, 10]);
        fs::write(root.path().join("b/misnamed.jpeg"), b"").unwrap();
        assert!(matches!(skip.example(3), Err(Error::AllBroken { class, count: 1, .. }) if class == "b"));
    }

    #[test]
    fn what_is_not_in_the_pixels_is_told_once_for_each_image() {
        let root = fixture();
        let clear = image::RgbaImage::from_fn(9, 9, |x, _| image::Rgba([1, 2, 3, 28 * x as u8]));
        clear.save(root.path().join("a/1.png")).unwrap();
        let folder = Folder::open(root.path(), 10, OnBroken::Refuse).unwrap();
        assert!(folder.remarks().is_empty());
        for index in [0, 3, 0, 1, 2] {
            folder.example(index).unwrap();
        }
        let lines = folder.remarks();
        assert!(lines[0].starts_with("1 image is partly transparent") && lines[0].ends_with("1.png"), "{lines:?}");
        assert!(lines[1].starts_with("4 images are smaller"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn huge_headers_are_refused_before_memory_is_taken() {
        let root = fixture();
        // 2³¹ − 1 pixels each way, in an otherwise valid header.
        let path = root.path().join("b/misnamed.jpeg");
        let mut png = fs::read(&path).unwrap();
        png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        fs::write(&path, png).unwrap();
        let folder = Folder::open(root.path(), 4, OnBroken::Refuse).unwrap();
        let message = folder.example(3).unwrap_err().to_string();
        assert!(["2147483647 x 2147483647", "1024 MiB"].iter().all(|word| message.contains(word)), "{message}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn unusable_directories_are_explained() {
        let root = fixture();
        let open = |path: &Path| Folder::open(path, 4, OnBroken::Refuse).unwrap_err();
        assert!(matches!(open(&root.path().join("absent")), Error::Read { .. }));
        assert!(matches!(open(&root.path().join("README")), Error::Read { .. }));
        let message = open(&root.path().join("b")).to_string();
        assert!(message.contains("no classes in") && message.contains("2 files (1 .jpeg, 1 .txt)"), "{message}");
        fs::create_dir(root.path().join("c")).unwrap();
        fs::write(root.path().join("c/1.bmp"), "").unwrap();
        let message = open(root.path()).to_string();
        assert!(message.contains("/c`, which holds 1 file (1 .bmp);"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn loops_dangling_links_and_names_that_are_not_text_are_errors() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;

        let root = fixture();
        let open = || Folder::open(root.path(), 4, OnBroken::Refuse);
        symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
        assert!(matches!(open(), Err(Error::Loop { path }) if path.ends_with("a/again")));
        fs::remove_file(root.path().join("a/again")).unwrap();

        symlink("4.png", root.path().join("a/4.png")).unwrap();
        assert!(matches!(open().unwrap().example(2), Err(Error::Image { path, .. }) if path.ends_with("4.png")));
        fs::remove_file(root.path().join("a/4.png")).unwrap();

        let name = OsStr::from_bytes(b"\xff\xfe.png");
        fs::rename(root.path().join("a/1.png"), root.path().join("a").join(name)).unwrap();
        assert_eq!(value(&open().unwrap(), 2), 10);
        fs::create_dir(root.path().join(name)).unwrap();
        assert!(matches!(open(), Err(Error::NotUtf8 { .. })));
    }
}
