//! `cargo xtask encode`.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use mixflow::Device;
use mixflow::backbones::Invalid;
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::encoder::EncoderConfig;
use mixflow::backbones::json::explain;
use mixflow::backbones::not_data::why_not_text;
use mixflow::data::latents::{
    EncodeConfig, EncodeOutcome, Encoding, StoragePrecision, Writer, check_part, encode_dataset, images_at_a_time,
    join_parts, known_classes,
};
use mixflow::data::source::{self, Options, PartOf, Renumbered, Source};
use mixflow::data::{self, BucketConfig, CaptionFormat, MaskConfig, OnBroken, StorageConfig};
use mixflow::numbers::counted;
use mixflow::recipe::Fault;
use mixflow::{LatentEncoder, check_memory, known_memory};
use mixflow_t2i::TextEncoder;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::TextEncoderConfig;
use serde::de::DeserializeOwned;

use crate::arguments::{DevicesArgument, ShardArgument};
use crate::hub;
use crate::progress::Progress;
use crate::signals::{STOP, stop_on_signals};
use crate::terminal::{Result, lock, note, print};

#[derive(Args)]
pub(crate) struct Encode {
    /// A folder with one sub-folder of images per class, `WebDataset` .tar files, or .parquet files; with --captions a folder of
    /// images with their captions
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// Folder of the latents; one that is not finished is continued, to one that is, new images are added, and new captions behind
    /// those that are there; of parts that were made in it with --shard, all are taken as one
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Side of the images in pixels, cut from their centres
    #[arg(long, default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    size: usize,
    /// Sizes of about the images' own aspect ratios instead of squares: with sides that are multiples of so many pixels, and at
    /// most the area of the square
    #[arg(long, value_name = "STEP")]
    buckets: Option<usize>,
    /// Sides of squares, ascending: images take buckets of the area of the largest that does not enlarge them [default: --size]
    #[arg(long, value_name = "SIDES", value_delimiter = ',', requires = "buckets")]
    bucket_sizes: Vec<usize>,
    /// Images are told by captions: in a .txt beside each or in metadata.jsonl, of archives in a .txt or .json, of .parquet
    /// files in the column text or caption
    #[arg(long, conflicts_with = "classes")]
    captions: bool,
    /// Texts have a caption a line, of which training tells one at a time; lists of captions are such without it
    #[arg(long, requires = "captions")]
    caption_lines: bool,
    #[arg(
        long,
        value_name = "JSON|FILE",
        requires = "captions",
        help = "Store what this encoder says of the captions, too: JSON as network.text of a recipe, or a file of it; its folder \
                may be hf://org/name"
    )]
    text_encoder: Option<String>,
    /// Store masks, too, by which a training weights its loss place by place: alpha, or of a folder of images the folder with an
    /// image of the same name and size for each, or what names of masks beside their images end in, as beside=-masklabel
    #[arg(long, value_name = "alpha|FOLDER|beside=ENDING")]
    mask: Option<String>,
    /// Which autoencoder
    #[arg(long, value_enum)]
    autoencoder: Kind,
    #[arg(
        long,
        value_name = "FILE",
        help = "Its weights, for rae those of the encoder: .safetensors, .pt or .bin, or hf://org/name/file"
    )]
    weights: PathBuf,
    /// Moments of rae's latents, its stat.pt
    #[arg(long, value_name = "FILE", required_if_eq("autoencoder", "rae"))]
    statistics: Option<PathBuf>,
    /// Shape of the autoencoder, for rae of the encoder, where it is not the published one: JSON as in a recipe
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Store the latents of the mirrored images too
    #[arg(long)]
    flip: bool,
    /// Store features for alignment too: of dinov2, or of an encoder whose shape is in this JSON file
    #[arg(long, value_name = "dinov2|FILE", requires = "encoder_weights")]
    features: Option<String>,
    /// Weights of the encoder of --features
    #[arg(long, value_name = "FILE", requires = "features")]
    encoder_weights: Option<PathBuf>,
    /// Names of the classes of .tar and .parquet files, one a line [default: those in the .parquet files, or numbers]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Column of .parquet files with the images [default: image]
    #[arg(long, value_name = "NAME")]
    image_column: Option<String>,
    /// Column of .parquet files with the classes, integers or text, or with the captions [default: label, with --captions text]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Images at a time [default: 8 of 320 pixels a side or less, fewer of larger ones, one of 1024]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
    batch: Option<usize>,
    /// Examples of a file: what is lost at most when it is stopped
    #[arg(long, default_value_t = 1024, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
    shard_size: usize,
    #[command(flatten)]
    shard: ShardArgument,
    /// How numbers are stored
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    precision: Stored,
    /// What to do about images that cannot be decoded
    #[arg(long, value_enum, default_value_t = Broken::Refuse)]
    on_broken: Broken,
    #[command(flatten)]
    device: DevicesArgument,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Stable Diffusion's, as SiT and REPA use it: 4 channels, an eighth of the sides
    Sd,
    /// Stable Diffusion 3's: 16 channels
    Sd3,
    /// A representation autoencoder, without --config of DINOv2-B with registers
    Rae,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stored {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Broken {
    /// Leave them out and list them in the manifest
    Skip,
    /// Stop and name the first
    Refuse,
}

impl Encode {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        let devices = self.device.find()?;
        let to = self.shard.shard.map_or_else(|| self.to.clone(), |shard| self.to.join(shard.name()));
        let _lock = lock(&to)?;
        let options = Options {
            classes: self.class_names()?,
            image_column: self.image_column.clone(),
            label_column: self.label_column.clone(),
            captions: self.captions,
            caption_format: if self.caption_lines { CaptionFormat::Lines } else { CaptionFormat::Whole },
            mask: self.mask.as_deref().map(|mask| match mask {
                "alpha" => MaskConfig::Alpha,
                other => match other.strip_prefix("beside=") {
                    Some(ending) => MaskConfig::Beside(ending.into()),
                    None => MaskConfig::Folder(other.into()),
                },
            }),
        };
        let mut source = source::open(&self.source, &options)?;
        if self.captions {
            source = Box::new(Renumbered::new(source, known_classes(&self.to)?));
        }
        let (images, classes) = (counted(source.len(), "image"), source.classes().len() as u64);
        let told = match self.captions {
            true => format!("of {}", counted(classes, "caption")),
            false => format!("in {}", counted(classes, "class")),
        };
        note(format_args!("{}: {images} {told}", source.describe()));
        source.notices().iter().for_each(note);
        let text = self.text_config()?;
        let files = [Some(&mut self.weights), self.statistics.as_mut(), self.encoder_weights.as_mut()];
        files.into_iter().flatten().try_for_each(|path| hub::file(path).map(|local| *path = local))?;
        let size = self.shard_size as u64;
        let part = self.shard.shard.map(|shard| PartOf::new(&*source, shard.of_batches(source.len(), size)));
        let source: &dyn Source = part.as_ref().map_or(&*source, |part| part);
        let encoders = devices.iter().map(|device| self.encoder(device)).collect::<Result<Vec<_>>>()?;
        self.check_sizes(&encoders[0], source.len(), &devices)?;
        let buckets = self.buckets.map(|step| BucketConfig { step, sizes: self.bucket_sizes.clone() });
        buckets
            .iter()
            .try_for_each(|buckets| encoders[0].check_buckets(buckets))
            .map_err(|error| by_flag(error.into()))?;
        let (precision, shard_examples) = (self.precision(), self.shard_size);
        let storage =
            StorageConfig { precision, flipped: self.flip, shard_examples, buckets, masked: self.mask.is_some() };
        let contents = encoders[0].contents(source, storage);
        let writer = match self.shard.shard {
            Some(shard) => {
                check_part(&self.to, shard, &contents)?;
                Writer::open(&to, contents)?.of_part()
            }
            None => {
                match join_parts(&self.to, &contents)? {
                    0 => {}
                    parts => note(format_args!("{} holds {parts} of {parts} parts", self.to.display())),
                }
                Writer::open(&to, contents)?
            }
        };
        let mut text = text.map(|config| text_encoder(config, &devices[0])).transpose()?;
        if self.shard.shard.is_some() && text.take().is_some() {
            note("captions are encoded by the call without --shard, which takes all parts as one");
        }
        let (captions, prompts) = (source.classes(), self.to.join("prompts"));
        // Latents that are there are read with the table that is there, until the new ones are.
        let begins = writer.read() == 0;
        if let Some(encoder) = &text
            && !PromptTable::needs_extension(&prompts, captions, &**encoder)?
            && (begins || PromptTable::encoder_identity(&prompts).is_some())
        {
            // Before signals are heard: each block of prompts is kept.
            encode_captions(&prompts, captions, &**encoder)?;
            text = None;
        }
        stop_on_signals();

        let mut progress = Progress::new();
        progress.begin("encoding", Some(source.len()));
        let before = writer.read();
        let on_broken = match self.on_broken {
            Broken::Skip => OnBroken::Skip,
            Broken::Refuse => OnBroken::Refuse,
        };
        let config = EncodeConfig { batch: self.batch(), on_broken };
        let encoders = encoders.into_iter().map(|encoder| move |images| encoder.encode(images)).collect();
        let mut remarks = vec![];
        let outcome = encode_dataset(source, config, writer, &STOP, encoders, |event| match event {
            Encoding::Compared(images) if images == before => progress.encoding_from(images),
            Encoding::Compared(images) | Encoding::Encoded(images) => progress.counted(images, "image"),
            Encoding::Remark(line) => remarks.push(line),
        })?;
        progress.end();
        remarks.iter().for_each(note);
        let folder = to.display();
        let EncodeOutcome::Finished(manifest) = outcome else {
            note(format_args!("stopped; whole shards are in {folder}: continue with the same command"));
            return Ok(ExitCode::from(130));
        };
        // Until here the table that grows was that of the latents that were there.
        if let Some(encoder) = &text
            && !encode_captions(&prompts, captions, &**encoder)?
        {
            note(format_args!("stopped; whole files of captions are in {folder}: continue with the same command"));
            return Ok(ExitCode::from(130));
        }
        let [channels, height, width] = manifest.contents.shape;
        let added = match manifest.examples().saturating_sub(before) {
            _ if before == 0 => String::new(),
            0 => ", none of them new".into(),
            new => format!(", {new} of them new"),
        };
        let less = if manifest.contents.buckets.is_some() { " or less" } else { "" };
        let twins = if manifest.contents.flipped { ", and as many of mirrored images" } else { "" };
        print(format_args!(
            "{} of {channels} x {height} x {width}{less}{twins}{added} in {folder}, {} of {:.1} MB in all",
            counted(manifest.examples(), "latent"),
            counted(manifest.shards.len() as u64, "shard"),
            manifest.bytes() as f64 / 1e6
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Who reads the captions, if they are to be read.
    fn text_config(&self) -> Result<Option<TextEncoderConfig>> {
        let Some(encoder) = &self.text_encoder else { return Ok(None) };
        let config: TextEncoderConfig = match encoder.trim_start().starts_with('{') {
            true => serde_json::from_str(encoder).map_err(|error| format!("--text-encoder: {}", explain(&error)))?,
            false => json(Path::new(encoder))?,
        };
        config.check().map_err(|fault| format!("--text-encoder: {fault}"))?;
        Ok(Some(config))
    }

    fn batch(&self) -> usize {
        self.batch.unwrap_or_else(|| images_at_a_time([self.size; 2]))
    }

    /// Whether a batch and a shard fit memory.
    fn check_sizes(&self, encoder: &LatentEncoder, images: u64, devices: &[Device]) -> Result<()> {
        /// Numbers that an autoencoder keeps for a pixel, at least: those of one map of Stable Diffusion's first level.
        const KEPT: u64 = 128;
        let [batch, shard] = [self.batch(), self.shard_size].map(|size| (size as u64).min(images));
        let pixels = (self.size * self.size) as u64;
        // Where several devices encode, batches are decoded ahead of them.
        let held = if devices.len() > 1 { 2 * devices.len() as u64 } else { 1 };
        // A GPU has memory of its own.
        let kept = if known_memory(&devices[0]).is_some() { KEPT } else { 0 };
        let numbers = 3 * held + kept;
        check_memory(|| format!("a batch of {batch} images (--batch)"), &[batch.min(shard), numbers, pixels, 4])?;
        let twins = if self.flip { 2 } else { 1 };
        let latent = [shard, encoder.numbers() as u64, twins, self.precision().bytes() as u64];
        Ok(check_memory(|| format!("a file of {shard} latents (--shard-size)"), &latent)?)
    }

    fn precision(&self) -> StoragePrecision {
        match self.precision {
            Stored::F32 => StoragePrecision::F32,
            Stored::F16 => StoragePrecision::F16,
            Stored::Bf16 => StoragePrecision::Bf16,
        }
    }

    fn encoder(&self, device: &Device) -> Result<LatentEncoder> {
        let kl = |published: KlAutoencoderConfig| -> Result<LatentEncoder> {
            if self.statistics.is_some() {
                return Err("--statistics: expected with --autoencoder rae only".into());
            }
            let config = self.config.as_deref().map_or(Ok(published), json)?;
            Ok(LatentEncoder::kl(&config, &self.weights, self.size, device)?)
        };
        let encoder = || match (self.autoencoder, &self.statistics) {
            (Kind::Sd, _) => kl(KlAutoencoderConfig::stable_diffusion()),
            (Kind::Sd3, _) => kl(KlAutoencoderConfig::stable_diffusion_3()),
            (Kind::Rae, None) => Err("--autoencoder rae: expected --statistics too".into()),
            (Kind::Rae, Some(statistics)) => {
                let config = self.config.as_deref().map_or(Ok(EncoderConfig::dinov2_base()), json)?;
                Ok(LatentEncoder::rae(&config, &self.weights, statistics, self.size, device)?)
            }
        };
        let encoder = encoder().map_err(by_flag)?;
        match (self.features.as_deref(), &self.encoder_weights) {
            (Some("dinov2"), Some(weights)) => {
                Ok(encoder.with_features(&EncoderConfig::dinov2_base_for_repa(self.size), weights)?)
            }
            (Some(file), Some(weights)) => Ok(encoder.with_features(&json(Path::new(file))?, weights)?),
            _ => Ok(encoder),
        }
    }

    fn class_names(&self) -> Result<Option<Vec<String>>> {
        let Some(file) = &self.classes else { return Ok(None) };
        let text = fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {}", file.display(), why_not_text(error)))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
        let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        let mut lines = HashMap::new();
        for (line, name) in (1..).zip(&names) {
            let file = file.display();
            if name.is_empty() {
                return Err(format!("{file} has no name in line {line}: expected that of a class in every line").into());
            }
            if let Some(earlier) = lines.insert(name, line) {
                return Err(format!("{file} has the class {name} in line {earlier} and in line {line}").into());
            }
        }
        Ok(Some(names))
    }
}

/// Who reads the captions, fetched if it is of the Hub.
fn text_encoder(mut config: TextEncoderConfig, device: &Device) -> Result<Box<dyn TextEncoder>> {
    if let Some(folder) = config.folder_mut() {
        *folder = hub::encoders(folder)?[1].clone();
    }
    Ok(config.open(device)?)
}

/// What an encoder says of the captions, in a folder; what is there is not encoded again. False if interrupted.
fn encode_captions(folder: &Path, captions: &[String], encoder: &dyn TextEncoder) -> Result<bool> {
    let mut progress = Progress::new();
    progress.begin("captions", Some(captions.len() as u64));
    let table = PromptTable::prepare(folder, captions, encoder, |done| {
        progress.counted(done as u64, "caption");
        if STOP.load(Ordering::Relaxed) { Err(mixflow::Error::Stopped) } else { Ok(()) }
    });
    progress.end();
    match table {
        Err(mixflow_t2i::Error::Mixflow(mixflow::Error::Stopped)) => return Ok(false),
        table => table?.notices().iter().for_each(note),
    }
    Ok(true)
}

/// The same error, which calls the sizes of images by their flags.
fn by_flag(error: Box<dyn Error>) -> Box<dyn Error> {
    match error.downcast_ref() {
        Some(mixflow::Error::Data(data::Error::OutOfRange { name, expected, found })) => {
            let flag = if *name == "buckets.sizes" { "--bucket-sizes" } else { "--buckets" };
            format!("{flag} must be {}, found {found}", expected.replace("data.size", "--size")).into()
        }
        Some(mixflow::Error::Recipe { fault: Fault::Invalid(Invalid { key, reason }), .. }) if key == "image_size" => {
            format!("--size {reason}").into()
        }
        Some(mixflow::Error::Recipe { fault: Fault::Invalid(Invalid { key, reason }), .. }) if key == "buckets" => {
            format!("--buckets {reason}").into()
        }
        _ => error,
    }
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    Ok(serde_json::from_slice(text).map_err(|error| format!("{}: {}", file.display(), explain(&error)))?)
}
