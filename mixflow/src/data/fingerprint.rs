//! Which data a run learns from.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;

use mixflow_backbones::json::explain;
use mixflow_backbones::listed;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Dataset;
use crate::files::write_atomic;
use crate::numbers::{counted, thousands};
use crate::{Error, printable};

/// What a data set holds, wherever it lies: enough to notice that it has become another one.
///
/// It stands in `data.json` of a run's folder. A run is resumed with the same data or not at all: order and held-out part
/// are functions of the number of examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Number of examples; none is endless.
    pub examples: Option<u64>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Number of examples of each class, of those with several captions at each of them; empty where the data do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_examples: Vec<u64>,
    /// SHA-256 of names and labels of all examples in their order; none where they have no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// SHA-256 of the sizes of all files, where there are files; a record from before these were kept has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// SHA-256 of the content, where that is known without reading it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Fingerprint {
    /// Of examples without names.
    pub(super) fn unnamed(data: &(impl Dataset + ?Sized)) -> Self {
        let (examples, classes) = (data.len(), data.classes().to_vec());
        Self { examples, classes, class_examples: vec![], names: None, sizes: None, content: None }
    }

    /// Of examples with these names and labels, in order. The names are those inside the data's folder, which may move.
    pub(super) fn named(classes: &[String], examples: impl IntoIterator<Item = (impl AsRef<[u8]>, usize)>) -> Self {
        let (mut counts, mut digest) = (vec![0; classes.len()], Sha256::new());
        for (name, label) in examples {
            let name = name.as_ref();
            counts[label] += 1;
            digest.update((label as u64).to_le_bytes());
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
        }
        Self {
            examples: Some(counts.iter().sum()),
            classes: classes.to_vec(),
            class_examples: counts,
            names: Some(hex::encode(digest.finalize())),
            sizes: None,
            content: None,
        }
    }

    /// The same of examples with these captions, where they have several: each counts at all of its own.
    pub(super) fn with_captions<'a>(mut self, captions: impl IntoIterator<Item = &'a [(usize, f64)]>) -> Self {
        for captions in captions {
            // The first is counted.
            let others = captions.iter().enumerate().skip(1);
            let new = others.filter(|(place, (label, _))| captions[..*place].iter().all(|(other, _)| other != label));
            new.for_each(|(_, (label, _))| self.class_examples[*label] += 1);
        }
        self
    }

    /// That of the data which the run in a folder learns from; none where the run is older than such records.
    ///
    /// # Errors
    /// If `data.json` cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>, Error> {
        let file = run.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let text = fs::read(&file).map_err(Error::io("read", &file))?;
        let reason = |error| format!("does not say what the run learns from: {}", explain(&error));
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::record(&file, reason(error)))
    }

    /// Writes it down in the folder of a run.
    ///
    /// # Errors
    /// If that cannot be written to.
    pub fn write(&self, run: &Path) -> Result<(), Error> {
        write_atomic(&run.join(FILE), &serde_json::to_vec_pretty(self).expect("text and numbers are JSON"))
    }

    /// What has become of the data since this was written, in words: the first kind of change that there is.
    #[must_use]
    pub fn difference(&self, now: &Self) -> Option<String> {
        let [gone, new] = [(self, now), (now, self)].map(|(one, other)| {
            let known: HashSet<_> = other.classes.iter().collect();
            let lacking = one.classes.iter().filter(|class| !known.contains(class));
            lacking.map(|class| format!("`{class}`")).collect::<Vec<_>>()
        });
        if !gone.is_empty() || !new.is_empty() {
            let changes = [("gone", gone), ("new", new)].into_iter().filter(|(_, classes)| !classes.is_empty());
            let changes: Vec<_> =
                changes.map(|(what, classes)| format!("{what} classes: {}", listed(&classes, 3))).collect();
            return Some(changes.join(", "));
        }
        if self.classes != now.classes {
            return Some("the classes stand in another order".into());
        }
        let counts = self.class_examples.iter().zip(&now.class_examples).zip(&self.classes);
        let counts = counts.filter(|((old, now), _)| old != now);
        let counts: Vec<_> = counts.map(|((old, now), class)| format!("{old} of class `{class}`, now {now}")).collect();
        if !counts.is_empty() {
            return Some(listed(&counts, 3));
        }
        if self.examples != now.examples {
            let count = |count: Option<u64>| count.map_or("no end of".into(), thousands);
            return Some(format!("{} examples, now {}", count(self.examples), count(now.examples)));
        }
        if self.names != now.names {
            return Some("as many examples, but with other names".into());
        }
        if let (Some(old), Some(now)) = (&self.sizes, &now.sizes)
            && old != now
        {
            return Some("the same names, but files of other sizes".into());
        }
        (self.content != now.content).then(|| "the same names, but other content".into())
    }
}

/// How many examples and classes there are: `12 in 2 classes (cat 5, dog 7)`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More are not told one by one.
        const MOST: usize = 20;
        let classes = self.classes.len();
        let examples = self.examples.map_or("without end".into(), thousands);
        write!(f, "{examples} in {}", counted(classes as u64, "class"))?;
        if self.class_examples.is_empty() || classes > MOST {
            return Ok(());
        }
        let counts = self.classes.iter().zip(&self.class_examples);
        let counts: Vec<_> =
            counts.map(|(class, count)| format!("{} {}", printable(class), thousands(*count))).collect();
        write!(f, " ({})", counts.join(", "))
    }
}

/// Refuses to resume the run in a folder with other data than it began with. A run without a record is believed.
///
/// # Errors
/// [`Error::OtherData`] with what changed.
pub fn check_same_data(run: &Path, data: &Fingerprint) -> Result<(), Error> {
    let change = Fingerprint::read(run)?.and_then(|old| old.difference(data));
    change.map_or(Ok(()), |change| Err(Error::OtherData { record: run.join(FILE), change }))
}

const FILE: &str = "data.json";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{CaptionFormat, Channels, DataConfig, Digits, ImageFolder, OnBroken, split};

    fn images(root: &Path, names: &[&str]) {
        for name in names {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "never decoded").unwrap();
        }
    }

    fn of(root: &Path) -> Fingerprint {
        let config = serde_json::json!({ "kind": "folder", "path": root, "size": 8 });
        serde_json::from_value::<DataConfig>(config).unwrap().open().unwrap().fingerprint().unwrap()
    }

    #[test]
    fn data_that_moved_are_the_same_and_data_that_changed_are_told() {
        let root = tempfile::tempdir().unwrap();
        let [data, moved] = ["photos", "elsewhere/pictures"].map(|name| root.path().join(name));
        images(&data, &["cat/1.png", "cat/2.png", "dog/x/1.png"]);
        let old = of(&data);
        assert_eq!(old.to_string(), "3 in 2 classes (cat 2, dog 1)");
        // Python: hashlib.sha256 of struct.pack("<QQ", label, len(name)) + name, one after the other.
        assert_eq!(old.names.as_deref(), Some("451a10da63539f5ccd1ed0cd765ad689ef05f335df1ba24b9c827aa6725caf33"));
        old.write(root.path()).unwrap();
        assert_eq!(Fingerprint::read(root.path()).unwrap(), Some(old.clone()));

        fs::create_dir(root.path().join("elsewhere")).unwrap();
        fs::rename(&data, &moved).unwrap();
        check_same_data(root.path(), &of(&moved)).unwrap();

        let told = || check_same_data(root.path(), &of(&moved)).unwrap_err().to_string();
        images(&moved, &["cat/3.png"]);
        assert!(told().contains("2 of class `cat`, now 3: resume"), "{}", told());
        fs::remove_file(moved.join("cat/1.png")).unwrap();
        assert!(told().contains("other names"), "{}", told());
        images(&moved, &["owl/1.png"]);
        assert!(told().contains(", new classes: `owl`: resume"), "{}", told());
        fs::remove_dir_all(moved.join("dog")).unwrap();
        assert!(told().contains("gone classes: `dog`, new classes: `owl`"), "{}", told());
        let error = check_same_data(root.path(), &of(&moved)).unwrap_err();
        assert!(matches!(error, Error::OtherData { ref change, .. } if change.starts_with("gone classes")));
        assert!(told().contains("data.json") && told().contains("another --out"), "{}", told());

        // A run from before such records.
        fs::remove_file(root.path().join(FILE)).unwrap();
        check_same_data(root.path(), &of(&moved)).unwrap();
    }

    #[test]
    fn parts_have_that_of_the_whole() {
        let root = tempfile::tempdir().unwrap();
        images(root.path(), &["cat/1.png", "cat/2.png", "dog/1.png"]);
        let folder: Arc<dyn Dataset> = Arc::new(ImageFolder::open(root.path(), 8, OnBroken::Refuse).unwrap());
        let (train, held_out) = split(&folder, 1, 0).unwrap();
        for part in [train, held_out] {
            assert_eq!(part.fingerprint().unwrap(), of(root.path()));
        }
    }

    #[test]
    fn an_image_that_is_replaced_by_another_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        images(root.path(), &["cat/1.png", "cat/2.png"]);
        let old = of(root.path());
        fs::write(root.path().join("cat/2.png"), "an image of another size").unwrap();
        let now = of(root.path());
        assert_eq!(old.difference(&now).unwrap(), "the same names, but files of other sizes");
        // A run from before sizes were written down.
        assert_eq!(Fingerprint { sizes: None, ..old }.difference(&now), None);
    }

    #[test]
    fn captions_that_change_places_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        images(root.path(), &["1.png", "2.png"]);
        let of = |captions: [&str; 2]| {
            for (name, caption) in ["1.txt", "2.txt"].iter().zip(captions) {
                fs::write(root.path().join(name), caption).unwrap();
            }
            ImageFolder::captioned(root.path(), 8, OnBroken::Refuse, CaptionFormat::Whole)
                .unwrap()
                .fingerprint()
                .unwrap()
        };
        let [old, turned] = [of(["a cat", "a dog"]), of(["a dog", "a cat"])];
        assert_eq!(old.difference(&turned).unwrap(), "as many examples, but with other names");
    }

    #[test]
    fn an_image_counts_at_each_of_its_captions() {
        let root = tempfile::tempdir().unwrap();
        images(root.path(), &["1.png", "2.png", "3.png"]);
        for (name, lines) in [("1.txt", "a cat\nmy cat\na cat"), ("2.txt", "a cat"), ("3.txt", "a dog\nmy cat")] {
            fs::write(root.path().join(name), lines).unwrap();
        }
        let folder = ImageFolder::captioned(root.path(), 8, OnBroken::Refuse, CaptionFormat::Lines).unwrap();
        let found = folder.fingerprint().unwrap();
        assert_eq!(found.to_string(), "3 in 3 classes (a cat 2, a dog 1, my cat 2)");
        let first = ImageFolder::captioned(root.path(), 8, OnBroken::Refuse, CaptionFormat::Whole).unwrap();
        assert_eq!(first.fingerprint().unwrap().class_examples, [1, 1, 1]);
    }

    #[test]
    fn data_without_names_are_told_by_classes_and_number() {
        let digits = Digits::new(8, Channels::One).unwrap().fingerprint().unwrap();
        assert_eq!((digits.examples, digits.classes.len(), digits.names.clone()), (Some(1797), 10, None));
        assert_eq!(digits.to_string(), "1,797 in 10 classes");
        let fewer = Fingerprint { examples: Some(1796), ..digits.clone() };
        assert_eq!(digits.difference(&fewer).unwrap(), "1,797 examples, now 1,796");
        let mut turned = digits.clone();
        turned.classes.reverse();
        assert_eq!(digits.difference(&turned).unwrap(), "the classes stand in another order");
        assert_eq!(digits.difference(&digits), None);
    }
}
