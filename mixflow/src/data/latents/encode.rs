//! From images to latents.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::manifest::Manifest;
use super::resume::missing;
use super::stamp::hash;
use super::write::{EncodedBatch, Image, Writer};
use crate::Error;
use crate::data::source::{Source, SourceEntry, SourceImage};
use crate::data::{self, OnBroken};
use crate::files::decode::Tally;

/// How [`encode_dataset`] reads images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeConfig {
    /// Images at a time, at least one.
    pub batch: usize,
    /// What to do about images that cannot be decoded: leave them out, or fail.
    pub on_broken: OnBroken,
}

/// A batch of images for an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// `[n, 3, size, size]`, in [−1, 1].
    pub pixels: Vec<f32>,
    /// The `n`, 3, size, size.
    pub shape: [usize; 4],
}

/// What [`encode_dataset`] tells while it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// So many images that were encoded before are known to be the same still.
    Compared(u64),
    /// So many images of the source are encoded or left out, those of before included.
    Encoded(u64),
    /// At the end, a line on what was left out and why, or on what of the images is not in their latents.
    Remark(String),
}

/// How encoding ended.
#[derive(Debug)]
pub enum EncodeOutcome {
    /// All is written.
    Finished(Box<Manifest>),
    /// It was asked to stop; the same call continues after the last whole shard.
    Interrupted,
}

/// Encodes the images of a source that are not in the folder of a writer yet, known by their names, in their order.
///
/// What is there stays as it is: new images of a source that has grown come behind. Those that were left out as broken are
/// tried again. Batches end where shards end, so that an encoder that rounds by the size of its batch gives the same after
/// an interruption as without one. `stop` ends it after the batch in progress.
///
/// # Errors
/// If the source or the file system fail, the source no longer has an image that is encoded, or has another one under its
/// name, an image is broken and that is refused, or a latent is not finite.
///
/// # Panics
/// If `encode` returns something of another size than the writer's contents say.
pub fn encode_dataset(
    source: &dyn Source,
    config: EncodeConfig,
    mut writer: Writer,
    stop: &AtomicBool,
    mut encode: impl FnMut(ImageBatch) -> EncodedBatch,
    mut tell: impl FnMut(Encoding),
) -> Result<EncodeOutcome, Error> {
    let size = writer.contents().image_size;
    let entries = source.entries()?;
    let missing = missing(&mut writer, source, &entries, |images| tell(Encoding::Compared(images)))?;
    let mut samples = missing.into_iter().flat_map(move |range| {
        let read = source.samples(range.start);
        let read = read.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        range.zip(read).map(|(place, sample)| sample.map(|sample| (sample, place)))
    });
    let (mut broken, mut tally) = (Vec::new(), Tally::default());
    loop {
        if stop.load(Ordering::Relaxed) {
            remarks(&broken, &tally, &entries).for_each(|line| tell(Encoding::Remark(line)));
            return Ok(EncodeOutcome::Interrupted);
        }
        let wanted = config.batch.max(1).min(writer.room());
        let (mut known, mut pixels) = (Vec::new(), Vec::new());
        while known.len() < wanted {
            let next: Vec<_> = samples.by_ref().take(wanted - known.len()).collect();
            if next.is_empty() {
                break;
            }
            let decode = |(sample, place): (SourceImage, u64)| {
                let (planes, losses) = sample.planes_and_losses(size)?;
                Ok((planes, losses, place, hash(&sample.bytes)))
            };
            let decoded: Vec<_> = next.into_par_iter().map(|sample| sample.and_then(decode)).collect();
            for decoded in decoded {
                match decoded {
                    Ok((planes, losses, place, sha256)) => {
                        pixels.extend(planes);
                        tally.add(place, losses);
                        known.push(Image { entry: entries[place as usize].clone(), sha256 });
                    }
                    Err(data::Error::Image { path, reason, .. }) if config.on_broken == OnBroken::Skip => {
                        let name = path.to_string_lossy().into_owned();
                        broken.push(format!("{name}: {reason}"));
                        writer.skip(name);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let last = known.len() < wanted;
        if !known.is_empty() {
            let shape = [known.len(), 3, size, size];
            let mirrored = writer.contents().flipped.then(|| mirror(&pixels, size));
            let encoded = encode(ImageBatch { pixels, shape });
            let mirrored = mirrored.map(|pixels| encode(ImageBatch { pixels, shape }));
            writer.push(&known, &encoded, mirrored.as_ref())?;
        }
        writer.commit()?;
        if !known.is_empty() {
            tell(Encoding::Encoded(writer.read()));
        }
        if last {
            remarks(&broken, &tally, &entries).for_each(|line| tell(Encoding::Remark(line)));
            return writer.finish().map(|manifest| EncodeOutcome::Finished(Box::new(manifest)));
        }
    }
}

/// What to tell of the images that were read: the broken ones, and what others lost.
fn remarks(broken: &[String], tally: &Tally, entries: &[SourceEntry]) -> impl Iterator<Item = String> {
    let head = match broken.len() {
        0 => None,
        1 => Some("1 image is broken and left out:".to_owned()),
        count => Some(format!("{count} images are broken and left out:")),
    };
    let broken = broken.iter().map(|line| format!("  {line}"));
    head.into_iter().chain(broken).chain(tally.lines(|place| entries[place as usize].name.clone()))
}

fn mirror(pixels: &[f32], width: usize) -> Vec<f32> {
    pixels.chunks(width).flat_map(|row| row.iter().rev().copied()).collect()
}
