//! Networks of stored latents: encoded, trained, sampled and measured.

use std::fs;

use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::weights::Weights;
use serde_json::{Value, json};

use crate::Place;
use crate::encode::{encode, picture, place};

/// Twelve pictures of two classes, their latents, and the recipes of one network on either.
fn trained() -> Place {
    let place = place();
    for number in 6..12 {
        let class = ["cats", "dogs"][number as usize % 2];
        picture(number).save(place.path(format!("photos/{class}/{number}.png"))).unwrap();
    }
    encode(&place, "photos", "latents", &[]);
    let autoencoder = json!({ "kind": "kl", "network": place.json("vae.json"), "weights": "vae.safetensors" });
    let recipe = |data: Value| {
        json!({
            "name": "tiny",
            "data": data,
            "autoencoder": autoencoder,
            "network": { "kind": "sit", "input_size": 8, "patch": 4, "channels": 4, "width": 16, "depth": 1, "heads": 2,
                "hidden": 32, "classes": 2 },
            "training": { "steps": 2, "batch": 4 },
            "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 3 } },
        })
    };
    let stored = json!({ "kind": "latents", "path": "latents", "posterior": "mean" });
    let images = json!({ "kind": "folder", "path": "photos", "size": 16 });
    for (name, data) in [("stored.json", stored), ("images.json", images)] {
        fs::write(place.path(name), recipe(data).to_string()).unwrap();
    }
    place.run(&["train", "stored.json", "--out", "run"]);
    place
}

/// The numbers that a command prints, but for those with a slash or a letter in them.
fn numbers(told: &str) -> Vec<f64> {
    told.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn slow_flow_of_stored_latents_is_that_of_their_images() {
    let place = trained();
    let stored = place.run(&["slow-flow", "run", "--images", "4"]);
    let images = place.run(&["slow-flow", "run", "--images", "4", "--recipe", "images.json"]);
    let [stored, images] = [&stored, &images].map(|told| numbers(told));
    assert!(stored.len() > 12, "{stored:?}");
    assert_eq!(stored.len(), images.len());
    // Three decimals are printed, and batches of other sizes round differently.
    assert!(stored.iter().zip(&images).all(|(a, b)| (a - b).abs() < 2e-3), "{stored:?} {images:?}");
}

#[test]
fn measures_see_the_images_that_stored_latents_decode_to() {
    let place = trained();
    fs::remove_dir_all(place.path("photos")).unwrap();
    let told = place.run(&["eval", "run", "--images", "8"]);
    assert!(told.contains("the real images are decoded latents"), "{told}");
    let found = &place.json("run/eval.json")["evaluation"];
    assert_eq!((&found["decoded"], &found["measurement"]["reference_rows"]), (&json!(true), &json!(4)));
    place.refuse(&["eval", "run", "--images", "8", "--set", "autoencoder=null"], &["name the autoencoder that made"]);
}

#[test]
fn a_comparison_of_stored_latents_is_refused_with_the_way_there_is() {
    let place = Place::new();
    let paper = ["compare", "paper/sit-b-2-256", "--from", "weights.pt"];
    place.refuse(&paper, &["no post_training", "its data are latents", "measure both by `eval`"]);
    assert!(place.run(&["compare", "--help"]).contains("[default: runs/NAME-compare"));
    assert!(place.run(&["train", "--help"]).contains("[default: runs/NAME of the recipe]"));
}

#[test]
fn stored_latents_are_drawn_while_a_network_learns_them() {
    let place = trained();
    fs::remove_dir_all(place.path("photos")).unwrap();
    let set = r#"validation={"every":1,"images":8}"#;
    let train =
        ["train", "stored.json", "--out", "drawn", "--tensorboard", "--set", "sampling.precision=bf16", "--set", set];
    let told = String::from_utf8(place.call(&train).stderr).unwrap();
    assert!(told.contains("drawn/validation/step-00000002.png, ") && !told.contains("warning"), "{told}");
    place.run(&["sample", "drawn", "--count", "8", "--out", "sampled.png"]);
    let [drawn, sampled] = ["drawn/validation/step-00000002.png", "sampled.png"].map(|file| fs::read(place.path(file)));
    let drawn = drawn.unwrap();
    assert_eq!(drawn, sampled.unwrap(), "the last picture is of the weights that the run ends with");
    let events = fs::read_dir(place.path("drawn/tensorboard")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read(events).unwrap().windows(drawn.len()).any(|part| part == drawn));
    let page = fs::read_to_string(place.path("drawn/report.html")).unwrap();
    assert_eq!(page.matches("<img").count(), 2);
    assert!(page.contains("</span>tiny</th>") && page.contains("row after row: <q>cats</q>, <q>dogs</q>."), "{page}");
    place.refuse(&[&train[..], &["--resume", "--set", "autoencoder=null"]].concat(), &["autoencoder"]);
    // A run that goes on without has a page that tells so.
    place.run(&["train", "stored.json", "--out", "drawn", "--resume", "--set", "training.steps=3"]);
    let page = fs::read_to_string(place.path("drawn/report.html")).unwrap();
    assert!(page.contains("&quot;steps&quot;: 3") && !page.contains("&quot;every&quot;"), "{page}");
}

#[test]
fn training_says_what_the_latents_are_and_reads_them_once() {
    let place = trained();
    let train = |more: &[&str]| {
        let output =
            place.call(&[&["train", "stored.json", "--out", "run", "--set", "training.steps=3"], more].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = train(&["--resume"]);
    let line = told.lines().find(|line| line.starts_with("data: ")).unwrap();
    assert!(line.contains("12 images of 2 classes, 16 x 16 pixels, as latents of 4 x 8 x 8"), "{line}");
    assert!(line.contains("KL autoencoder, weights of SHA-256"), "{line}");
    assert_eq!(place.json("run/latents.json").as_object().unwrap().len(), 1);

    // One bit of a latent.
    let shard = place.path("latents/shard-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let place_of_bit = bytes.len() / 2;
    bytes[place_of_bit] ^= 1;
    fs::write(&shard, bytes).unwrap();
    place.refuse(&["train", "stored.json", "--out", "run", "--resume"], &["shard-00000", "restore it from a copy"]);
    place.refuse(&["train", "stored.json", "--out", "new"], &["shard-00000", "restore it from a copy"]);
    // What takes long is looked at last.
    let rows = ["train", "stored.json", "--out", "new", "--from", "run", "--class-rows", "nonsense"];
    place.refuse(&rows, &["--class-rows", "nonsense"]);
    assert!(!place.path("new").exists());
    place.refuse(&["slow-flow", "run", "--images", "4"], &["shard-00000"]);
}

#[test]
fn a_training_through_an_autoencoder_that_comes_to_nothing_leaves_no_folder() {
    let place = trained();
    for class in ["cats", "dogs"] {
        for image in fs::read_dir(place.path("photos").join(class)).unwrap() {
            fs::write(image.unwrap().path(), "no picture").unwrap();
        }
    }
    place.refuse(&["train", "images.json", "--out", "new"], &["expected a JPEG, PNG or WebP"]);
    assert!(!place.path("new").exists());
}

#[test]
fn latents_of_another_autoencoder_are_refused_before_training() {
    let place = trained();
    let config: KlAutoencoderConfig = serde_json::from_value(place.json("vae.json")).unwrap();
    let other = Weights::of(&config.init(5, &Default::default()), official_key);
    other.write(place.path("other.safetensors"), &[]).unwrap();
    let train = ["train", "stored.json", "--out", "new", "--set"];
    place.refuse(&[&train[..], &["autoencoder.weights=other.safetensors"]].concat(), &["made by KL", "is KL", "again"]);
    place.refuse(&[&train[..], &["autoencoder.network.scale=1.5"]].concat(), &["\"scale\":0.18215", "\"scale\":1.5"]);
    place.refuse(
        &[&train[..], &["autoencoder.network.latent_channels=16"]].concat(),
        &["latents of 16 channels", "4 x 8 x 8"],
    );
    assert!(!place.path("new").exists());
    let sample = ["sample", "run", "--out", "x.png", "--set", "autoencoder.weights=other.safetensors"];
    place.refuse(&sample, &["made by KL", "is KL"]);
    place.refuse(&["sample", "run", "--set", "autoencoder=null", "--out", "x.png"], &["the network makes latents"]);
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_made() {
    let place = trained();
    let many = "5000000000";
    let out_of_range = "5000000000 is not in 1..=10000000";
    for (arguments, words) in [
        (&["sample", "run", "--out", "x.png", "--count", many][..], out_of_range),
        (&["slow-flow", "run", "--images", many], out_of_range),
        (&["eval", "run", "--images", many], "expected 8 to 10,000,000 images"),
        (&["encode", "photos", "--to", "more", "--autoencoder", "sd", "--batch", many], out_of_range),
    ] {
        let told = String::from_utf8(place.call(arguments).stderr).unwrap();
        assert!(told.contains(words), "{told}");
    }
    place.refuse(&["sample", "run", "--count", "10000000", "--out", "x.png"], &["10000000", ".npz or a folder"]);
    let told = String::from_utf8(place.call(&["bench", "--memory", many]).stderr).unwrap();
    assert!(told.contains("5000000000 is not in 1..=1000000"), "{told}");
    // What streams takes the memory of a batch.
    place.run(&["sample", "run", "--count", "5", "--set", "sampling.batch=2", "--out", "five"]);
    place.run(&["sample", "run", "--count", "5", "--out", "five.npz"]);
    assert_eq!(fs::read_dir(place.path("five")).unwrap().count(), 5);
}

#[test]
fn encoding_a_grown_folder_adds_and_loses_nothing() {
    let place = place();
    let shards = ["--shard-size", "4"];
    encode(&place, "photos", "latents", &shards);
    let old = fs::read(place.path("latents/shard-00001.safetensors")).unwrap();
    picture(6).save(place.path("photos/cats/00.png")).unwrap();
    let told = encode(&place, "photos", "latents", &shards);
    assert!(told.contains("7 latents of 4 x 8 x 8, 1 of them new"), "{told}");
    assert_eq!(fs::read(place.path("latents/shard-00001.safetensors")).unwrap(), old);
    let told = encode(&place, "photos", "latents", &shards);
    assert!(told.contains("7 latents of 4 x 8 x 8, none of them new"), "{told}");
    fs::rename(place.path("photos/cats/2.png"), place.path("photos/cats/two.png")).unwrap();
    let again = [&["encode", "photos", "--to", "latents", "--shard-size", "4"], &crate::encode::SD[..]].concat();
    place.refuse(&again, &["hold `cats/2.png`", "put it back"]);
}
