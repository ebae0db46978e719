//! From images to latents.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::manifest::Manifest;
use super::write::{Encoded, Writer};
use crate::Error;
use crate::data::OnBroken;
use crate::data::source::{Sample, Source};

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
pub struct Images {
    /// `[n, 3, size, size]`, in [−1, 1].
    pub pixels: Vec<f32>,
    /// The `n`, 3, size, size.
    pub shape: [usize; 4],
}

/// How encoding ended.
#[derive(Debug)]
pub enum Outcome {
    /// All is written.
    Finished(Box<Manifest>),
    /// It was asked to stop; the same call continues after the last whole shard.
    Interrupted,
}

/// Encodes the images of a source into the folder of a writer, from where that stands.
///
/// Batches end where shards end, so that an encoder that rounds by the size of its batch gives the same after an
/// interruption as without one. `stop` ends it after the batch in progress; `tell` hears how many samples were read.
///
/// # Errors
/// If the source or the file system fail, an image is broken and that is refused, or a latent is not finite.
///
/// # Panics
/// If `encode` returns something of another size than the writer's contents say.
pub fn encode_dataset(
    source: &dyn Source,
    config: EncodeConfig,
    mut writer: Writer,
    stop: &AtomicBool,
    mut encode: impl FnMut(Images) -> Encoded,
    mut tell: impl FnMut(u64),
) -> Result<Outcome, Error> {
    let size = writer.contents().image_size;
    let mut read = writer.read();
    let mut samples = source.samples(read)?;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Interrupted);
        }
        let wanted = config.batch.max(1).min(writer.room());
        let (mut known, mut pixels) = (Vec::new(), Vec::new());
        while known.len() < wanted {
            let next: Vec<Sample> = samples.by_ref().take(wanted - known.len()).collect::<Result<_, _>>()?;
            if next.is_empty() {
                break;
            }
            read += next.len() as u64;
            let decoded: Vec<_> = next.par_iter().map(|sample| sample.planes(size)).collect();
            for (Sample { name, class, .. }, decoded) in next.into_iter().zip(decoded) {
                match decoded {
                    Ok(planes) => {
                        pixels.extend(planes);
                        known.push((name, class));
                    }
                    Err(_) if config.on_broken == OnBroken::Skip => writer.skip(name),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let last = known.len() < wanted;
        if !known.is_empty() {
            let shape = [known.len(), 3, size, size];
            let mirrored = writer.contents().flipped.then(|| mirror(&pixels, size));
            let encoded = encode(Images { pixels, shape });
            let mirrored = mirrored.map(|pixels| encode(Images { pixels, shape }));
            writer.push(&known, &encoded, mirrored.as_ref())?;
        }
        writer.commit(read)?;
        if !known.is_empty() {
            tell(read);
        }
        if last {
            return writer.finish(read).map(|manifest| Outcome::Finished(Box::new(manifest)));
        }
    }
}

fn mirror(pixels: &[f32], width: usize) -> Vec<f32> {
    pixels.chunks(width).flat_map(|row| row.iter().rev().copied()).collect()
}
