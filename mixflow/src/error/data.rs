use std::io;
use std::path::PathBuf;

/// Why data cannot be used. The cause, where there is one, is the error's `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is outside its range.
    #[error("{name} must be {expected}, found {found}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its range in words.
        expected: &'static str,
        /// What was given.
        found: u64,
    },
    /// A word names no group of emoji.
    #[error("no emoji are in a group `{word}`{near}; groups are {known}, and their subgroups")]
    UnknownGroup {
        /// The word.
        word: String,
        /// The nearest known one, in words.
        near: String,
        /// The groups.
        known: String,
    },
    /// Other groups of emoji, which are named before, take all that a word fits.
    #[error("the group `{word}` has no emoji that earlier groups leave; put it first or leave it out")]
    EmptyGroup {
        /// The word.
        word: String,
    },
    /// An example is there in a shape of its own alone, which training takes and nothing else does.
    #[error(
        "example {index} is {} x {}, and not {} x {}: latents of several sizes are for training alone; measure by images, or by \
         latents of squares",
        found[1], found[2], expected[1], expected[2]
    )]
    OtherShape {
        /// Its place in the data.
        index: u64,
        /// Channels, height and width.
        found: [usize; 3],
        /// Those of the data.
        expected: [usize; 3],
    },
    /// A file or directory cannot be read.
    #[error("cannot read `{}`; {advice}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What was expected there.
        advice: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory has no sub-directories.
    #[error("no classes in `{}`, which holds {found} and no directories; expected one sub-directory of images per class", path.display())]
    NoClasses {
        /// The directory.
        path: PathBuf,
        /// The files that it holds, in words.
        found: String,
    },
    /// A class has no images.
    #[error("no images in `{}`, which holds {found}; add .png, .jpg, .jpeg or .webp files or remove it", path.display())]
    EmptyClass {
        /// The class directory.
        path: PathBuf,
        /// The files that it holds, in words.
        found: String,
    },
    /// A directory has no images at any depth.
    #[error("no images in `{}`, which holds {found}; expected .png, .jpg, .jpeg or .webp files in it or below", path.display())]
    NoImages {
        /// The directory.
        path: PathBuf,
        /// The files that it holds, in words.
        found: String,
    },
    /// A class directory has a name that is not text.
    #[error("the name of `{}` is not UTF-8, so it cannot name a class; rename the directory", path.display())]
    NotUtf8 {
        /// The directory.
        path: PathBuf,
    },
    /// A directory contains itself through a symbolic link.
    #[error("`{}` leads back to a directory that contains it; remove the symbolic link", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// Images are without captions.
    #[error("the captions `{}` {reason}", path.display())]
    Captions {
        /// Their file.
        path: PathBuf,
        /// What is wrong: the rest of a sentence.
        reason: String,
    },
    /// Images for prior preservation that cannot be used.
    #[error("data.prior {reason}")]
    Prior {
        /// What is wrong: the rest of a sentence.
        reason: String,
    },
    /// Images are without masks that fit.
    #[error("the masks `{}` {reason}", path.display())]
    Mask {
        /// Their file or directory.
        path: PathBuf,
        /// What is wrong: the rest of a sentence.
        reason: String,
    },
    /// A file is not an image that can be used.
    #[error("cannot use the image `{}`: {reason}; {advice}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Broken images are skipped, and nothing is left of a class.
    #[error("all {count} images of class `{class}` are broken, first `{}`; repair them or remove the class", path.display())]
    AllBroken {
        /// The class.
        class: String,
        /// Its number of images.
        count: usize,
        /// Its first image.
        path: PathBuf,
    },
    /// Broken images with captions are skipped, and nothing is left.
    #[error("all {count} images are broken, first `{}`; repair them", path.display())]
    NoneReadable {
        /// Their number.
        count: usize,
        /// The first one.
        path: PathBuf,
    },
    /// Latents cannot be used.
    #[error("the latents {} {reason}", path.display())]
    Latents {
        /// Their folder or one of its files.
        path: PathBuf,
        /// What is wrong: the rest of a sentence.
        reason: String,
    },
    /// An archive of images is not as it must be.
    #[error("cannot read images from `{}`: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A network is asked for what it does not know.
    #[error("labels are classes from 0 to {}, found {found}", count.saturating_sub(1))]
    Label {
        /// The label.
        found: usize,
        /// How many labels it knows.
        count: usize,
    },
    /// A network is asked by label for what it is told by name.
    #[error("the network is told what labels are called, and nobody says that here: make images of conditions instead")]
    Unlabelled,
    /// A class that is to be compared has no example.
    #[error("the data compared with has no example of class `{class}`; hold out more images or remove the class")]
    MissingClass {
        /// The class.
        class: String,
    },
    /// What reads a batch panicked.
    #[error(
        "reading the batch of step {step} panicked, by a fault of the data set, of what decodes its files or of what the network is \
         told: {reason}"
    )]
    Panicked {
        /// The step.
        step: u64,
        /// What it panicked with.
        reason: String,
    },
    /// What is wrong with a data set of one's own.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// The system refused a worker thread.
    #[error("cannot start a worker thread for loading data; use fewer workers")]
    Thread {
        /// Why it failed.
        source: io::Error,
    },
}

/// How to make prior images where there are too few.
pub(crate) const DRAW_PRIOR: &str =
    "draw some with `cargo xtask sample WEIGHTS --prompt CAPTION --size HEIGHTxWIDTH --count 100 --out FOLDER`";
