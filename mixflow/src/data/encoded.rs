//! Images as the latents of an autoencoder, in memory or in a folder that a run keeps.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::autoencoder::Autoencoder;
use sha2::{Digest, Sha256};

use crate::data::latents::{Contents, EncodedBatch, Image, Latents, Origin, StoragePrecision, Verified, Writer, begun};
use crate::data::mask::on_grid;
use crate::data::source::SourceEntry;
use crate::data::{self, Dataset, Example, Fingerprint, Prior, Variation, in_one_shape, shape_in_training};
use crate::files::digest;
use crate::{Error, check_memory};

/// Images encoded at a time, of 128 x 128 pixels or less; fewer of larger ones, since an autoencoder keeps a hundred numbers
/// and more for each pixel.
const BATCH: usize = 50;
const PIXELS: usize = BATCH * 128 * 128;

/// Batches in a shard of what is kept.
const SHARD: usize = 40;

/// The latents of every image of a finite data set, means where the autoencoder gives a law.
///
/// Meant for data that is encoded in the time that one has; larger sets are encoded once, into [`Latents`], and go with their
/// images' mirrored twins.
#[derive(Debug)]
pub struct Encoded {
    latents: Store,
    labels: Vec<usize>,
    /// Of each image in memory, where they have several.
    captions: Vec<Vec<(usize, f64)>>,
    fingerprint: Fingerprint,
    shape: [usize; 3],
    prior: Option<Prior>,
    /// Where images have several sizes, the shapes of their latents, and which each has.
    buckets: Vec<[usize; 3]>,
    bucket_of: Vec<usize>,
    /// Images that others stand for.
    broken: Vec<PathBuf>,
    remarks: Vec<String>,
}

#[derive(Debug)]
enum Store {
    /// Those of each image, and their masks, where there are some.
    Memory(Vec<Vec<f32>>, Vec<Vec<f32>>),
    Folder(Box<Latents>),
}

/// What becomes of a batch of images.
struct Piece {
    /// Which images.
    indices: Vec<u64>,
    latents: Vec<f32>,
    /// Of each, on the grid of its latent; none of data without masks.
    masks: Vec<Vec<f32>>,
    shape: [usize; 3],
    labels: Vec<usize>,
    captions: Vec<Vec<(usize, f64)>>,
    /// Hashes of the pixels.
    hashes: Vec<[u8; 32]>,
}

impl Encoded {
    /// Encodes all images on the device of the autoencoder. `tell` hears before each batch, and at the end, how many are encoded;
    /// an error of it ends that.
    ///
    /// # Errors
    /// If an image cannot be read, the data has no end, or their latents do not fit memory; those of `tell`.
    pub fn new(
        data: &dyn Dataset,
        autoencoder: &dyn Autoencoder,
        device: &Device,
        tell: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let (mut latents, mut masks, mut labels, mut numbers) = (vec![], vec![], vec![], 0);
        let (mut shape, mut shapes, mut captions) = (data.shape(), data.buckets().to_vec(), vec![]);
        for_each_piece(data, autoencoder, device, None, tell, |len, piece| {
            let what = || format!("the latents of {len} images, which are kept in memory unless `encode` stores them,");
            let own = piece.latents.len() as u64 + piece.masks.iter().map(|mask| mask.len() as u64).sum::<u64>();
            numbers += own;
            check_memory(what, &[numbers.max(len * own / piece.labels.len() as u64), 4])?;
            latents.resize(len as usize, vec![]);
            labels.resize(len as usize, 0);
            captions.resize(len as usize, vec![]);
            piece.indices.iter().zip(piece.captions).for_each(|(index, own)| captions[*index as usize] = own);
            if !piece.masks.is_empty() {
                masks.resize(len as usize, vec![]);
                piece.indices.iter().zip(piece.masks).for_each(|(index, mask)| masks[*index as usize] = mask);
            }
            let each = piece.latents.chunks(piece.shape.iter().product());
            for ((index, latent), label) in piece.indices.iter().zip(each).zip(piece.labels) {
                (latents[*index as usize], labels[*index as usize]) = (latent.to_vec(), label);
            }
            let image = shape_in_training(data, piece.indices[0]);
            let side = |of: [usize; 3], axis: usize| of[axis] * piece.shape[axis] / image[axis];
            let encoded = |of| [piece.shape[0], side(of, 1), side(of, 2)];
            shape = encoded(data.shape());
            shapes = data.buckets().iter().map(|bucket| encoded(*bucket)).collect();
            Ok(())
        })?;
        tell(labels.len() as u64)?;
        let bucket_of =
            (0..labels.len() as u64).filter(|_| !shapes.is_empty()).map(|index| data.bucket(index)).collect();
        let (broken, remarks) = (data.broken(), data.remarks());
        let latents = Store::Memory(latents, masks);
        Ok(Self {
            latents,
            labels,
            captions,
            fingerprint: data.fingerprint()?,
            shape,
            prior: data.prior(),
            buckets: shapes,
            bucket_of,
            broken,
            remarks,
        })
    }

    /// The same kept in `folder`, a folder of [`Latents`], from where they are read by memory map. What is there is taken if it
    /// is whole and was kept under the same `key`, which says all that latents depend on. Of what was stopped under this key the
    /// whole shards are, and `tell` hears of them first: the rest is encoded as without the stop. All else is removed and the images
    /// are encoded again. What was remarked of the images is told once, when they are encoded.
    ///
    /// # Errors
    /// As [`new`](Self::new), if a latent is not finite, and if the folder cannot be written. Whole shards stay.
    pub fn kept(
        folder: &Path,
        key: &str,
        data: &dyn Dataset,
        autoencoder: &dyn Autoencoder,
        device: &Device,
        tell: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let (mut remarks, found) = (vec![], Latents::open(folder).ok());
        let whole = |latents: &Latents| {
            let same = latents.manifest().contents.source == key && latents.len() == data.len();
            same && latents.verify(&Verified::default(), |_, _| {}).is_ok()
        };
        let latents = match found.filter(whole) {
            Some(latents) => latents,
            None => {
                write(folder, key, data, autoencoder, device, tell)?;
                remarks = data.remarks();
                Latents::open(folder)?
            }
        };
        let labels = (0..latents.len().unwrap_or(0)).map(|index| latents.label(index)).collect::<Result<_, _>>()?;
        let broken = latents.manifest().broken.iter().map(PathBuf::from).collect();
        let (shape, fingerprint) = (latents.shape(), data.fingerprint()?);
        let (buckets, bucket_of, captions) = Default::default();
        let (latents, prior) = (Store::Folder(Box::new(latents)), data.prior());
        Ok(Self { latents, labels, captions, fingerprint, shape, prior, buckets, bucket_of, broken, remarks })
    }
}

/// What goes on behind the whole shards that a folder has under `key`, and how many images these hold; none where they are
/// damaged, or of more than `len` images.
fn continued(folder: &Path, key: &str, len: u64) -> Option<(Writer, u64)> {
    let begun = begun(folder).ok()??;
    let mut shards = begun.shards.iter();
    let whole = shards.all(|shard| digest::file(&folder.join(&shard.file)).is_ok_and(|found| found == shard.sha256));
    let examples = begun.examples();
    if begun.contents.source != key || !whole || examples > len {
        return None;
    }
    let mut writer = Writer::open(folder, begun.contents).ok()?;
    // They are not read again.
    begun.broken.into_iter().for_each(|name| writer.skip(name));
    Some((writer, examples))
}

/// Encodes all images into a folder, behind what it holds of them under the same key, else into one that holds nothing.
fn write(
    folder: &Path,
    key: &str,
    data: &dyn Dataset,
    autoencoder: &dyn Autoencoder,
    device: &Device,
    tell: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut writer, first) = continued(folder, key, data.len().unwrap_or(0)).unzip();
    let first = first.unwrap_or(0);
    if writer.is_none() && folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    let (mut next, mut broken) = (first.., BTreeSet::new());
    for_each_piece(data, autoencoder, device, Some(first), tell, |_, piece| {
        let Piece { latents, masks, shape, labels, captions, hashes, .. } = piece;
        if writer.is_none() {
            let contents = Contents {
                shape,
                precision: StoragePrecision::F32,
                deviation: false,
                flipped: false,
                normalised: true,
                image_size: data.shape()[1],
                buckets: None,
                masked: data.masked(),
                several_captions: data.several_captions(),
                classes: data.classes().into(),
                autoencoder: Origin { name: "that of the run".into(), sha256: key.into() },
                features: vec![],
                source: key.into(),
                shard_examples: SHARD * batch(data),
            };
            writer = Some(Writer::open(folder, contents)?);
        }
        let writer = writer.as_mut().expect("it was opened for the first piece");
        let entry = |(class, captions)| SourceEntry {
            name: next.next().map_or_else(String::new, |n: u64| n.to_string()),
            class,
            captions,
            stamp: None,
        };
        let images: Vec<_> = labels
            .into_iter()
            .zip(captions)
            .map(entry)
            .zip(hashes)
            .map(|(entry, sha256)| Image { entry, sha256 })
            .collect();
        let mask = (!masks.is_empty()).then(|| masks.concat());
        writer.push(&images, &EncodedBatch { mean: latents, deviation: None, features: vec![], mask }, None)?;
        let found = data.broken().into_iter().filter(|file| broken.insert(file.clone())).collect::<Vec<_>>();
        found.into_iter().for_each(|file| writer.skip(file.to_string_lossy().into_owned()));
        writer.commit()
    })?;
    let Some(writer) = writer else { return Err(Error::unfit("autoencoder", "there are no images to encode")) };
    tell(writer.finish()?.examples())
}

/// Images at a time.
fn batch(data: &dyn Dataset) -> usize {
    let [_, height, width] = data.shape();
    (PIXELS / (height * width)).clamp(1, BATCH)
}

/// Encodes batch by batch, each of images of one size; `take` is given the number of all images, too. Where they are `kept`, behind
/// so many, of data of one size, their pixels are hashed. `tell` hears before each batch how many are done.
fn for_each_piece(
    data: &dyn Dataset,
    autoencoder: &dyn Autoencoder,
    device: &Device,
    kept: Option<u64>,
    tell: &mut dyn FnMut(u64) -> Result<(), Error>,
    mut take: impl FnMut(u64, Piece) -> Result<(), Error>,
) -> Result<(), Error> {
    let endless = "it encodes all images beforehand, but the data has no end; take digits or a folder";
    let len = data.len().ok_or_else(|| Error::unfit("autoencoder", endless))?;
    let sizes = data.buckets().len().max(1);
    let first = kept.unwrap_or(0);
    let mut done = first;
    for bucket in 0..sizes {
        let indices: Vec<_> = (first..len).filter(|index| sizes == 1 || data.bucket(*index) == bucket).collect();
        for indices in indices.chunks(batch(data)) {
            tell(done)?;
            take(len, encode(data, autoencoder, device, kept.is_some(), indices.to_vec())?)?;
            done += indices.len() as u64;
        }
    }
    Ok(())
}

/// Encodes images of one size.
fn encode(
    data: &dyn Dataset,
    autoencoder: &dyn Autoencoder,
    device: &Device,
    hashed: bool,
    indices: Vec<u64>,
) -> Result<Piece, Error> {
    let [channels, height, width] = shape_in_training(data, indices[0]);
    let (mut pixels, mut masks, mut labels, mut captions, mut hashes) = (vec![], vec![], vec![], vec![], vec![]);
    for &index in &indices {
        let example = match data.buckets() {
            [] => data.example(index)?,
            // Nothing else of it is random, or it could not be encoded once.
            _ => data.variant(index, Variation { seed: 0, position: index, flip: false })?,
        };
        if hashed {
            let bytes: Vec<u8> = example.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            hashes.push(Sha256::digest(bytes).into());
        }
        pixels.extend(example.pixels);
        masks.extend(example.mask);
        labels.push(example.label);
        captions.push(example.captions);
    }
    let images = Tensor::from_data(TensorData::new(pixels, [labels.len(), channels, height, width]), device);
    let encoded = autoencoder.encode(images).mean;
    let [_, c, h, w] = encoded.dims();
    let masks = masks.iter().map(|mask| on_grid(mask, [height, width], [h, w])).collect();
    let latents = encoded.into_data().iter::<f32>().collect();
    Ok(Piece { indices, latents, masks, shape: [c, h, w], labels, captions, hashes })
}

/// What a network learns of images: their latents by an autoencoder on `device`, or without one the images themselves. `tell` hears
/// how many are encoded.
///
/// # Errors
/// As [`Encoded::new`].
pub fn learned(
    images: Arc<dyn Dataset>,
    autoencoder: Option<&dyn Autoencoder>,
    device: &Device,
    tell: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Arc<dyn Dataset>, Error> {
    Ok(match autoencoder {
        Some(autoencoder) => Arc::new(Encoded::new(&*images, autoencoder, device, tell)?),
        None => images,
    })
}

impl Encoded {
    /// The example, in whatever shape.
    fn latent(&self, index: u64) -> Example {
        match &self.latents {
            Store::Memory(latents, masks) => {
                let mask = masks.get(index as usize).cloned();
                let captions = self.captions[index as usize].clone();
                Example { mask, captions, ..Example::new(latents[index as usize].clone(), self.labels[index as usize]) }
            }
            Store::Folder(latents) => latents.mean(index),
        }
    }
}

impl Dataset for Encoded {
    fn len(&self) -> Option<u64> {
        Some(self.labels.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.fingerprint.classes
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn buckets(&self) -> &[[usize; 3]] {
        &self.buckets
    }

    fn bucket(&self, index: u64) -> usize {
        self.bucket_of.get(index as usize).copied().unwrap_or(0)
    }

    /// # Errors
    /// [`OtherShape`](data::Error::OtherShape) where there are buckets and the latent is no square: none of it is encoded.
    fn example(&self, index: u64) -> Result<Example, data::Error> {
        in_one_shape(self, index)?;
        Ok(self.latent(index))
    }

    fn variant(&self, index: u64, variation: Variation) -> Result<Example, data::Error> {
        let mut example = self.latent(index);
        variation.mirror(&mut example, shape_in_training(self, index)[2]);
        Ok(example)
    }

    fn masked(&self) -> bool {
        match &self.latents {
            Store::Memory(_, masks) => !masks.is_empty(),
            Store::Folder(latents) => latents.masked(),
        }
    }

    fn several_captions(&self) -> bool {
        match &self.latents {
            Store::Memory(..) => self.captions.iter().any(|captions| !captions.is_empty()),
            Store::Folder(latents) => latents.several_captions(),
        }
    }

    fn prior(&self) -> Option<Prior> {
        self.prior
    }

    fn label(&self, index: u64) -> Result<usize, data::Error> {
        Ok(self.labels[index as usize])
    }

    fn broken(&self) -> Vec<PathBuf> {
        self.broken.clone()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    /// That of the images.
    fn fingerprint(&self) -> Result<Fingerprint, data::Error> {
        Ok(self.fingerprint.clone())
    }
}

#[cfg(test)]
pub(super) mod tests;
