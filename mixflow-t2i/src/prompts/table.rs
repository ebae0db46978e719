//! Embeddings that are computed once.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::json::explain;
use mixflow::backbones::mapped_file::MappedFile;
use mixflow::files::write_atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, TextEmbedding, TextEncoder};

/// Prompts in one file.
const BLOCK: usize = 256;

/// What the files belong to.
const MANIFEST: &str = "prompts.json";

/// The embeddings of numbered prompts, in files of a folder that are read by memory map. After the last prompt there is one
/// more, the empty one, which stands for none.
///
/// Text encoders are larger than the networks that they talk to, and say the same of a prompt each time: they read all
/// prompts of a data set once, before training.
#[derive(Debug)]
pub struct PromptTable {
    blocks: Vec<Block>,
    prompts: usize,
}

/// A file with `tokens`, `[prompts, length, width]`, and `pooled`, `[prompts, pooled width]`, as `f32`.
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
    encoder: String,
    prompts: usize,
    sha256: String,
}

impl PromptTable {
    /// The table in `folder` of these prompts; whatever is missing in it is encoded and written. `name` says which encoder
    /// it is, in whatever way tells it from others. `tell` hears how many prompts are done.
    ///
    /// # Errors
    /// If the folder holds other prompts or those of another encoder, a file is damaged or cannot be written, and as the
    /// encoder's own.
    pub fn prepare(
        folder: &Path,
        prompts: &[String],
        encoder: &dyn TextEncoder,
        name: &str,
        mut tell: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let mut digest = Sha256::new();
        prompts.iter().for_each(|prompt| digest.update(format!("{}:{prompt},", prompt.len())));
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let manifest = Manifest { encoder: name.into(), prompts: prompts.len(), sha256 };
        check_manifest(folder, &manifest)?;
        let all: Vec<&str> = prompts.iter().map(String::as_str).chain([""]).collect();
        let mut blocks: Vec<Block> = vec![];
        for (number, block) in all.chunks(BLOCK).enumerate() {
            let path = folder.join(format!("{number:05}.safetensors"));
            if !path.is_file() {
                write(&path, &encoder.encode(block)?)?;
            }
            let found = Block::open(&path, block.len())?;
            if let Some(first) = blocks.first().filter(|first| first.shape != found.shape) {
                return Err(damaged(&path, format!("has {:?}, the first file {:?}", found.shape, first.shape)));
            }
            blocks.push(found);
            tell(prompts.len().min((number + 1) * BLOCK));
        }
        Ok(Self { blocks, prompts: prompts.len() })
    }

    /// How many prompts there are, without the empty one.
    pub fn prompts(&self) -> usize {
        self.prompts
    }

    /// Width of a token and of what is pooled.
    pub fn widths(&self) -> [usize; 2] {
        let Shape { width, pooled, .. } = self.blocks[0].shape;
        [width, pooled]
    }

    /// The embeddings of prompts by number; [`prompts`](Self::prompts) itself stands for none.
    ///
    /// # Panics
    /// If a number is beyond that.
    pub fn rows(&self, numbers: &[usize], device: &Device) -> TextEmbedding {
        let Shape { length, width, pooled } = self.blocks[0].shape;
        let (mut all_tokens, mut all_pooled) = (vec![], vec![]);
        for &number in numbers {
            assert!(number <= self.prompts, "prompt {number} of {}", self.prompts);
            let (block, row) = (&self.blocks[number / BLOCK], number % BLOCK);
            all_tokens.extend(block.numbers(block.tokens, row, length * width));
            all_pooled.extend(block.numbers(block.pooled, row, pooled));
        }
        let tokens = TensorData::new(all_tokens, [numbers.len(), length, width]);
        let pooled = TensorData::new(all_pooled, [numbers.len(), pooled]);
        TextEmbedding::new(Tensor::from_data(tokens, device), Tensor::from_data(pooled, device))
    }
}

impl Block {
    fn open(path: &Path, prompts: usize) -> Result<Self, Error> {
        let file = MappedFile::open(path).map_err(Error::io("read", path))?;
        let fault = |reason: &str| damaged(path, reason.into());
        let found = SafeTensors::deserialize(&file).map_err(|error| damaged(path, format!("is damaged: {error}")))?;
        let part = |name: &str, rank: usize| {
            let part = found.tensor(name).map_err(|_| fault(&format!("has no `{name}`")))?;
            let start = part.data().as_ptr() as usize - file.as_ptr() as usize;
            match part.shape() {
                shape if part.dtype() == Dtype::F32 && shape.len() == rank && shape[0] == prompts => {
                    Ok((shape[1..].to_vec(), start))
                }
                shape => Err(fault(&format!("has a `{name}` of {:?} {shape:?}", part.dtype()))),
            }
        };
        let ((tokens_shape, tokens), (pooled_shape, pooled)) = (part("tokens", 3)?, part("pooled", 2)?);
        let shape = Shape { length: tokens_shape[0], width: tokens_shape[1], pooled: pooled_shape[0] };
        Ok(Self { shape, tokens, pooled, file })
    }

    /// The `size` numbers of a row of the part that begins at `start`.
    fn numbers(&self, start: usize, row: usize, size: usize) -> impl Iterator<Item = f32> {
        let bytes = &self.file[start + 4 * row * size..][..4 * size];
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes")))
    }
}

/// Makes the folder with its manifest, or compares that with what is there.
fn check_manifest(folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    let path: PathBuf = folder.join(MANIFEST);
    if !path.is_file() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let text = serde_json::to_vec_pretty(manifest).expect("text and numbers are JSON");
        return Ok(write_atomic(&path, &text)?);
    }
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let found: Manifest =
        serde_json::from_slice(&text).map_err(|error| damaged(&path, format!("is damaged: {}", explain(&error))))?;
    if found == *manifest {
        return Ok(());
    }
    let what = if found.encoder == manifest.encoder { "of other prompts" } else { "of another encoder" };
    Err(damaged(folder, format!("holds embeddings {what}: choose another folder, or remove it to encode again")))
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Prompts { path: path.into(), reason }
}

fn write(path: &Path, text: &TextEmbedding) -> Result<(), Error> {
    let bytes = |data: TensorData| data.iter::<f32>().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let parts = [
        ("tokens", text.tokens.dims().to_vec(), bytes(text.tokens.to_data())),
        ("pooled", text.pooled.dims().to_vec(), bytes(text.pooled.to_data())),
    ];
    let views = parts.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    let file = serialize(views, None).map_err(|error| damaged(path, format!("cannot be written: {error}")))?;
    Ok(write_atomic(path, &file)?)
}
