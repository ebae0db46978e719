//! Embeddings that are computed once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, TensorData};
use mixflow::backbones::json::explain;
use mixflow::backbones::mapped_file::MappedFile;
use mixflow::data::latents::StoragePrecision;
use mixflow::files::write_atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::embedding::EncoderSlice;
use crate::text::Truncation;
use crate::{Error, TextEmbedding, TextEncoder};

/// Prompts in one file.
const BLOCK: usize = 256;

/// What the files belong to.
const MANIFEST: &str = "prompts.json";

/// Of the files. Version 0, which wrote none, stored `f32` and knew encoders by their folders.
const VERSION: u32 = 1;

/// The embeddings of numbered prompts, in files of a folder that are read by memory map. After the last prompt there is one
/// more, the empty one, which stands for none unless the encoder [has it otherwise](TextEncoder::null_is_empty_prompt).
///
/// Text encoders are larger than the networks that they talk to, and say the same of a prompt each time: they read all
/// prompts of a data set once, before training.
///
/// Numbers are stored as IEEE 754 half precision, `f16`, the type that most text encoders are published in: rounded to the
/// nearest of 11 bits, so that the error is at most 2⁻¹¹ = 0.05 % of a number from 2⁻¹⁴ = 0.00006 up, and at most 2⁻²⁵ below.
/// `bfloat16` would round eight times as coarsely, for a range that is not needed: what is not below 65,520 is refused.
#[derive(Debug)]
pub struct PromptTable {
    blocks: Vec<Block>,
    prompts: usize,
    /// Place of the empty prompt: behind all that the files have.
    empty: usize,
    null_is_empty_prompt: bool,
    notices: Vec<String>,
    /// Of which several encoders say something.
    parts: Arc<[EncoderSlice]>,
}

/// A file with `tokens`, `[prompts, length, width]`, and `pooled`, `[prompts, pooled width]`, as `f16`.
#[derive(Debug)]
struct Block {
    file: MappedFile,
    /// Of a prompt.
    shape: Shape,
    /// Where the numbers of the first prompt start.
    tokens: usize,
    pooled: usize,
}

/// Tokens of a prompt, their width, and the width of what is pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    length: usize,
    width: usize,
    pooled: usize,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    #[serde(default)]
    version: u32,
    /// Its identity.
    encoder: String,
    prompts: usize,
    /// Of the prompts.
    sha256: String,
}

impl PromptTable {
    /// The table in `folder` of these prompts; whatever is missing in it is encoded and written, a file of 256 prompts at a
    /// time, which stays when the rest is interrupted. `tell` hears how many prompts are done, and ends it by an error.
    ///
    /// The folder belongs to the [`identity`](TextEncoder::identity) of the encoder: its content, wherever that lies. One that holds
    /// the first of these prompts grows: what is there is not encoded again, but for the prompts that share a file with the empty
    /// one.
    ///
    /// # Errors
    /// If the folder holds other prompts, those of another encoder or of another version of this crate, a file is damaged
    /// or cannot be written, an embedding is not finite in half precision, and as the encoder's own; those of `tell`.
    pub fn prepare(
        folder: &Path,
        prompts: &[String],
        encoder: &dyn TextEncoder,
        mut tell: impl FnMut(usize) -> Result<(), mixflow::Error>,
    ) -> Result<Self, Error> {
        let manifest = Manifest::new(encoder.identity()?, prompts);
        match Manifest::read(folder)? {
            Some(found) if found.grows_to(prompts) && found.is_like(&manifest) => {
                // Without it the folder is whole but for one file, under the old manifest as under the new one.
                remove(&file(folder, found.prompts / BLOCK))?;
                manifest.write(folder)?;
            }
            Some(found) => found.check_same(folder, &manifest)?,
            None => manifest.write(folder)?,
        }
        let all: Vec<&str> = prompts.iter().map(String::as_str).chain([""]).collect();
        let files = all.chunks(BLOCK).enumerate();
        let files = files.map(|(number, block)| (file(folder, number), block));
        let (found, missing): (Vec<_>, Vec<_>) = files.clone().partition(|(path, _)| path.is_file());
        // What is wrong with these is said before the others are encoded.
        found.iter().try_for_each(|(path, block)| Block::open(path, block.len()).map(drop))?;
        let mut notices = vec![];
        if !missing.is_empty() {
            // Of all: whoever was stopped before has not heard of it.
            notices.extend(Truncation::summary(&encoder.truncations(&all[..prompts.len()])?, prompts.len()));
            let mut done: usize = found.iter().map(|(_, block)| block.len()).sum();
            let mut rest = missing.iter();
            let blocks: Vec<_> = missing.iter().map(|(_, block)| *block).collect();
            encoder.encode_blocks(&blocks, &mut |text| {
                let (path, block) = rest.next().expect("an encoder tells each block once");
                write(path, &text)?;
                done += block.len();
                Ok(tell(done.min(prompts.len()))?)
            })?;
        }
        let mut blocks: Vec<Block> = vec![];
        for (path, block) in files {
            let found = Block::open(&path, block.len())?;
            if let Some(first) = blocks.first().filter(|first| first.shape != found.shape) {
                return Err(damaged(&path, format!("has {:?}, the first file {:?}", found.shape, first.shape)));
            }
            blocks.push(found);
        }
        tell(prompts.len())?;
        let (prompts, null_is_empty_prompt, parts) =
            (prompts.len(), encoder.null_is_empty_prompt(), encoder.parts().into());
        Ok(Self { blocks, prompts, empty: prompts, null_is_empty_prompt, notices, parts })
    }

    /// The same of its first prompts alone.
    ///
    /// # Panics
    /// If it has fewer.
    #[must_use]
    pub fn truncated(self, prompts: usize) -> Self {
        assert!(prompts <= self.prompts, "the first {prompts} of {} prompts", self.prompts);
        Self { prompts, ..self }
    }

    /// Whether the table in a folder is of the first of these prompts and lacks others, so that [`prepare`](Self::prepare) will make
    /// another one of it.
    ///
    /// # Errors
    /// If it would be refused for that: as one of another encoder or version, or a damaged one.
    pub fn needs_extension(folder: &Path, prompts: &[String], encoder: &dyn TextEncoder) -> Result<bool, Error> {
        match Manifest::read(folder)? {
            Some(found) if found.grows_to(prompts) => {
                let wanted = Manifest::new(encoder.identity()?, prompts);
                if found.is_like(&wanted) { Ok(true) } else { found.check_same(folder, &wanted).map(|()| false) }
            }
            _ => Ok(false),
        }
    }

    /// How many of these prompts, the first ones, the table in a folder is of, if it lacks others.
    pub fn prefix_len(folder: &Path, prompts: &[String]) -> Option<usize> {
        Manifest::read(folder).ok()?.filter(|found| found.grows_to(prompts)).map(|found| found.prompts)
    }

    /// The identity of the encoder that the table in a folder belongs to, if there is one.
    pub fn encoder_identity(folder: &Path) -> Option<String> {
        let manifest = Manifest::read(folder).ok()??;
        Some(manifest.encoder).filter(|_| manifest.version == VERSION)
    }

    /// Whether a folder has embeddings, not a [record](Self::record_encoder) of whose alone.
    pub(crate) fn has_embeddings(folder: &Path) -> bool {
        file(folder, 0).is_file()
    }

    /// Writes down in `folder` whose embeddings of these prompts are read elsewhere, by the [`identity`](TextEncoder::identity) of
    /// the encoder, or compares that with what is there: those of another encoder will be refused.
    ///
    /// # Errors
    /// If `folder` is of another encoder or other prompts, or cannot be written.
    pub fn record_encoder(encoder: &str, prompts: &[String], folder: &Path) -> Result<(), Error> {
        let manifest = Manifest::new(encoder.into(), prompts);
        match Manifest::read(folder)? {
            Some(found) => found.check_same(folder, &manifest),
            None => manifest.write(folder),
        }
    }

    /// Whether the empty prompt stands for none; otherwise zeros do.
    pub fn null_is_empty_prompt(&self) -> bool {
        self.null_is_empty_prompt
    }

    /// How many prompts there are, without the empty one.
    pub fn prompts(&self) -> usize {
        self.prompts
    }

    /// What the user should know of the prompts that were encoded, in words: how many of all are longer than the encoder reads.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Width of a token and of what is pooled.
    pub fn widths(&self) -> [usize; 2] {
        let Shape { width, pooled, .. } = self.blocks[0].shape;
        [width, pooled]
    }

    /// The embeddings of prompts by number, in `f32`; [`prompts`](Self::prompts) itself is the empty one. Any thread may ask.
    ///
    /// # Panics
    /// If a number is beyond that.
    pub fn rows(&self, numbers: &[usize], device: &Device) -> TextEmbedding {
        super::embedding(self.read_rows(numbers), device).with_parts(self.parts())
    }

    /// What each of several encoders says.
    pub(super) fn parts(&self) -> Arc<[EncoderSlice]> {
        self.parts.clone()
    }

    /// Tokens and pooled prompts in memory.
    pub(super) fn read_rows(&self, numbers: &[usize]) -> [TensorData; 2] {
        let Shape { length, width, pooled } = self.blocks[0].shape;
        let mut all_tokens = Vec::with_capacity(numbers.len() * length * width);
        let mut all_pooled = Vec::with_capacity(numbers.len() * pooled);
        for &number in numbers {
            assert!(number <= self.prompts, "prompt {number} of {}", self.prompts);
            let number = if number == self.prompts { self.empty } else { number };
            let (block, row) = (&self.blocks[number / BLOCK], number % BLOCK);
            StoragePrecision::F16.widen(block.bytes(block.tokens, row, length * width), &mut all_tokens);
            StoragePrecision::F16.widen(block.bytes(block.pooled, row, pooled), &mut all_pooled);
        }
        let tokens = TensorData::new(all_tokens, [numbers.len(), length, width]);
        [tokens, TensorData::new(all_pooled, [numbers.len(), pooled])]
    }
}

impl Block {
    fn open(path: &Path, prompts: usize) -> Result<Self, Error> {
        let file = MappedFile::open(path).map_err(Error::io("read", path))?;
        let fault = |reason: &str| damaged(path, reason.into());
        let found = SafeTensors::deserialize(&file)
            .map_err(|error| damaged(path, format!("is damaged: {error}; remove it to encode its prompts again")))?;
        let part = |name: &str, rank: usize| {
            let part = found.tensor(name).map_err(|_| fault(&format!("has no `{name}`")))?;
            let start = part.data().as_ptr() as usize - file.as_ptr() as usize;
            match part.shape() {
                shape if part.dtype() == Dtype::F16 && shape.len() == rank && shape[0] == prompts => {
                    Ok((shape[1..].to_vec(), start))
                }
                shape => Err(fault(&format!("has a `{name}` of {:?} {shape:?}", part.dtype()))),
            }
        };
        let ((tokens_shape, tokens), (pooled_shape, pooled)) = (part("tokens", 3)?, part("pooled", 2)?);
        let shape = Shape { length: tokens_shape[0], width: tokens_shape[1], pooled: pooled_shape[0] };
        Ok(Self { shape, tokens, pooled, file })
    }

    /// The `size` numbers of a row of the part that begins at `start`, as bytes.
    fn bytes(&self, start: usize, row: usize, size: usize) -> &[u8] {
        let bytes = StoragePrecision::F16.bytes() * size;
        &self.file[start + row * bytes..][..bytes]
    }
}

impl Manifest {
    fn new(encoder: String, prompts: &[String]) -> Self {
        let mut digest = Sha256::new();
        prompts.iter().for_each(|prompt| digest.update(format!("{}:{prompt},", prompt.len())));
        let sha256 = hex::encode(digest.finalize());
        Self { version: VERSION, encoder, prompts: prompts.len(), sha256 }
    }

    /// That of a folder, if it has one.
    fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let found = serde_json::from_slice(&text);
        found.map(Some).map_err(|error| damaged(&path, format!("is damaged: {}", explain(&error))))
    }

    /// Writes it into a folder, which is made.
    fn write(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let text = serde_json::to_vec_pretty(self).expect("text and numbers are JSON");
        Ok(write_atomic(&folder.join(MANIFEST), &text)?)
    }

    /// Whether it is of some of the first of these prompts, and not of all.
    fn grows_to(&self, prompts: &[String]) -> bool {
        let first = prompts.get(..self.prompts).filter(|first| first.len() < prompts.len());
        first.is_some_and(|first| Self::new(String::new(), first).sha256 == self.sha256)
    }

    /// Whether it is of the same encoder and version.
    fn is_like(&self, other: &Self) -> bool {
        (self.version, &self.encoder) == (other.version, &other.encoder)
    }

    /// Refuses that of a folder which is not the one that is wanted there.
    fn check_same(&self, folder: &Path, wanted: &Self) -> Result<(), Error> {
        if self == wanted {
            return Ok(());
        }
        let what = match self {
            Self { version, .. } if *version != VERSION => "that another version of mixflow wrote",
            Self { encoder, .. } if *encoder != wanted.encoder => {
                "of another encoder, or of one with other weights or settings, such as precision or tokens"
            }
            _ => "of other prompts",
        };
        Err(damaged(folder, format!("holds embeddings {what}: choose another folder, or remove it to encode again")))
    }
}

/// That of the block of a number.
fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}.safetensors"))
}

/// Removes a file that may be gone.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Prompts { path: path.into(), reason }
}

fn write(path: &Path, text: &TextEmbedding) -> Result<(), Error> {
    let parts = [
        ("tokens", text.tokens.dims().to_vec(), bytes(path, text.tokens.to_data())?),
        ("pooled", text.pooled.dims().to_vec(), bytes(path, text.pooled.to_data())?),
    ];
    let views = parts.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F16, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    let file = serialize(views, None).map_err(|error| damaged(path, format!("cannot be written: {error}")))?;
    Ok(write_atomic(path, &file)?)
}

/// Numbers as they are stored.
fn bytes(path: &Path, data: TensorData) -> Result<Vec<u8>, Error> {
    let numbers: Vec<f32> = data.iter().collect();
    let mut bytes = Vec::with_capacity(StoragePrecision::F16.bytes() * numbers.len());
    match StoragePrecision::F16.narrow(&numbers, &mut bytes) {
        None => Ok(bytes),
        Some(number) => Err(damaged(path, format!("cannot be written: half precision does not hold {number}"))),
    }
}
