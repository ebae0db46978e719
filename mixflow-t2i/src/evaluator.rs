//! Images of an evaluator's own prompts, in the files that it reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use burn::tensor::Tensor;
use mixflow::backbones::Condition;
use mixflow::backbones::not_data::why_not_data;
use mixflow::data::RgbImage;
use mixflow::files::images::read_rgb;
use mixflow::files::{Tiles, write_atomic};
use mixflow::sampling::Images;
use serde_json::{Value, json};

use crate::pipeline::prompt_block_size;
use crate::{Error, TextPipeline};

/// An evaluator of text-to-image models, by what it reads.
///
/// | | prompts | images |
/// |---|---|---|
/// | [`GenEval`](Self::GenEval) | `evaluation_metadata.jsonl` | `00000/samples/0000.png` and so on, and `00000/metadata.jsonl` |
/// | [`GenEval2`](Self::GenEval2) | `geneval2_data.jsonl` | `00000.png`, and `image_paths.json` from prompts to these |
/// | [`DpgBench`](Self::DpgBench) | a folder of `NAME.txt` | `NAME.png`, one image or four as 2 × 2 |
/// | [`T2iCompBench`](Self::T2iCompBench) | `color_val.txt` and its like, a prompt a line | `samples/PROMPT_000000.png`, numbered throughout |
///
/// # Source
/// `evaluation/evaluate_images.py` of `djghosh13/geneval` (Ghosh et al. 2023, arXiv 2310.11513); README of
/// `facebookresearch/GenEval2` (arXiv 2512.16853); `dpg_bench/compute_dpg_bench.py` of `TencentQQGYLab/ELLA` (Hu et al. 2024,
/// arXiv 2403.05135); `BLIPvqa_eval/BLIP_vqa.py` and `GORS_finetune/inference_eval.py` of `Karine-Huang/T2I-CompBench` (Huang
/// et al. 2023, arXiv 2307.06350).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Objects found by a detector.
    GenEval,
    /// Questions to a model, with the probability of the answer.
    GenEval2,
    /// Questions to a model about long prompts.
    DpgBench,
    /// Questions, boxes and similarity, by kind of prompt.
    T2iCompBench,
}

/// Images of a prompt at most.
const MOST: usize = 10_000;

/// A prompt, and where its images go below the folder: each in a file, or all in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatorPrompt {
    /// What is to be drawn.
    pub prompt: String,
    /// One for each image; one for all of DPG-Bench.
    pub files: Vec<PathBuf>,
    /// A file beside them, and what is in it.
    pub beside: Option<(PathBuf, String)>,
}

impl Evaluator {
    /// Images of each prompt that its authors draw.
    pub fn images(self) -> usize {
        match self {
            Self::GenEval | Self::DpgBench => 4,
            Self::GenEval2 => 1,
            Self::T2iCompBench => 10,
        }
    }

    /// The prompts of the evaluator's file or folder, with so many images of each.
    ///
    /// # Errors
    /// If it cannot be read, holds no prompt or another evaluator's, if the evaluator takes another number of images, and for
    /// a prompt that no file can be named after.
    pub fn read(self, prompts: &Path, each: usize) -> Result<Vec<EvaluatorPrompt>, Error> {
        let fault = |reason: String| Error::Prompts { path: prompts.into(), reason };
        let takes = match self {
            Self::GenEval2 => &[1][..],
            Self::DpgBench => &[1, 4],
            Self::GenEval | Self::T2iCompBench => &[],
        };
        if !(1..=MOST).contains(&each) || !(takes.is_empty() || takes.contains(&each)) {
            let takes: Vec<_> = takes.iter().map(ToString::to_string).collect();
            let takes = if takes.is_empty() { format!("1 to {MOST}") } else { takes.join(" or ") };
            return Err(fault(format!("is for {takes} images of each prompt, not {each}")));
        }
        let wanted: Vec<EvaluatorPrompt> = match self {
            Self::DpgBench => files(prompts)?
                .into_iter()
                .map(|file| {
                    let prompt = read(&file)?.trim().to_owned();
                    if prompt.is_empty() {
                        return Err(Error::Prompts { path: file, reason: "has no prompt".into() });
                    }
                    let name = PathBuf::from(file.with_extension("png").file_name().unwrap_or_default());
                    Ok(EvaluatorPrompt { prompt, files: vec![name], beside: None })
                })
                .collect::<Result<_, Error>>()?,
            _ => {
                let lines = if self == Self::T2iCompBench { prompt_lines(prompts)? } else { lines(&read(prompts)?) };
                let name = |index, (line, text): &(usize, String)| {
                    self.wanted(index, text, each).map_err(|reason| fault(format!("line {line}: {reason}")))
                };
                lines.iter().enumerate().map(|(index, line)| name(index, line)).collect::<Result<_, _>>()?
            }
        };
        if wanted.is_empty() {
            return Err(fault("has no prompt".into()));
        }
        let mut prompts = BTreeSet::new();
        match wanted.iter().find(|wanted| !prompts.insert(&wanted.prompt)) {
            Some(EvaluatorPrompt { prompt, .. }) if self == Self::GenEval2 => {
                Err(fault(format!("has a prompt twice, of which one image alone can be named: {prompt}")))
            }
            _ => Ok(wanted),
        }
    }

    /// That of a line of the evaluator's file.
    fn wanted(self, index: usize, line: &str, each: usize) -> Result<EvaluatorPrompt, String> {
        let of_json = || {
            let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let prompt = value["prompt"].as_str().ok_or("expected an object with `prompt`")?;
            Ok::<_, String>(prompt.to_owned())
        };
        Ok(match self {
            Self::GenEval => {
                let folder = PathBuf::from(format!("{index:05}"));
                EvaluatorPrompt {
                    prompt: of_json()?,
                    files: (0..each).map(|image| folder.join(format!("samples/{image:04}.png"))).collect(),
                    beside: Some((folder.join("metadata.jsonl"), line.into())),
                }
            }
            Self::T2iCompBench => {
                let prompt = line.split('\t').next().unwrap_or_default().trim();
                if prompt.is_empty() {
                    return Err("has no prompt before the tabulator".into());
                }
                // It is read back up to the first underscore, and the number behind the last.
                if let Some(sign) = ['_', '/', '\0'].into_iter().find(|sign| prompt.contains(*sign)) {
                    return Err(format!("a file cannot be named after a prompt with `{}`", sign.escape_default()));
                }
                // Most systems take 255 bytes, of which a file that is being written takes some more.
                if prompt.len() > 200 {
                    return Err(format!("a prompt of {} bytes is too long for the name of a file", prompt.len()));
                }
                let number = |image| index * each + image;
                let file = |image| PathBuf::from(format!("samples/{prompt}_{:06}.png", number(image)));
                EvaluatorPrompt { prompt: prompt.into(), files: (0..each).map(file).collect(), beside: None }
            }
            Self::GenEval2 | Self::DpgBench => {
                EvaluatorPrompt { prompt: of_json()?, files: vec![format!("{index:05}.png").into()], beside: None }
            }
        })
    }

    /// Writes into `folder` what is not there yet, `each` images of every prompt; image `k` of prompt `i` starts from the noise
    /// of number `each · i + k`, however many are drawn at a time. `tell` hears how many images are there.
    ///
    /// # Errors
    /// As [`TextPipeline::encode`] and [`TextPipeline::draw`], and if the file system refuses.
    pub fn draw(
        self,
        pipeline: &TextPipeline,
        wanted: &[EvaluatorPrompt],
        each: usize,
        folder: &Path,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        // A batch for each of the devices.
        let devices = 1 + pipeline.pipeline.beside.len();
        let at_once = (pipeline.pipeline.recipe.sampling.batch.saturating_mul(devices) / each).max(1);
        let missing =
            |wanted: &[EvaluatorPrompt]| wanted.iter().flat_map(|it| &it.files).any(|file| !folder.join(file).exists());
        let mut first = 0;
        // Large encoders are read from their files for each block of prompts.
        for block in wanted.chunks(prompt_block_size(at_once)) {
            let prompts: Vec<&str> = block.iter().map(|wanted| wanted.prompt.as_str()).collect();
            let text = if missing(block) { Some(pipeline.encode(&prompts)?) } else { None };
            for (chunk, wanted) in block.chunks(at_once).enumerate() {
                if let Some(text) = text.as_ref().filter(|_| missing(wanted)) {
                    let rows = (chunk * at_once..).take(wanted.len()).flat_map(|row| vec![row as i64; each]);
                    let rows = Tensor::from_data(&rows.collect::<Vec<_>>()[..], &text.tokens.device());
                    let images = pipeline.draw(&text.clone().select(rows), first, &mut |_| {})?;
                    write(&images, wanted, folder)?;
                }
                first += (wanted.len() * each) as u64;
                tell(first);
            }
        }
        if self == Self::GenEval2 {
            let folder = std::path::absolute(folder).map_err(Error::reading(folder))?;
            let paths = wanted.iter().map(|wanted| (wanted.prompt.clone(), json!(folder.join(&wanted.files[0]))));
            let paths = serde_json::to_vec_pretty(&Value::Object(paths.collect())).unwrap_or_default();
            write_atomic(&folder.join("image_paths.json"), &paths)?;
        }
        Ok(())
    }
}

/// The images below `folder` that [`Evaluator::draw`] has made, `each` of every prompt, with their prompts; those of a square
/// one by one.
///
/// # Errors
/// In the place of an image that cannot be read.
pub fn read_images<'a>(
    wanted: &'a [EvaluatorPrompt],
    each: usize,
    folder: &'a Path,
) -> impl Iterator<Item = Result<(RgbImage, String), Error>> + 'a {
    let files = wanted.iter().flat_map(|wanted| wanted.files.iter().map(move |file| (wanted, file)));
    files.flat_map(move |(wanted, file)| {
        let side = (each / wanted.files.len()).isqrt() as u32;
        let images = read_rgb(&folder.join(file)).map(|image| {
            let [width, height] = [image.width() / side, image.height() / side];
            let tile = move |place: u32| {
                let (left, top) = (place % side * width, place / side * height);
                RgbImage::from_fn(width, height, |x, y| *image.get_pixel(left + x, top + y))
            };
            (0..side * side).map(tile).collect::<Vec<_>>()
        });
        match images {
            Ok(images) => images.into_iter().map(|image| Ok((image, wanted.prompt.clone()))).collect(),
            Err(error) => vec![Err(error.into())],
        }
    })
}

/// The prompts of a file that has one a line, each with the number of its line, from 1; empty lines are none.
///
/// # Errors
/// If it cannot be read, has no prompt, or holds something else, such as JSON.
pub fn prompt_lines(file: &Path) -> Result<Vec<(usize, String)>, Error> {
    let fault = |reason: &str| Error::Prompts { path: file.into(), reason: reason.into() };
    let text = read(file)?;
    let lines = lines(&text);
    let (_, first) = lines.first().ok_or_else(|| fault("has no prompt"))?;
    if let Some(problem) = why_not_data(text.as_bytes()) {
        return Err(fault(&problem));
    }
    // A recipe begins with a line of one bracket, a table of JSON with an object.
    let is_json = ["{", "["].contains(&first.trim())
        || [first.as_str(), &text]
            .iter()
            .any(|text| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object() || value.is_array()));
    if is_json { Err(fault("holds JSON, no prompts: expected one a line")) } else { Ok(lines) }
}

/// Lines with something in them, numbered from 1.
fn lines(text: &str) -> Vec<(usize, String)> {
    (1..).zip(text.lines().map(String::from)).filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// A text without the mark of its encoding that some editors begin a file with.
fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(Error::reading(path))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Writes the images of some prompts that are not there: where each has a file, there, and in a square otherwise.
fn write(images: &Images, wanted: &[EvaluatorPrompt], folder: &Path) -> Result<(), Error> {
    let [count, channels, height, width] = images.shape;
    let (each, one) = (count / wanted.len(), channels * height * width);
    for (wanted, images) in wanted.iter().zip(images.pixels.chunks(each * one)) {
        if let Some((path, text)) = &wanted.beside {
            write_below(&folder.join(path), text.as_bytes())?;
        }
        let of_file = each / wanted.files.len();
        let tiles = Tiles { columns: of_file.isqrt(), scale: 1, gap: 0, ..Tiles::default() };
        let files = wanted.files.iter().zip(images.chunks(of_file * one));
        for (file, images) in files.filter(|(file, _)| !folder.join(file).exists()) {
            write_below(&folder.join(file), &tiles.png(images, [of_file, channels, height, width]))?;
        }
    }
    Ok(())
}

fn write_below(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    Ok(write_atomic(path, bytes)?)
}

/// The `.txt` in a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut files = entries.map_err(Error::reading(folder))?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    Ok(files)
}
