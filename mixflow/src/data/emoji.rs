//! Noto's emoji: 1,892 small pictures, each with a name and a group.

use image::RgbImage;
use mixflow_backbones::json::nearest;

use super::pixels::{center_crop, to_planes};
use super::{Dataset, Error, Example, Fingerprint, checked_size};

/// Pictures of [`SIDE`] × [`SIDE`] pixels on white, [`COLUMNS`] a row, in the order of [`TABLE`]. Licence:
/// `assets/README.md`.
const PNG: &[u8] = include_bytes!("../../assets/emoji.png");

/// A line for each picture: Unicode's group, its subgroup, and the name in small letters, between tabulators.
const TABLE: &str = include_str!("../../assets/emoji.tsv");

const SIDE: u32 = 32;
const COLUMNS: u32 = 44;

/// The emoji of Noto, 1,892 different pictures without those that differ by the colour of skin, on white.
///
/// They are stored at 32 × 32 pixels, and resized from there as [`center_crop`] resizes. Classes are Unicode's nine groups,
/// groups of one's choice, or names, as captions for networks that are told prompts.
///
/// ```
/// use mixflow::data::{Dataset, Emoji};
///
/// let emoji = Emoji::new(32, &["face".into(), "Flags".into()])?;
/// assert_eq!((emoji.len(), emoji.classes()), (Some(379), &["face".to_owned(), "Flags".to_owned()][..]));
/// # Ok::<(), mixflow::data::Error>(())
/// ```
///
/// # Source
/// Google, Noto Emoji, Apache-2.0, by the package `emoji-datasource-google` 16.0.0; groups as in Unicode's `emoji-test.txt`.
#[derive(Clone, Debug)]
pub struct Emoji {
    /// Pixels of an image and its label, in Unicode's order.
    images: Vec<(RgbImage, usize)>,
    names: Vec<&'static str>,
    classes: Vec<String>,
    size: usize,
}

impl Emoji {
    /// Those of `groups` at `size × size` pixels, in three channels; each of them is a class.
    ///
    /// A word names one of Unicode's groups (`Flags`), of its subgroups (`animal-bird`), or all subgroups that begin with
    /// it (`face`, `animal`); the first that fits a picture is its class. Without words the nine groups are the classes.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096, or a word fits no picture, or none that earlier words leave.
    pub fn new(size: usize, groups: &[String]) -> Result<Self, Error> {
        let classes = if groups.is_empty() { firsts(rows().map(|row| row.group)) } else { groups.to_vec() };
        let fits = |class: &String, row: &Row| {
            let begins = |rest: &str| rest.is_empty() || rest.starts_with('-');
            row.group == class || row.subgroup.strip_prefix(class.as_str()).is_some_and(begins)
        };
        if let Some(unknown) = classes.iter().find(|class| !rows().any(|row| fits(class, &row))) {
            return Err(unknown_group(unknown));
        }
        let sheet = image::load_from_memory_with_format(PNG, image::ImageFormat::Png)
            .expect("the embedded sheet is a PNG")
            .into_rgb8();
        let (mut images, mut names) = (vec![], vec![]);
        for (number, row) in (0..).zip(rows()) {
            if let Some(label) = classes.iter().position(|class| fits(class, &row)) {
                let [x, y] = [number % COLUMNS, number / COLUMNS].map(|place| place * SIDE);
                images.push((image::imageops::crop_imm(&sheet, x, y, SIDE, SIDE).to_image(), label));
                names.push(row.name);
            }
        }
        let taken = |class: usize| images.iter().any(|(_, label)| *label == class);
        if let Some(empty) = (0..classes.len()).find(|class| !taken(*class)) {
            return Err(Error::EmptyGroup { word: classes[empty].clone() });
        }
        Ok(Self { images, names, classes, size: checked_size(size)? })
    }

    /// As [`new`](Self::new), but each name is a class: the captions of the pictures.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn captioned(size: usize, groups: &[String]) -> Result<Self, Error> {
        let mut emoji = Self::new(size, groups)?;
        emoji.classes = firsts(emoji.names.iter().copied());
        for ((_, label), name) in emoji.images.iter_mut().zip(&emoji.names) {
            *label = emoji.classes.iter().position(|class| class == name).expect("every name is a class");
        }
        Ok(emoji)
    }
}

impl Dataset for Emoji {
    fn len(&self) -> Option<u64> {
        Some(self.images.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn shape(&self) -> [usize; 3] {
        [3, self.size, self.size]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        let (image, label) = &self.images[index as usize];
        Ok(Example::new(to_planes(&center_crop(image, self.size as u32)), *label))
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        Ok(self.images[index as usize].1)
    }

    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let labels = self.images.iter().map(|(_, label)| *label);
        Ok(Fingerprint::named(&self.classes, self.names.iter().copied().zip(labels)))
    }
}

struct Row {
    group: &'static str,
    subgroup: &'static str,
    name: &'static str,
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().expect("a line of the embedded table has three cells");
        Row { group: cell(), subgroup: cell(), name: cell() }
    })
}

/// Every word once, in the order in which they first come.
fn firsts<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    words.filter(|word| seen.insert(*word)).map(str::to_owned).collect()
}

fn unknown_group(word: &str) -> Error {
    let groups = firsts(rows().map(|row| row.group));
    let subgroups = firsts(rows().map(|row| row.subgroup));
    let near = nearest(word, groups.iter().chain(&subgroups).map(String::as_str));
    Error::UnknownGroup {
        word: word.to_owned(),
        near: near.map_or_else(String::new, |near| format!(", perhaps `{near}`")),
        known: groups.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_set_is_the_published_one() {
        let emoji = Emoji::new(32, &[]).unwrap();
        let mut counts = vec![0; 9];
        emoji.images.iter().for_each(|(_, label)| counts[*label] += 1);
        // Counted in the package's emoji.json, without its `Component`s and 14 pictures that are there twice.
        assert_eq!(counts, [169, 381, 159, 131, 218, 85, 264, 224, 261]);
        assert_eq!((&*emoji.classes[0], emoji.names[0]), ("Smileys & Emotion", "grinning face"));
        // `np.asarray(Image.open("emoji.png")).astype("uint64").sum()`; the pictures fill the sheet.
        let sum: u64 = emoji.images.iter().flat_map(|(image, _)| image.as_raw()).map(|&byte| u64::from(byte)).sum();
        assert_eq!(sum, 1_139_657_427);
    }

    #[test]
    fn words_choose_groups_and_families_of_subgroups_and_the_first_that_fits_wins() {
        let emoji = Emoji::new(8, &words(&["face", "Flags", "animal-bird"])).unwrap();
        let count = |wanted: usize| emoji.images.iter().filter(|(_, label)| *label == wanted).count();
        assert_eq!([0, 1, 2].map(count), [118, 261, 22]);
        let twice = Emoji::new(8, &words(&["animal-bird", "animal"])).unwrap();
        assert_eq!([0, 1].map(|wanted| twice.images.iter().filter(|(_, label)| *label == wanted).count()), [22, 108]);
    }

    #[test]
    fn names_are_captions() {
        let emoji = Emoji::captioned(16, &words(&["food-fruit"])).unwrap();
        assert_eq!((emoji.len(), emoji.classes.len()), (Some(20), 20));
        let label = emoji.label(3).unwrap();
        assert_eq!(emoji.example(3).unwrap().label, label);
        assert_eq!(emoji.classes[label], emoji.names[3]);
        // Two pictures of one name are one class.
        assert_eq!(Emoji::captioned(8, &[]).unwrap().classes.len(), 1891);
    }

    #[test]
    fn the_stored_size_is_exact_and_others_are_resized() {
        let [stored, small] = [32, 8].map(|size| Emoji::new(size, &words(&["heart"])).unwrap());
        let image = stored.example(0).unwrap();
        let corner = stored.images[0].0.get_pixel(0, 0).0;
        assert_eq!(image.pixels[0], (f32::from(corner[0]) / 255.0 - 0.5) / 0.5);
        assert_eq!(small.example(0).unwrap().pixels.len(), 3 * 64);
        let mean = |pixels: &[f32]| pixels.iter().sum::<f32>() / pixels.len() as f32;
        assert!((mean(&image.pixels) - mean(&small.example(0).unwrap().pixels)).abs() < 0.01);
    }

    #[test]
    fn a_word_that_fits_nothing_is_told_with_its_nearest() {
        let message = Emoji::new(32, &words(&["flags"])).unwrap_err().to_string();
        assert!(message.contains("`flags`, perhaps `Flags`") && message.contains("Food & Drink"), "{message}");
        let twice = Emoji::new(32, &words(&["Flags", "flag"])).unwrap_err().to_string();
        assert!(twice.contains("`flag` has no emoji that earlier groups leave"), "{twice}");
        assert!(Emoji::new(32, &words(&["face-"])).is_err() && Emoji::new(32, &words(&[""])).is_err());
        assert!(matches!(Emoji::new(0, &[]), Err(Error::OutOfRange { .. })));
    }
}
