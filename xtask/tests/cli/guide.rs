//! Autoguidance: one guide in all commands that make images.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mixflow::backbones::inception::{Inception, official_key};
use mixflow::backbones::weights::Weights;
use mixflow::files::WeightsFile;
use serde_json::{Value, json};

use crate::Place;

/// A network without a null class, which classifier-free guidance could not guide.
fn network(width: usize) -> Value {
    json!({
        "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": width, "depth": 1, "heads": 2, "hidden": 32,
        "classes": 10, "null_class": false
    })
}

fn recipe(name: &str, network: Value) -> Value {
    json!({
        "name": name,
        "data": { "kind": "digits", "size": 8 },
        "network": network,
        "objective": { "condition_dropout": 0 },
        "training": { "steps": 4, "batch": 8, "checkpoint_every": 2, "optimizer": { "average": 0.5 } },
        "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 2 } },
    })
}

/// A guide of another kind and size that was trained, and a comparison that it guides.
pub(crate) fn guided() -> Place {
    let place = Place::new();
    let weak = json!({
        "kind": "dit-dh", "input_size": 8, "channels": 1, "classes": 10, "null_class": false,
        "encoder": { "width": 16, "depth": 1, "heads": 2, "hidden": 32 },
        "head": { "width": 24, "depth": 1, "heads": 2, "hidden": 32 },
    });
    let mut strong = recipe("strong", network(24));
    strong["sampling"]["guidance"] = json!({ "scale": 3.0 });
    strong["sampling"]["guide"] = json!({ "network": weak, "weights": "weak" });
    strong["post_training"] =
        json!({ "steps": 1, "gamma": 0.8, "seeds": 1, "images": 20, "lambdas": [1.0], "solver_steps": [1] });
    for (name, recipe) in [("weak", recipe("weak", weak)), ("strong", strong)] {
        fs::write(place.path(format!("{name}.json")), recipe.to_string()).unwrap();
    }
    place.run(&["train", "weak.json", "--out", "weak"]);
    place
}

fn hash(file: &Path) -> Value {
    WeightsFile::read(file).unwrap().sha256.into()
}

#[test]
fn a_guide_serves_every_command_and_is_named_with_its_results() {
    let place = guided();
    let hash = hash(&place.path("weak/model.safetensors"));

    let told = place.run(&["train", "strong.json", "--out", "strong"]);
    assert!(told.contains("guidance 3 by a weaker network"), "{told}");
    let results = place.json("strong/results.json");
    assert_eq!(results["guide"], json!({ "file": "weak/model.safetensors", "sha256": hash }));
    // Heun's two evaluations of two steps, and of one, by two networks.
    assert_eq!(results["results"]["table"][0]["evaluations"], 8);
    assert_eq!(results["results"]["others"][0]["evaluations"], 4);
    assert!(fs::read_to_string(place.path("strong/report.html")).unwrap().contains("weak/model.safetensors"));

    place.run(&["compare", "strong.json", "--from", "strong", "--out", "again"]);
    assert_eq!(place.json("again/results.json")["guide"], results["guide"]);

    let told = place.run(&["sample", "strong", "--count", "4", "--out", "guided.npz"]);
    assert!(told.contains("8 network evaluations"), "{told}");
    let told = place.run(&["sample", "strong", "--guidance", "1", "--count", "4", "--out", "free.npz"]);
    assert!(told.contains("4 network evaluations"), "{told}");
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_ne!(bytes("guided.npz"), bytes("free.npz"));

    let told = place.run(&["eval", "strong", "--images", "20"]);
    assert!(told.contains("8 network evaluations"), "{told}");
    let evaluation = &place.json("strong/mixflow-0/eval.json")["evaluation"];
    assert_eq!(evaluation["guide"], results["guide"]);
    assert_eq!(evaluation["sampling"]["guidance"]["scale"], 3.0);
    assert_eq!(evaluation["sampling"]["guide"]["weights"], "weak");
    place.run(&["eval", "strong", "--images", "20", "--guidance", "1", "--out", "free.json"]);
    assert!(place.json("free.json")["evaluation"]["guide"].is_null());

    let [guided, free] =
        [&["slow-flow", "strong", "--images", "10"][..], &["slow-flow", "strong", "--images", "10", "--guidance", "1"]]
            .map(|arguments| place.run(arguments));
    assert_ne!(guided, free);
}

#[test]
fn a_guide_can_be_named_when_sampling() {
    let place = guided();
    place.run(&[
        "train",
        "strong.json",
        "--set",
        "sampling.guide=null",
        "--set",
        "sampling.guidance=null",
        "--set",
        "post_training=null",
        "--out",
        "plain",
    ]);
    let sample = |more: &[&str], out: &str| {
        place.run(&[&["sample", "plain", "--count", "4", "--out", out], more].concat());
        fs::read(place.path(out)).unwrap()
    };
    // The last checkpoint has the weights of the run's network.
    let by_run = sample(&["--guidance", "3", "--guide", "weak"], "a.npz");
    let by_checkpoint = sample(&["--guidance", "3", "--guide", "weak/checkpoints/step-00000004"], "b.npz");
    let earlier = sample(&["--guidance", "3", "--guide", "weak/checkpoints/step-00000002"], "c.npz");
    let by_recipe = sample(&["--recipe", "strong.json"], "d.npz");
    assert!(by_run == by_checkpoint && by_run == by_recipe, "the same guide gives the same images");
    assert_ne!(by_run, earlier);
}

#[test]
fn what_cannot_guide_is_refused() {
    let place = guided();
    place.run(&["train", "strong.json", "--set", "sampling.guidance.scale=1", "--out", "strong"]);
    let sample = ["sample", "strong", "--out", "x.png", "--count", "2", "--guidance", "2"];
    let refuse = |more: &[&str], words: &[&str]| place.refuse(&[&sample[..], more].concat(), words);
    let set = |key: &str, value: Value| format!("sampling.guide.{key}={value}");
    refuse(&["--set", &set("weights", "nowhere.pt".into())], &["sampling.guide", "nowhere.pt", "a checkpoint"]);
    refuse(&["--guide", "nowhere"], &["nowhere", "a checkpoint"]);
    refuse(&["--guide", "weak/checkpoints"], &["weak/checkpoints", "a checkpoint"]);
    fs::copy(place.path("weak/model.safetensors"), place.path("alone.safetensors")).unwrap();
    refuse(&["--guide", "alone.safetensors"], &["alone.safetensors", "no recipe.json"]);
    refuse(&["--set", &set("network.classes", 9.into())], &["knows 9 classes"]);
    refuse(&["--set", &set("network.channels", 3.into())], &["sampling.guide", "3 x 8 x 8", "1 x 8 x 8"]);
    refuse(&["--set", &set("network.encoder.depth", 2.into())], &["sampling.guide", "weak/model.safetensors"]);
    refuse(&["--set", "sampling.guide=null"], &["null_class, or sampling.guide"]);
    place.refuse(
        &["sample", "strong", "--out", "x.png", "--set", "sampling.guidance=null"],
        &["no effect without sampling.guidance"],
    );
    assert!(!place.path("x.png").exists());

    // Said before anything is trained.
    fs::rename(place.path("weak"), place.path("moved")).unwrap();
    place.refuse(&["train", "strong.json", "--out", "new"], &["sampling.guide", "weak"]);
    assert!(!place.path("new").exists());
}

/// Random weights: what counts is what is measured and what the file says.
#[test]
fn inception_measures_a_guided_network() {
    let place = guided();
    for number in 0..20u32 {
        let class = place.path("photos").join(["cats", "dogs"][number as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x * 30, y * 30, number * 12].map(|value| value as u8)));
        image.save(class.join(format!("{number}.png"))).unwrap();
    }
    let colour = |network: &str| {
        ["channels=3", "classes=2"]
            .map(|change| format!("{network}.{change}"))
            .map(|change| ["--set".to_string(), change])
    };
    let train = |name: &str, guide: &[[String; 2]]| {
        let changes = [&colour("network"), guide].concat().concat();
        let data = [&format!("{name}.json"), "--out", name, "--data", "photos", "--set", "post_training=null"];
        place.run(&[&["train"], &data[..], &changes.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    };
    fs::rename(place.path("weak"), place.path("grey")).unwrap();
    train("weak", &[]);
    train("strong", &colour("sampling.guide.network"));

    let inception = Inception::new(&Device::default());
    Weights::of(&inception, official_key).write(place.path("inception.safetensors"), &[]).unwrap();
    let told = place.run(&["eval", "strong", "--inception", "inception.safetensors", "--images", "8"]);
    assert!(told.contains("FID") && told.contains("do not compare"), "{told}");
    let found = &place.json("strong/inception.json")["inception"];

    // By two processes, in parts.
    let eval = ["eval", "strong", "--inception", "inception.safetensors", "--images", "8", "--parts", "parts"];
    for shard in ["1/2", "2/2"] {
        place.run(&[&eval[..], &["--set", "sampling.batch=3", "--shard", shard]].concat());
    }
    place.run(&[&eval[..], &["--set", "sampling.batch=3", "--out", "parts.json"]].concat());
    let parts = &place.json("parts.json")["inception"];
    assert_eq!((&parts["reference"], &parts["setting"]), (&found["reference"], &found["setting"]));
    let [one, two] = [parts, found].map(|numbers| numbers["fid"].as_f64().unwrap());
    assert!((one / two - 1.0).abs() < 1e-6, "{one} {two}");

    assert!(found["fid"].as_f64().unwrap().is_finite());
    assert_eq!((&found["generated"]["images"], &found["reference"]["images"]), (&8.into(), &20.into()));
    let (setting, weak) = (&found["setting"], place.path("weak/model.safetensors"));
    assert_eq!(setting["guide"], json!({ "file": "weak/model.safetensors", "sha256": hash(&weak) }));
    assert_eq!(setting["checkpoint"]["sha256"], hash(&place.path("strong/model.safetensors")));
    assert_eq!((&setting["evaluations"], &setting["labels"]), (&8.into(), &"reference".into()));
}
