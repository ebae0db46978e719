//! Trainings of a small network on captioned images.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mixflow::LatentEncoder;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::weights::Weights;
use mixflow::compare::Progress;
use mixflow::data::latents::{EncodeConfig, StoragePrecision, Writer, encode_dataset};
use mixflow::data::{BucketConfig, OnBroken, StorageConfig, source};
use mixflow::launch::{Finish, Launch};
use mixflow::train::RunFolder;
use mixflow_t2i::Words;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};
use safetensors::SafeTensors;
use serde_json::json;
use tempfile::TempDir;

/// Widths and heights.
pub(crate) const SHAPES: [[u32; 2]; 11] =
    [[16, 16], [40, 20], [20, 40], [33, 31], [48, 24], [18, 17], [12, 48], [64, 32], [21, 19], [96, 4], [32, 16]];

/// What a small network of latents of half the sides is.
pub(crate) const LATENTS: [&str; 3] =
    ["network.transformer.input_size=8", "network.transformer.patch=2", "network.transformer.channels=4"];

/// So many captioned images.
pub(crate) fn photographs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, [width, height]) in SHAPES.into_iter().enumerate() {
        let number = number as u32;
        let pixel = |x: u32, y: u32| Rgb([9 * x + number, 7 * y, 5 * (x + y) * number].map(|value| value as u8));
        let path = folder.path().join(format!("{number:02}.png"));
        RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
        fs::write(path.with_extension("txt"), format!("picture {number}")).unwrap();
    }
    folder
}

/// A small network that learns them, by pixels.
pub(crate) fn recipe(photographs: &Path, changes: &[&str]) -> Result<TextRecipe, mixflow::Error> {
    let data = json!({ "kind": "captions", "path": photographs, "size": 16, "buckets": { "step": 4 } });
    let small = [
        &format!("data={data}")[..],
        "network.prompts=11",
        "network.transformer.input_size=16",
        "network.transformer.patch=4",
        "network.transformer.table=8",
        "network.transformer.width=24",
        "network.transformer.depth=2",
        "network.transformer.heads=2",
        "training.steps=6",
        "training.batch=4",
        "post_training=null",
        "sampling.grid.steps=2",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    let words = read_text_recipe("words", &changes);
    Ok(words
        .map_err(|error| match error {
            mixflow_t2i::Error::Mixflow(error) => error,
            other => panic!("{other}"),
        })?
        .expect("it is for text"))
}

/// Trains in a folder, continuing what is there, on so many devices; the averaged weights.
pub(crate) fn train(recipe: &TextRecipe, folder: &Path, devices: usize) -> (Vec<u8>, Vec<String>) {
    let (stop, device) = (AtomicBool::new(false), Device::flex());
    let beside = vec![Device::flex(); devices - 1];
    let run = match folder.join("recipe.json").is_file() {
        true => RunFolder::resume(folder, recipe.to_value(), &[]).unwrap(),
        false => RunFolder::begin(folder, recipe.to_value()).unwrap(),
    };
    let mut told = vec![];
    let mut tell = |event: Progress<'_>| {
        if let Progress::Note(note) = event {
            told.push(note);
        }
    };
    let launch = Launch { beside: &beside, ..Launch::new(recipe, &device, &stop) };
    let Some(Finish::Trained(file)) = launch.check(run, &mut tell).unwrap().run(&mut tell).unwrap() else {
        panic!("nobody asked to stop")
    };
    (fs::read(file).unwrap(), told)
}

/// The largest difference of two files of weights.
pub(crate) fn apart(one: &[u8], other: &[u8]) -> f32 {
    let [one, other] = [one, other].map(|file| SafeTensors::deserialize(file).unwrap());
    let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    let of = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let (a, b) = (numbers(tensor.data()), numbers(other.tensor(&name).unwrap().data()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    one.tensors().into_iter().map(of).fold(0.0, f32::max)
}

/// Encodes captioned images into a folder: latents, and embeddings of the captions.
pub(crate) fn encode(
    photographs: &Path,
    autoencoder: &Path,
    to: &Path,
    precision: StoragePrecision,
    options: &source::Options,
) {
    let device = Device::flex();
    let encoder = LatentEncoder::kl(&small_autoencoder(), autoencoder, 16, &device).unwrap();
    let options = source::Options { captions: true, ..options.clone() };
    let images = source::open(&[photographs.into()], &options).unwrap();
    let masked = options.mask.is_some();
    let buckets = Some(BucketConfig { step: 4, sizes: vec![] });
    let storage = StorageConfig { precision, flipped: false, shard_examples: 4, buckets, masked };
    let writer = Writer::open(to, encoder.contents(&*images, storage)).unwrap();
    let config = EncodeConfig { batch: 3, on_broken: OnBroken::Refuse };
    let encoders = vec![|images| encoder.encode(images)];
    encode_dataset(&*images, config, writer, &AtomicBool::new(false), encoders, |_| {}).unwrap();
    let words = Words { width: 64, tokens: 8, places: false };
    PromptTable::prepare(&to.join("prompts"), images.classes(), &words, |_| Ok(())).unwrap();
}

/// Latents of four channels and half the sides.
pub(crate) fn small_autoencoder() -> KlAutoencoderConfig {
    let sizes =
        KlAutoencoderConfig { latent_channels: 4, widths: vec![8, 8], ..KlAutoencoderConfig::stable_diffusion_3() };
    KlAutoencoderConfig { depth: 1, groups: 4, ..sizes }
}

/// The file of a small autoencoder, and what a recipe says of it.
pub(crate) fn autoencoder(folder: &Path) -> String {
    let network = small_autoencoder();
    let file = folder.join("autoencoder.safetensors");
    let untrained = network.init(3, &Device::flex());
    Weights::of(&untrained, official_key).write(&file, &[]).unwrap();
    format!("autoencoder={}", json!({ "kind": "kl", "network": network, "weights": file }))
}
