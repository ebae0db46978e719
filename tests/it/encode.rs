//! From image files through an autoencoder to shards, and from shards to trained networks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use image::{Rgb, RgbImage};
use mixflow::data::latents::{
    EncodeConfig, EncodeOutcome, Encoding, Latents, PosteriorMode, StoragePrecision, Verified, Writer, encode_dataset,
};
use mixflow::data::source::{self, Source};
use mixflow::data::{BucketConfig, Classes, Dataset, OnBroken, StorageConfig, Variation};
use mixflow::recipe::{ConfiguredObjective, Recipe};
use mixflow::train::{self, Event, Run};
use mixflow::{Batch, Error, LatentEncoder, Loss, Objective};
use mixflow_backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow_backbones::encoder::EncoderConfig;
use mixflow_backbones::rae::LatentStatistics;
use mixflow_backbones::weights::Weights;
use mixflow_backbones::{ClassLabels, Network};
use tempfile::TempDir;

const SIZE: usize = 16;
const STORAGE: StorageConfig =
    StorageConfig { precision: StoragePrecision::F32, flipped: true, shard_examples: 4, buckets: None, masked: false };

/// Latents of 4 x 8 x 8.
fn autoencoder() -> KlAutoencoderConfig {
    KlAutoencoderConfig { widths: vec![8, 16], depth: 1, groups: 4, ..KlAutoencoderConfig::stable_diffusion() }
}

/// 16 tokens of 16 numbers.
fn encoder() -> EncoderConfig {
    EncoderConfig {
        patch: 4,
        input_size: SIZE,
        table_size: SIZE,
        width: 16,
        depth: 1,
        heads: 2,
        hidden: 32,
        ..EncoderConfig::dinov2_base_for_repa(SIZE)
    }
}

/// Ten images of two classes, and files of random weights.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        for number in 0..10u32 {
            let folder = place.path("images").join(["cats", "dogs"][number as usize % 2]);
            fs::create_dir_all(&folder).expect("a new folder");
            let image = RgbImage::from_fn(20, 18, |x, y| Rgb([x * 12, y * 13, number * 25].map(|value| value as u8)));
            image.save(folder.join(format!("{number}.png"))).expect("a new file");
        }
        let device = Device::default();
        for seed in [0, 1] {
            let autoencoder = Weights::of(&autoencoder().init(seed, &device), official_key);
            autoencoder.write(place.path(&format!("vae-{seed}.safetensors")), &[]).expect("a new file");
        }
        let encoder = encoder().init(7, &device).weights();
        encoder.write(place.path("encoder.safetensors"), &[]).expect("a new file");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn source(&self) -> Box<dyn Source> {
        source::open(&[self.path("images")], &source::Options::default()).expect("a folder of images")
    }

    fn kl(&self, seed: u64) -> LatentEncoder {
        let weights = self.path(&format!("vae-{seed}.safetensors"));
        let kl = LatentEncoder::kl(&autoencoder(), &weights, SIZE, &Device::default()).expect("the weights fit");
        kl.with_features(&encoder(), &self.path("encoder.safetensors")).expect("the weights fit")
    }

    /// Encodes into a folder, and stops once so many images are read.
    fn encode(&self, encoder: &LatentEncoder, to: &str, stop_at: u64) -> Result<EncodeOutcome, Error> {
        let source = self.source();
        let writer = Writer::open(&self.path(to), encoder.contents(&*source, STORAGE))?;
        let config = EncodeConfig { batch: 3, on_broken: OnBroken::Refuse };
        let stop = AtomicBool::new(false);
        let tell = |event| {
            if let Encoding::Encoded(images) = event {
                stop.store(images >= stop_at, Ordering::Relaxed);
            }
        };
        encode_dataset(&*source, config, writer, &stop, vec![|images| encoder.encode(images)], tell)
    }

    fn latents(&self, to: &str) -> Latents {
        Latents::open(&self.path(to)).expect("finished latents")
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a readable file"))
    };
    let mut files: Vec<_> = entries.map(read).collect();
    files.sort();
    files
}

#[test]
fn a_stopped_and_continued_encode_is_byte_identical() {
    let place = Place::new();
    let encoder = place.kl(0);
    assert!(matches!(place.encode(&encoder, "whole", u64::MAX), Ok(EncodeOutcome::Finished(_))));
    let files = ["whole", "parts"].map(|to| {
        for stop_at in if to == "parts" { vec![5, 1, 8] } else { vec![] } {
            assert!(matches!(place.encode(&encoder, to, stop_at), Ok(EncodeOutcome::Interrupted)), "{stop_at}");
            assert!(!place.path(to).join("manifest.json").exists());
        }
        assert!(matches!(place.encode(&encoder, to, u64::MAX), Ok(EncodeOutcome::Finished(_))));
        files(&place.path(to))
    });
    assert_eq!(files[0].len(), 4, "three shards and a manifest");
    assert!(files[0] == files[1]);
    place.latents("parts").verify(&Verified::default(), |_, _| ()).expect("the files are as written");
}

#[test]
fn latents_and_features_are_those_of_the_networks() {
    let place = Place::new();
    place.encode(&place.kl(0), "latents", u64::MAX).expect("a new folder");
    let latents = place.latents("latents");
    let device = Device::default();
    let kl = autoencoder().init(0, &device);
    let target = encoder().init(7, &device);
    let source = place.source();
    for (index, sample) in source.samples(0).expect("readable").enumerate() {
        let pixels = sample.expect("readable").planes(SIZE).expect("a picture");
        let image = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, SIZE, SIZE]), &device);
        let found = latents.example(index as u64).expect("readable");
        let mean = mixflow_backbones::Autoencoder::encode(&kl, image.clone()).mean.into_data();
        // A batch may round differently from a single image.
        mean.assert_approx_eq::<f32>(
            &TensorData::new(found.pixels, [1, 4, 8, 8]),
            burn::tensor::Tolerance::absolute(1e-5),
        );
        let features = target.forward(image).into_data();
        features.assert_approx_eq::<f32>(
            &TensorData::new(found.features[0].clone(), [1, 16, 16]),
            burn::tensor::Tolerance::absolute(1e-5),
        );
    }
    let contents = &latents.manifest().contents;
    assert!(contents.autoencoder.name.contains("0.18215"), "{}", contents.autoencoder.name);
    assert_eq!(contents.autoencoder.sha256.len(), 64);
    assert_ne!(contents.autoencoder.sha256, contents.features[0].encoder.sha256);
}

#[test]
fn the_encoder_of_a_rae_needs_no_decoder() {
    let place = Place::new();
    let (weights, statistics) = (place.path("encoder.safetensors"), place.path("stat.safetensors"));
    LatentStatistics::new([16, 4, 4], &Device::default()).weights().write(&statistics, &[]).expect("a new file");
    let rae = LatentEncoder::rae(&encoder(), &weights, &statistics, SIZE, &Device::default()).expect("the weights fit");
    let rae = rae.with_features(&encoder(), &weights).expect("the weights fit");
    place.encode(&rae, "latents", u64::MAX).expect("a new folder");
    let latents = place.latents("latents");
    assert_eq!((latents.shape(), latents.manifest().contents.deviation), ([16, 4, 4], false));
    let example = latents.example(9).expect("readable");
    // Moments 0 and 1 leave features as they are, but for the epsilon of the variance.
    for (place, latent) in example.pixels.iter().enumerate() {
        let feature = example.features[0][place % 16 * 16 + place / 16];
        assert!((latent - feature).abs() < 1e-4, "{latent} is not {feature}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let place = Place::new();
    let weights = place.path("vae-0.safetensors");
    let refuse = |result: Result<LatentEncoder, Error>, words: &str| {
        let message = result.expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    };
    refuse(LatentEncoder::kl(&autoencoder(), &weights, 15, &Device::default()), "divisible by 2, found 15");
    refuse(LatentEncoder::kl(&autoencoder(), &place.path("nowhere.pt"), SIZE, &Device::default()), "nowhere.pt");
    refuse(
        LatentEncoder::kl(
            &KlAutoencoderConfig { image_channels: 1, ..autoencoder() },
            &weights,
            SIZE,
            &Device::default(),
        ),
        "image_channels must be 3",
    );
    refuse(
        LatentEncoder::kl(
            &KlAutoencoderConfig { latent_channels: 16, ..autoencoder() },
            &weights,
            SIZE,
            &Device::default(),
        ),
        "conv",
    );

    assert!(matches!(place.encode(&place.kl(0), "latents", 4), Ok(EncodeOutcome::Interrupted)));
    let error = place.encode(&place.kl(1), "latents", u64::MAX).expect_err("other weights").to_string();
    let hashes = ["vae-0.safetensors", "vae-1.safetensors"].map(|name| {
        let origin = mixflow::data::latents::Origin::of_file("", &place.path(name)).expect("readable");
        origin.sha256
    });
    assert!(hashes.iter().all(|hash| error.contains(hash)), "{error}");
    assert!(error.contains("another `autoencoder`"), "{error}");

    for (paths, words) in [
        (vec!["images", "vae-0.safetensors"], "one directory"),
        (vec!["nowhere"], "no such file"),
        (vec!["vae-0.safetensors"], "expected one directory"),
        (vec![], "nothing was given"),
    ] {
        let paths: Vec<_> = paths.into_iter().map(|name| place.path(name)).collect();
        let message = source::open(&paths, &source::Options::default()).expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    }
}

/// The recipe's objective, once it has seen that every latent comes with the features of its own image.
#[derive(Debug)]
struct Watched {
    objective: ConfiguredObjective,
    latents: Latents,
}

impl Objective<Network> for Watched {
    fn loss(&self, network: &Network, batch: Batch<ClassLabels>, seed: u64) -> Loss {
        let rows = |values: Vec<f32>, size: usize| values.chunks(size).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let images = rows(batch.images.to_data().iter::<f32>().collect(), 4 * 8 * 8);
        let features = rows(batch.features[0].to_data().iter::<f32>().collect(), 16 * 16);
        assert_eq!(images.len(), features.len());
        for seen in images.into_iter().zip(features) {
            let stored = (0..10).map(|index| self.latents.example(index).expect("readable"));
            assert!(stored.into_iter().any(|mut one| (one.pixels, one.features.remove(0)) == seen));
        }
        self.objective.loss(network, batch, seed)
    }
}

fn recipe(place: &Place, changes: &[&str]) -> Recipe {
    let data = serde_json::json!({ "kind": "latents", "path": place.path("latents"), "posterior": "mean" });
    let mut set = vec![format!("data={data}"), "training.steps=3".into(), "training.batch=6".into()];
    set.extend(changes.iter().map(|change| (*change).to_string()));
    set.push("post_training=null".into());
    Recipe::read("digits", &set).expect("the recipe is valid")
}

fn losses(recipe: &Recipe, folder: PathBuf, objective: &impl Objective<Network>) -> Vec<f64> {
    let run = Run {
        folder,
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: 0,
        data: recipe.open().expect("the network fits the latents"),
        conditioner: Arc::new(Classes(recipe.network.classes())),
        flip: recipe.data.flip(),
        encoder: None,
        beside: &[],
        stop: &AtomicBool::new(false),
    };
    let mut losses = vec![];
    let network = recipe.network.init(0, &Device::default());
    let outcome = run.train(network, objective, |event| {
        if let Event::Stepped(report) = event {
            losses.push(report.loss);
        }
    });
    assert!(matches!(outcome, Ok(train::Outcome::Finished(_))));
    assert!(losses.len() == 3 && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    losses
}

#[test]
fn features_that_do_not_fit_are_refused_before_training() {
    let place = Place::new();
    place.encode(&place.kl(0), "latents", u64::MAX).expect("a new folder");
    let repa = |projectors: &str, patch: usize| {
        let network = format!(
            r#"network={{"kind":"repa","input_size":8,"patch":{patch},"channels":4,"width":16,"depth":2,"heads":2,"hidden":32,"classes":2,"encoder_depth":1,"projectors":{projectors},"projector_hidden":16}}"#
        );
        recipe(&place, &[&network, "objective.alignment={}"]).open().map(drop)
    };
    repa("[16]", 2).expect("sixteen tokens of sixteen numbers");
    for (projectors, patch) in [("[17]", 2), ("[16, 16]", 2), ("[16]", 4)] {
        let error = repa(projectors, patch).expect_err("other features").to_string();
        assert!(error.contains("stored with [[16, 16]]") && error.contains("network.projectors"), "{error}");
    }
    let shape = r#"network={"kind":"sit","input_size":16,"patch":2,"channels":4,"width":16,"depth":1,"heads":2,"hidden":32,"classes":2}"#;
    let error = recipe(&place, &[shape]).open().expect_err("another size").to_string();
    assert!(error.contains("4 x 16 x 16") && error.contains("encode images of another size"), "{error}");
}

#[test]
fn networks_train_on_latents_and_are_aligned_with_stored_features() {
    let place = Place::new();
    place.encode(&place.kl(0), "latents", u64::MAX).expect("a new folder");
    let sit = r#"network={"kind":"sit","input_size":8,"patch":2,"channels":4,"width":16,"depth":1,"heads":2,"hidden":32,"classes":2}"#;
    let plain = recipe(&place, &[sit, r#"data.posterior="sample""#, "data.flip=true"]);
    losses(&plain, place.path("plain"), &plain.objective.objective());

    let repa = r#"network={"kind":"repa","input_size":8,"patch":2,"channels":4,"width":16,"depth":2,"heads":2,"hidden":32,"classes":2,"encoder_depth":1,"projectors":[16],"projector_hidden":16}"#;
    let [whole, parts] = [1, 3].map(|accumulation| {
        let change = format!("training.accumulation={accumulation}");
        let aligned = recipe(&place, &[repa, "objective.alignment={}", &change]);
        let objective = Watched { objective: aligned.objective.objective(), latents: place.latents("latents") };
        losses(&aligned, place.path(&format!("aligned-{accumulation}")), &objective)
    });
    // The order of sums differs, and the optimiser's first steps enlarge that.
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-3), "{whole:?} {parts:?}");
}

/// Stopped after any number of images, in 16 bits and with mirrored twins, and from images of several shapes.
#[test]
fn images_of_several_sizes_are_encoded_as_they_are_and_continued_byte_by_byte() {
    let place = Place::new();
    let shapes =
        [[20, 18], [64, 16], [16, 48], [20, 10], [10, 20], [40, 40], [90, 4], [33, 17], [16, 16], [17, 60], [32, 16]];
    for (number, [width, height]) in shapes.into_iter().enumerate() {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([x * 5, y * 9, x * y].map(|value| value as u8)));
        let class = place.path("shapes").join(["a", "b"][number % 2]);
        fs::create_dir_all(&class).expect("a new folder");
        image.save(class.join(format!("{number:02}.png"))).expect("a new file");
    }
    let encoder = LatentEncoder::kl(&autoencoder(), &place.path("vae-0.safetensors"), SIZE, &Device::default());
    let encoder = encoder.expect("the weights fit");
    let buckets = BucketConfig { step: 4, sizes: vec![] };
    encoder.check_buckets(&buckets).expect("a multiple of two");
    let source = source::open(&[place.path("shapes")], &source::Options::default()).expect("a folder of images");
    let encode = |to: &str, storage: StorageConfig, stop_at: u64| {
        let writer = Writer::open(&place.path(to), encoder.contents(&*source, storage))?;
        let (config, stop) = (EncodeConfig { batch: 3, on_broken: OnBroken::Refuse }, AtomicBool::new(false));
        let tell = |event| {
            if let Encoding::Encoded(images) = event {
                stop.store(images >= stop_at, Ordering::Relaxed);
            }
        };
        encode_dataset(&*source, config, writer, &stop, vec![|images| encoder.encode(images)], tell)
    };
    let storage = StorageConfig { precision: StoragePrecision::F16, buckets: Some(buckets.clone()), ..STORAGE };
    encode("whole", storage.clone(), u64::MAX).expect("there is room");
    for stop_at in [1, 5, 8, u64::MAX] {
        encode("parts", storage.clone(), stop_at).expect("there is room");
    }
    assert_eq!(files(&place.path("whole")), files(&place.path("parts")));

    // Each in the size that a folder shows in training, in its order, as the autoencoder says of that alone.
    let folder = mixflow::data::ImageFolder::open(&place.path("shapes"), SIZE, OnBroken::Refuse).expect("a folder");
    let folder = folder.with_buckets(&buckets).expect("sizes");
    let latents =
        Latents::open(&place.path("whole")).expect("finished latents").for_training(PosteriorMode::Mean, true);
    let latents = latents.expect("with twins");
    latents.verify(&Verified::default(), |_, _| {}).expect("as they were written");
    mixflow::testing::check_dataset(&folder);
    assert_eq!((latents.len(), latents.shape()), (folder.len(), [4, 8, 8]));
    assert!(folder.buckets().len() >= 4);
    let network = autoencoder().init(0, &Device::default());
    let weights = Weights::read(place.path("vae-0.safetensors")).expect("they were written");
    let network = network.load(weights).expect("the weights fit");
    for index in 0..shapes.len() as u64 {
        let shape @ [_, height, width] = folder.buckets()[folder.bucket(index)];
        assert_eq!(latents.buckets()[latents.bucket(index)], [4, height / 2, width / 2]);
        let variation = Variation { seed: 0, position: index, flip: false };
        let seen = folder.variant(index, variation).expect("an image").pixels;
        let image = Tensor::<4>::from_data(TensorData::new(seen, [1, shape[0], height, width]), &Device::default());
        let expected: Vec<f32> =
            mixflow_backbones::Autoencoder::encode(&network, image).mean.into_data().iter().collect();
        let found = latents.variant(index, variation).expect("a latent").pixels;
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Half a unit of the last of 11 bits, of numbers below 8.
        assert!(found.len() == expected.len() && apart < 0.002, "{index}: {apart}");
    }
    // Another layout is another folder's.
    for (other, words) in [
        (None, r#"another `buckets`, {"step":4}, not null"#),
        (Some(BucketConfig { step: 8, sizes: vec![] }), r#"another `buckets`, {"step":4}, not {"step":8}"#),
    ] {
        let storage = StorageConfig { buckets: other, ..storage.clone() };
        let error = Writer::open(&place.path("whole"), encoder.contents(&*source, storage)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let odd = encoder.check_buckets(&BucketConfig { step: 3, sizes: vec![] }).unwrap_err().to_string();
    assert!(odd.contains("buckets must have a step divisible by 2, found 3"), "{odd}");
    // A size that is none is damage.
    let shard = place.path("whole/shard-00000.safetensors");
    let mut bytes = fs::read(&shard).expect("a shard");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[start + 2 * 8 * 4] = 77;
    fs::write(&shard, bytes).expect("a shard");
    let error = Latents::open(&place.path("whole")).unwrap_err().to_string();
    assert!(
        error.contains("are damaged: a latent of 77 x ") && error.contains("where 8 x 8 is the largest"),
        "{error}"
    );
}
