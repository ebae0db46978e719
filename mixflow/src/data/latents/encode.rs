//! From images to latents.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::manifest::{Contents, Manifest};
use super::resume::missing;
use super::stamp::hash;
use super::write::{EncodedBatch, Image, Writer};
use crate::Error;
use crate::data::source::{Source, SourceEntry, SourceImage};
use crate::data::{self, OnBroken};
use crate::files::decode::{Losses, Tally};
use crate::spread::spread;

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

/// A batch of images that is to be encoded, and what was left out on the way to it.
struct Piece {
    known: Vec<Image>,
    pixels: Vec<f32>,
    /// Places of images of which something was lost in decoding.
    losses: Vec<(u64, Losses)>,
    /// Names of the broken images, and why they are.
    broken: Vec<(String, String)>,
}

impl Piece {
    /// The same without its pixels, and what an encoder makes of these and, where that is wanted, of their mirror images; none
    /// of no images.
    fn encoded(
        mut self,
        encode: impl Fn(ImageBatch) -> EncodedBatch,
        size: usize,
        flipped: bool,
    ) -> (Self, Option<(EncodedBatch, Option<EncodedBatch>)>) {
        if self.known.is_empty() {
            return (self, None);
        }
        let (pixels, shape) = (std::mem::take(&mut self.pixels), [self.known.len(), 3, size, size]);
        let mirrored = flipped.then(|| mirror(&pixels, size));
        let encoded = encode(ImageBatch { pixels, shape });
        (self, Some((encoded, mirrored.map(|pixels| encode(ImageBatch { pixels, shape })))))
    }
}

/// Encodes the images of a source that are not in the folder of a writer yet, known by their names, in their order.
///
/// What is there stays as it is: new images of a source that has grown come behind. Those that were left out as broken are
/// tried again. Batches end where shards end, so that an encoder that rounds by the size of its batch gives the same after
/// an interruption as without one. Each of `encoders`, one a device, takes the next batch; equal ones write the same bytes
/// however many they are. `stop` ends it after the batches in progress.
///
/// # Errors
/// If the source or the file system fail, the source no longer has an image that is encoded, or has another one under its
/// name, an image is broken and that is refused, or a latent is not finite.
///
/// # Panics
/// If there is no encoder, or one returns something of another size than the writer's contents say.
pub fn encode_dataset<F: Fn(ImageBatch) -> EncodedBatch + Send>(
    source: &dyn Source,
    config: EncodeConfig,
    mut writer: Writer,
    stop: &AtomicBool,
    encoders: Vec<F>,
    mut tell: impl FnMut(Encoding),
) -> Result<EncodeOutcome, Error> {
    let Contents { image_size: size, flipped, shard_examples, .. } = *writer.contents();
    let entries = source.entries()?;
    let missing = missing(&mut writer, source, &entries, |images| tell(Encoding::Compared(images)))?;
    let samples = missing.into_iter().flat_map(move |range| {
        let read = source.samples(range.start);
        let read = read.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        range.zip(read).map(|(place, sample)| sample.map(|sample| (sample, place)))
    });
    let mut batches = Batches { samples, config, size, shard_examples, room: writer.room(), done: false };
    let pieces = std::iter::from_fn(|| match stop.load(Ordering::Relaxed) {
        true => None,
        false => batches.next(&entries),
    });
    let encode = |encode: &F, piece: Result<Piece, Error>, _: &mut dyn FnMut(())| {
        piece.map(|piece| piece.encoded(encode, size, flipped))
    };
    let (mut broken, mut tally) = (Vec::new(), Tally::default());
    spread(
        encoders,
        pieces,
        encode,
        |_, ()| {},
        |encoded| {
            for piece in encoded {
                let (Piece { known, losses, broken: names, .. }, encoded) = piece?;
                losses.into_iter().for_each(|(place, losses)| tally.add(place, losses));
                for (name, reason) in names {
                    broken.push(format!("{name}: {reason}"));
                    writer.skip(name);
                }
                if let Some((encoded, mirrored)) = &encoded {
                    writer.push(&known, encoded, mirrored.as_ref())?;
                }
                writer.commit()?;
                if encoded.is_some() {
                    tell(Encoding::Encoded(writer.read()));
                }
            }
            Ok::<_, Error>(())
        },
    )?;
    remarks(&broken, &tally, &entries).for_each(|line| tell(Encoding::Remark(line)));
    match batches.done {
        true => writer.finish().map(|manifest| EncodeOutcome::Finished(Box::new(manifest))),
        false => Ok(EncodeOutcome::Interrupted),
    }
}

/// What is left to encode, batch by batch.
struct Batches<I> {
    samples: I,
    config: EncodeConfig,
    size: usize,
    shard_examples: usize,
    /// Examples that the shard still lacks that the next batch goes to.
    room: usize,
    /// Whether nothing is left.
    done: bool,
}

impl<I: Iterator<Item = Result<(SourceImage, u64), data::Error>>> Batches<I> {
    fn next(&mut self, entries: &[SourceEntry]) -> Option<Result<Piece, Error>> {
        (!self.done).then(|| self.read(entries))
    }

    fn read(&mut self, entries: &[SourceEntry]) -> Result<Piece, Error> {
        let wanted = self.config.batch.max(1).min(self.room);
        let mut piece = Piece { known: vec![], pixels: vec![], losses: vec![], broken: vec![] };
        while piece.known.len() < wanted {
            let next: Vec<_> = self.samples.by_ref().take(wanted - piece.known.len()).collect();
            if next.is_empty() {
                self.done = true;
                break;
            }
            let decode = |(sample, place): (SourceImage, u64)| {
                let (planes, losses) = sample.planes_and_losses(self.size)?;
                Ok((planes, losses, place, hash(&sample.bytes)))
            };
            let decoded: Vec<_> = next.into_par_iter().map(|sample| sample.and_then(decode)).collect();
            for decoded in decoded {
                match decoded {
                    Ok((planes, losses, place, sha256)) => {
                        piece.pixels.extend(planes);
                        piece.losses.push((place, losses));
                        piece.known.push(Image { entry: entries[place as usize].clone(), sha256 });
                    }
                    Err(data::Error::Image { path, reason, .. }) if self.config.on_broken == OnBroken::Skip => {
                        piece.broken.push((path.to_string_lossy().into_owned(), reason));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.room -= piece.known.len();
        if self.room == 0 {
            self.room = self.shard_examples;
        }
        Ok(piece)
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
