//! Images with class labels: real digits, procedural shapes and scenes, emoji, a folder or stored latents, behind one interface.
//!
//! A [`Dataset`] gives plain numbers. [`Loader`] turns it into batches whose content is a function of (seed, step,
//! example) alone. Only [`LatentEncoder`] and [`Encoded`] know of networks. Image files are decoded as
//! [`files`](crate::files#image-files) says.

mod bucket_order;
mod buckets;
mod captions;
mod conditioner;
mod config;
mod crop;
mod digits;
mod emoji;
mod encoded;
mod fingerprint;
mod image_captions;
mod image_folder;
mod labels;
mod latent_encoder;
pub mod latents;
mod loader;
mod mask;
mod order;
mod pixels;
mod prior;
mod resample;
pub mod scenes;
mod shapes;
pub mod source;
mod split;

use std::fmt::Debug;
use std::path::PathBuf;

use crate::random::{self, Stream};

pub use crate::error::data::Error;
pub use bucket_order::rare_buckets;
pub use buckets::BucketConfig;
pub use conditioner::{Classes, Conditioner, HostCondition, Unconditional, Unlabelled, check_labels};
pub use config::DataConfig;
pub use digits::{Channels, Digits};
pub use emoji::Emoji;
pub use encoded::{Encoded, learned};
pub use fingerprint::{Fingerprint, check_same_data};
pub use image::RgbImage;
pub use image_captions::CaptionFormat;
pub use image_folder::{ImageFolder, OnBroken};
pub use labels::{Labels, balanced_labels, class_number};
pub use latent_encoder::{LatentEncoder, StorageConfig};
pub(crate) use latent_encoder::{kl_origin, rae_origin};
pub use latents::Latents;
pub use loader::{Examples, Loader, LoaderConfig};
pub use mask::MaskConfig;
pub(crate) use order::Permutation;
pub use order::index_at;
pub use pixels::{Quantize, center_crop, center_crop_to, random_crop, short_side_crop, to_planes};
pub use prior::{Prior, PriorConfig, own_len};
pub use scenes::Scenes;
pub use shapes::Shapes;
pub use split::{Split, split};

/// A source of labelled images, readable in any order from any thread.
///
/// ```
/// use mixflow::data::{Dataset, Error, Example};
///
/// #[derive(Debug)]
/// struct Grey(Vec<String>);
///
/// impl Dataset for Grey {
///     fn len(&self) -> Option<u64> { Some(256) }
///     fn classes(&self) -> &[String] { &self.0 }
///     fn shape(&self) -> [usize; 3] { [1, 8, 8] }
///     fn example(&self, index: u64) -> Result<Example, Error> {
///         Ok(Example::new(vec![index as f32 / 127.5 - 1.0; 64], 0))
///     }
/// }
/// let data = Grey(vec!["grey".into()]);
/// assert_eq!(data.example(255)?.pixels[0], 1.0);
/// # Ok::<(), Error>(())
/// ```
#[allow(clippy::len_without_is_empty, reason = "no source is ever empty: opening an empty one is an error")]
pub trait Dataset: Debug + Send + Sync {
    /// Number of examples; `None` is endless.
    fn len(&self) -> Option<u64>;

    /// Names of the classes; a label indexes them.
    fn classes(&self) -> &[String];

    /// Channels, height and width of every example.
    fn shape(&self) -> [usize; 3];

    /// Where training sees examples in several shapes: channels, height and width of each; provided: none, all have
    /// [`shape`](Self::shape). A batch is then of one of them.
    fn buckets(&self) -> &[[usize; 3]] {
        &[]
    }

    /// The place of an example's shape among the [`buckets`](Self::buckets), where there are some.
    ///
    /// # Panics
    /// If the index is out of range.
    fn bucket(&self, index: u64) -> usize {
        let _ = index;
        0
    }

    /// The example of an index below [`len`](Self::len): always the same one, whatever was read before.
    ///
    /// # Errors
    /// If it cannot be read.
    ///
    /// # Panics
    /// If the index is out of range.
    fn example(&self, index: u64) -> Result<Example, Error>;

    /// The class of an example, without its image where that is cheaper.
    ///
    /// # Errors
    /// If it cannot be read.
    ///
    /// # Panics
    /// If the index is out of range.
    fn label(&self, index: u64) -> Result<usize, Error> {
        Ok(self.example(index)?.label)
    }

    /// The example of an index as one position of training sees it: in the shape of its [`bucket`](Self::bucket), mirrored or
    /// not, and with whatever else is random.
    ///
    /// # Errors
    /// As [`example`](Self::example).
    ///
    /// # Panics
    /// If the index is out of range.
    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        let mut example = self.example(index)?;
        let [_, _, width] = shape_in_training(self, index);
        variation.mirror(&mut example, width);
        Ok(example)
    }

    /// Whether examples come with [masks](Example::mask); provided: no.
    fn masked(&self) -> bool {
        false
    }

    /// Whether there are examples with several [captions](Example::captions); provided: no.
    fn several_captions(&self) -> bool {
        false
    }

    /// Which examples are there for prior preservation: half of each batch then; provided: none.
    fn prior(&self) -> Option<Prior> {
        None
    }

    /// Number and width of the tokens of each encoder whose features come with an example; provided: none.
    fn features(&self) -> Vec<[usize; 2]> {
        Vec::new()
    }

    /// Files found broken and replaced so far, sorted; for the user to be told.
    fn broken(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Another one whenever what is under the same names may be another, without reading it; provided: none, as nothing tells.
    fn stamp(&self) -> Option<String> {
        None
    }

    /// Lines to tell the user of the files read so far: which are broken and why, and what of others is not in their
    /// examples.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the user should know of how the set was found, in words: files passed over, names that look wrong; provided:
    /// nothing.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the set holds; provided: number and classes, for sets whose examples have no names.
    ///
    /// # Errors
    /// If it cannot be read.
    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint::unnamed(self))
    }
}

/// Channels, height and width of an example as training sees it.
fn shape_in_training(data: &(impl Dataset + ?Sized), index: u64) -> [usize; 3] {
    match data.buckets() {
        [] => data.shape(),
        buckets => buckets[data.bucket(index)],
    }
}

/// Refuses to give an example that is there in the shape of its bucket alone, where that is not the data's.
fn in_one_shape(data: &(impl Dataset + ?Sized), index: u64) -> Result<(), Error> {
    let (found, expected) = (shape_in_training(data, index), data.shape());
    if found == expected { Ok(()) } else { Err(Error::OtherShape { index, found, expected }) }
}

/// An image and its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Channel, height, width; images in [−1, 1], latents normalised.
    pub pixels: Vec<f32>,
    /// Index into [`Dataset::classes`].
    pub label: usize,
    /// For each encoder of [`Dataset::features`], token by token; mostly none.
    pub features: Vec<Vec<f32>>,
    /// How much of the loss at each place counts, `[height, width]`, in [0, 1]; none counts all of it.
    pub mask: Option<Vec<f32>>,
    /// Of one with several captions: the labels of these, and how often each is told among them; `label` is the first. None where
    /// `label` alone is told.
    pub captions: Vec<(usize, f64)>,
}

impl Example {
    /// An image of a class, all of which counts, without features.
    #[must_use]
    pub fn new(pixels: Vec<f32>, label: usize) -> Self {
        Self { pixels, label, features: vec![], mask: None, captions: vec![] }
    }

    /// The label that a training position tells of it: of several captions one by their weights, as a function of seed and
    /// position.
    #[must_use]
    pub fn label_at(&self, seed: u64, position: u64) -> usize {
        image_captions::choose(&self.captions, seed, position).unwrap_or(self.label)
    }
}

/// What is random about an example in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variation {
    /// The run's seed.
    pub seed: u64,
    /// The training position, `step · batch + example`.
    pub position: u64,
    /// Whether examples are mirrored with probability one half.
    pub flip: bool,
}

impl Variation {
    /// Whether this position sees its example mirrored.
    #[must_use]
    pub fn mirrored(&self) -> bool {
        self.flip && random::uniform(&mut random::rng(self.seed, Stream::Augment, self.position)) < 0.5
    }

    /// Mirrors an example of this width where this position sees it mirrored.
    fn mirror(&self, example: &mut Example, width: usize) {
        if self.mirrored() {
            let rows = example.pixels.chunks_exact_mut(width);
            rows.chain(example.mask.iter_mut().flat_map(|mask| mask.chunks_exact_mut(width)))
                .for_each(<[f32]>::reverse);
        }
    }
}

/// Largest side of an image, in pixels.
const LARGEST: usize = 4096;

fn checked_size(size: usize) -> Result<usize, Error> {
    if (1..=LARGEST).contains(&size) {
        Ok(size)
    } else {
        Err(Error::OutOfRange { name: "size", expected: "from 1 to 4096 pixels", found: size as u64 })
    }
}
