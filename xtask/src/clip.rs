//! CLIP score, for `cargo xtask eval --clip`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mixflow::Device;
use mixflow::data::source::{Directory, Source};
use mixflow::data::{CaptionFormat, RgbImage};
use mixflow::files::images::{ImageSource, read_rgb};
use mixflow_t2i::evaluator::{prompt_lines, read_images};
use mixflow_t2i::text::Truncation;
use mixflow_t2i::{ClipScore, ClipScores, Error};
use serde_json::{Value, json};

use crate::hub;
use crate::progress::Progress;
use crate::record::recorded;
use crate::terminal::{Result, note};
use crate::text::Layout;

/// Which CLIP measures, and what the images are to show.
#[derive(Args)]
pub(crate) struct ClipArguments {
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "images_from",
        conflicts_with = "inception",
        help = "Measure how near the images of --images-from are to their captions, with this CLIP: a folder as Transformers has it, \
                or an address such as hf://openai/clip-vit-large-patch14. Captions are --prompts, or stand in the folder of the \
                images: in metadata.jsonl, or in a .txt beside each"
    )]
    clip: Option<PathBuf>,
    /// What the images were drawn of, in turn by the order of their names (as `sample` numbers them): a file with a prompt a line; with
    /// --layout, prompts as the evaluator has them
    #[arg(long, value_name = "FILE", requires = "clip")]
    prompts: Option<PathBuf>,
    /// The images are in the files that this evaluator reads
    #[arg(long, value_name = "EVALUATOR", requires = "prompts")]
    layout: Option<Layout>,
    /// Images of each prompt, as many as were drawn [default: as many as `sample` wrote down, or the evaluator's authors draw]
    #[arg(long, value_name = "N", requires = "layout")]
    each: Option<usize>,
}

impl ClipArguments {
    /// What was found of images, if it is asked for, and by what.
    pub(crate) fn measure(&self, images: &Path, device: &Device) -> Result<Option<(ClipScores, Value)>> {
        let Some(folder) = &self.clip else { return Ok(None) };
        let drawn_each = recorded(images).and_then(|record| usize::try_from(record["each"].as_u64()?).ok());
        let each = self.layout.map(|layout| self.each.or(drawn_each).unwrap_or(layout.evaluator().images()));
        if let (Some(each), Some(drawn)) = (each, drawn_each)
            && each != drawn
        {
            let reason = format!("--each was {drawn} when they were drawn, found {each}");
            return Err(format!("{}: {reason}", images.display()).into());
        }
        let [folder, local] = hub::encoders(folder)?;
        let clip = ClipScore::from_folder(local, device)?;
        let (scores, cut) = match (&self.prompts, self.layout.zip(each)) {
            (None, _) => {
                let directory = Directory::captioned(images, CaptionFormat::Whole)?;
                directory.notices().iter().for_each(note);
                if directory.several_captions() {
                    note("images with several captions are compared with the first of them");
                }
                let (entries, captions) = (directory.entries()?, directory.classes());
                let captioned = entries
                    .iter()
                    .map(|entry| Ok((read_rgb(&images.join(&entry.name))?, captions[entry.class].clone())));
                scores(&clip, captions, entries.len(), captioned)?
            }
            (Some(file), Some((layout, each))) => {
                let evaluator = layout.evaluator();
                let wanted = evaluator.read(file, each)?;
                let prompts: Vec<_> = wanted.iter().map(|wanted| wanted.prompt.clone()).collect();
                scores(&clip, &prompts, prompts.len() * each, read_images(&wanted, each, images))?
            }
            (Some(file), None) => {
                let prompts: Vec<_> = prompt_lines(file)?.into_iter().map(|(_, prompt)| prompt).collect();
                let source = ImageSource::open(images)?;
                let count = source.len();
                let captioned = source.zip(prompts.iter().cycle());
                let captioned = captioned.map(|(image, prompt)| Ok((image?.into_rgb(), prompt.clone())));
                scores(&clip, &prompts, count, captioned)?
            }
        };
        let by = json!({
            "weights": folder,
            "identity": clip.identity()?,
            "prompts": self.prompts,
            "layout": self.layout.map(|layout| layout.to_possible_value().map(|value| value.get_name().to_owned())),
            "each": each,
            "captions_cut": cut,
        });
        Ok(Some((scores, by)))
    }
}

/// Of images with their captions, which are among `texts`; and how many of these were cut.
fn scores(
    clip: &ClipScore,
    texts: &[String],
    count: usize,
    captioned: impl Iterator<Item = std::result::Result<(RgbImage, String), Error>>,
) -> Result<(ClipScores, usize)> {
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let cuts = clip.truncations(&all)?;
    Truncation::summary(&cuts, all.len()).iter().for_each(note);
    let mut progress = Progress::new();
    progress.begin("CLIP score", Some(count as u64));
    let cosines = clip.cosines(captioned, |done| progress.counted(done as u64, "image"))?;
    progress.end();
    Ok((ClipScores::of(&cosines), cuts.len()))
}
