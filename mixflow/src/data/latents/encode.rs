//! From images to latents.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::manifest::{Contents, Manifest};
use super::resume::missing;
use super::write::{EncodedBatch, Image, Writer};
use crate::Error;
use crate::data::buckets::Size;
use crate::data::crop::Cropped;
use crate::data::mask::on_grid;
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

/// Images of this height and width that an autoencoder best takes at a time, since it keeps a hundred numbers and more for each
/// pixel: 8 of 320 x 320 pixels or less, fewer of larger ones, one of 1024 x 1024.
pub fn images_at_a_time([height, width]: [usize; 2]) -> usize {
    (8 * 320 * 320 / (height * width).max(1)).clamp(1, 8)
}

/// A batch of images for an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// `[n, 3, height, width]`, in [−1, 1].
    pub pixels: Vec<f32>,
    /// The `n`, 3, height, width.
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
    /// Of each image.
    pixels: Vec<(Size, Vec<f32>)>,
    /// Of each image, on the grid of its latent, where masks are stored.
    masks: Vec<Vec<f32>>,
    /// Places of images of which something was lost in decoding.
    losses: Vec<(u64, Losses)>,
    /// Names of the broken images, and why they are.
    broken: Vec<(String, String)>,
}

/// The images of a piece that have one size, by their places, and what an encoder makes of them and, where that is wanted, of
/// their mirror images.
struct Group {
    size: Size,
    places: Vec<usize>,
    encoded: EncodedBatch,
    mirrored: Option<EncodedBatch>,
}

impl Piece {
    /// The same without its pixels, and what an encoder makes of these; no groups of no images.
    fn encoded(mut self, encode: impl Fn(ImageBatch) -> EncodedBatch, flipped: bool) -> (Self, Vec<Group>) {
        let all = std::mem::take(&mut self.pixels);
        let mut sizes: Vec<Size> = vec![];
        all.iter().for_each(|(size, _)| sizes.extend((!sizes.contains(size)).then_some(*size)));
        let group = |size: Size| {
            let of: Vec<_> = all.iter().enumerate().filter(|(_, (own, _))| *own == size).collect();
            let places: Vec<_> = of.iter().map(|(place, _)| *place).collect();
            let pixels: Vec<f32> = of.iter().flat_map(|(_, (_, pixels))| pixels.iter().copied()).collect();
            let [height, width] = size;
            let shape = [places.len(), 3, height, width];
            let mirrored = flipped.then(|| mirror(&pixels, width));
            let mask = (!self.masks.is_empty())
                .then(|| places.iter().flat_map(|place| self.masks[*place].iter().copied()).collect());
            let encoded = EncodedBatch { mask, ..encode(ImageBatch { pixels, shape }) };
            let mirrored = mirrored.map(|pixels| encode(ImageBatch { pixels, shape }));
            Group { size, places, encoded, mirrored }
        };
        let groups = sizes.into_iter().map(group).collect();
        (self, groups)
    }

    /// Hands what became of the images to a writer, in their order.
    fn push(&self, groups: &[Group], writer: &mut Writer) -> Result<(), Error> {
        if let [Group { size, encoded, mirrored, .. }] = groups {
            let size = writer.contents().latent_size(*size);
            return writer.push_sized(&self.known, size, encoded, mirrored.as_ref());
        }
        for (place, image) in self.known.iter().enumerate() {
            let found = groups.iter().find_map(|group| Some((group, group.places.binary_search(&place).ok()?)));
            let (Group { size, places, encoded, mirrored }, row) = found.expect("each image has a size");
            let of = |batch: &EncodedBatch| batch.of(row, places.len());
            let size = writer.contents().latent_size(*size);
            writer.push_sized(std::slice::from_ref(image), size, &of(encoded), mirrored.as_ref().map(of).as_ref())?;
        }
        Ok(())
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
    mut progress: impl FnMut(Encoding),
) -> Result<EncodeOutcome, Error> {
    let contents = writer.contents().clone();
    let Contents { flipped, shard_examples, .. } = contents;
    let entries = source.entries()?;
    let missing = missing(&mut writer, source, &entries, |images| progress(Encoding::Compared(images)))?;
    let samples = missing.into_iter().flat_map(move |range| {
        let read = source.samples(range.start);
        let read = read.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        range.zip(read).map(|(place, sample)| sample.map(|sample| (sample, place)))
    });
    let mut batches = Batches { samples, config, contents, shard_examples, room: writer.room(), done: false };
    let pieces = std::iter::from_fn(|| match stop.load(Ordering::Relaxed) {
        true => None,
        false => batches.next(&entries),
    });
    let encode = |encode: &F, piece: Result<Piece, Error>, _: &mut dyn FnMut(())| {
        piece.map(|piece| piece.encoded(encode, flipped))
    };
    let (mut broken, mut tally) = (Vec::new(), Tally::default());
    spread(
        encoders,
        pieces,
        encode,
        |_, ()| {},
        |encoded| {
            for piece in encoded {
                let (piece, groups) = piece?;
                piece.losses.iter().for_each(|(place, losses)| tally.add(*place, *losses));
                for (name, reason) in &piece.broken {
                    broken.push(format!("{name}: {reason}"));
                    writer.skip(name.clone());
                }
                piece.push(&groups, &mut writer)?;
                writer.commit()?;
                if !groups.is_empty() {
                    progress(Encoding::Encoded(writer.read()));
                }
            }
            Ok::<_, Error>(())
        },
    )?;
    remarks(&broken, &tally, &entries).for_each(|line| progress(Encoding::Remark(line)));
    match batches.done {
        true => writer.finish().map(|manifest| EncodeOutcome::Finished(Box::new(manifest))),
        false => Ok(EncodeOutcome::Interrupted),
    }
}

/// What is left to encode, batch by batch.
struct Batches<I> {
    samples: I,
    config: EncodeConfig,
    contents: Contents,
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
        let mut piece = Piece { known: vec![], pixels: vec![], masks: vec![], losses: vec![], broken: vec![] };
        while piece.known.len() < wanted {
            let next: Vec<_> = self.samples.by_ref().take(wanted - piece.known.len()).collect();
            if next.is_empty() {
                self.done = true;
                break;
            }
            let decode = |(sample, place): (SourceImage, u64)| {
                let cropped = sample.cut(self.contents.masked, |image| self.contents.image_size_of(image))?;
                Ok((cropped, place, sample.hash()))
            };
            let decoded: Vec<_> = next.into_par_iter().map(|sample| sample.and_then(decode)).collect();
            for decoded in decoded {
                match decoded {
                    Ok((Cropped { pixels, mask, size, losses }, place, sha256)) => {
                        piece.pixels.push((size, pixels));
                        piece.masks.extend(mask.map(|mask| on_grid(&mask, size, self.contents.latent_size(size))));
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
