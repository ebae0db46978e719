//! Images of trained networks.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{ClassLabels, Condition, Network};
use mixflow::data::Classes;
use mixflow::evaluation::Generator;
use mixflow::recipe::Recipe;
use mixflow::sampling::solver::SeededNoise;
use mixflow::sampling::{Export, Flow, Images};
use serde_json::{Value, json};

use crate::Place;

/// A network of three steps, the last of them to a last point.
fn recipe() -> Value {
    json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 2, "batch": 8 },
        "sampling": {
            "solver": { "kind": "stochastic-heun", "diffusion": { "kind": "sigma" } },
            "grid": { "steps": 2, "shift": 2.0, "end": 0.96, "last": 1.0 },
            "guidance": { "scale": 1.5 }
        },
    })
}

fn trained(recipe: &Value, more: &[&str]) -> Place {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
    place.run(&[&["train", "tiny.json", "--out", "run"], more].concat());
    place
}

/// As the command writes them.
fn bytes(place: &Place, images: Images) -> Vec<u8> {
    let file = place.path("expected.npz");
    Export::new(&file, 1).unwrap().write(3, 4, [Ok(images)]).unwrap();
    fs::read(file).unwrap()
}

#[test]
fn a_seed_gives_the_same_images_by_every_public_way() {
    let place = trained(&recipe(), &[]);
    place.run(&["sample", "run", "--labels", "7,1,7", "--seed", "5", "--out", "told.npz"]);
    let told = fs::read(place.path("told.npz")).unwrap();

    let file = place.path("run/recipe.json");
    let recipe = Recipe::read(file.to_str().unwrap(), &["seed=5".into()]).unwrap();
    let weights = Weights::read(place.path("run/model.safetensors")).unwrap();
    let network: Network = recipe.network.init(0, &Device::default()).load(weights).unwrap();
    let labels = [7, 1, 7];
    let generator: Generator<'_, Network> = recipe.generator(&network, &Classes(10));
    assert!(told == bytes(&place, generator.images(&labels, 0).unwrap()), "a generator makes other images");

    let device = Device::default();
    let objective = &recipe.objective;
    let flow = |labels| Flow::of(&objective.schedule, objective.prediction, &network, labels);
    let condition = ClassLabels::new(&labels, 10, &device);
    let flow = flow(condition.clone()).guided(flow(condition.null()), recipe.sampling.guidance.unwrap());
    let mut noise = SeededNoise::new(5, 0, &device);
    let start = noise.start([3, 1, 8, 8]);
    let samples = recipe.sampling.sampler.sample(&flow, start, &mut noise).unwrap();
    let pixels = samples.x.into_data().iter::<f32>().collect();
    let images = Images { pixels, shape: [3, 1, 8, 8], evaluations: samples.evaluations, ..Images::default() };
    assert!(told == bytes(&place, images), "a sampler makes other images");

    let mut pipeline = mixflow::Pipeline::from_folder(place.path("run"), &Default::default()).unwrap();
    pipeline.recipe.seed = 5;
    assert!(told == bytes(&place, pipeline.images(&labels, 0).unwrap()), "a pipeline makes other images");
}

#[test]
fn a_solver_of_another_program_is_refused_before_the_data_are_read() {
    let place = trained(&recipe(), &[]);
    let solver = r#"sampling.solver={"kind":"own","name":"mine"}"#;
    let changes = ["run", "--set", solver, "--set", r#"data={"kind":"folder","path":"nowhere","size":8}"#];
    for command in ["eval", "slow-flow"] {
        place.refuse(&[&[command], &changes[..]].concat(), &["the solver mine is another program's own"]);
    }
}

#[test]
fn steps_are_as_many_as_they_are_said_to_be() {
    let place = trained(&recipe(), &[]);
    let draw = ["sample", "run", "--count", "2", "--out", "x.npz", "--force"];
    let sample = |more: &[&str]| place.run(&[&draw[..], more].concat());
    // Two evaluations of a step and one of the last, by two networks.
    for (steps, evaluations) in [("2", 6), ("3", 10), ("6", 22)] {
        let told = sample(&["--steps", steps]);
        assert!(told.contains(&format!("\n{evaluations} network evaluations for each")), "{told}");
    }
    assert!(sample(&[]).contains("\n10 network evaluations"));
    for (steps, words) in [
        ("0", "--steps 0: `steps` must be from 2 to 100001, the step to `last` included, found 0"),
        ("1", "must be from 2 to 100001, the step to `last` included, found 1"),
    ] {
        place.refuse(&["sample", "run", "--count", "2", "--out", "y.npz", "--steps", steps], &[words]);
    }
    let many = |count: &str, words: &str| {
        place.refuse(&["sample", "run", "--out", "many.png", "--count", count], &[words]);
    };
    many("10001", "a picture shows at most 10000 images, not 10001");
    for command in ["eval", "slow-flow"] {
        place.refuse(&[command, "run", "--steps", "1"], &["the step to `last` included, found 1"]);
    }
}

#[test]
fn images_that_are_there_are_replaced_if_that_is_said() {
    let place = trained(&recipe(), &[]);
    let draw = |out: &'static str, more: &[&'static str]| {
        [&["sample", "run", "--count", "2", "--seed", "3", "--out", out], more].concat()
    };
    for out in ["x.npz", "x.png"] {
        fs::write(place.path(out), "mine").unwrap();
        place.refuse(&draw(out, &[]), &[out, "is there; --force replaces it"]);
        assert_eq!(fs::read(place.path(out)).unwrap(), b"mine");
        place.run(&draw(out, &["--force"]));
        assert_ne!(fs::read(place.path(out)).unwrap(), b"mine");
    }
    // Before the network is looked for, and not of a folder.
    place.refuse(&["sample", "nowhere", "--out", "x.npz"], &["--force"]);
    place.refuse(&["sample", "nowhere", "--out", "x.jpg"], &["found .jpg"]);
    place.refuse(&draw("run", &["--force"]), &["the folder is not empty"]);
}

fn photos(folder: &Path) {
    for number in 0..8u8 {
        let class = folder.join(["cats", "dogs"][usize::from(number % 2)]);
        fs::create_dir_all(&class).unwrap();
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8 * 30, y as u8 * 30, number * 12]));
        image.save(class.join(format!("{number}.png"))).unwrap();
    }
}

#[test]
fn classes_are_given_by_name_or_number() {
    let place = Place::new();
    photos(&place.path("photos"));
    let mut recipe = recipe();
    recipe["network"]["channels"] = 3.into();
    recipe["network"]["classes"] = 2.into();
    fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
    place.run(&["train", "tiny.json", "--out", "run", "--data", "photos"]);
    let sample = |labels: &str, out: &str| {
        place.run(&["sample", "run", "--labels", labels, "--out", out]);
        fs::read(place.path(out)).unwrap()
    };
    let numbers = sample("1,0,1", "numbers.npz");
    assert!(numbers == sample("dogs,cats,dogs", "names.npz"));
    assert!(numbers == sample("dogs, 0,1", "both.npz"));
    let refuse = |labels: &str, words: &[&str]| {
        place.refuse(&["sample", "run", "--labels", labels, "--out", "x.npz"], words);
    };
    refuse("birds", &["--labels: birds is no class; there are cats, dogs"]);
    refuse("1,,0", &["--labels 1,,0: expected classes between its commas"]);
    refuse("2", &["--labels: 2 is no class; their numbers are 0 to 1"]);

    // No network is trained with this seed.
    place.run(&["sample", "run", "--count", "1", "--seed", &u64::MAX.to_string(), "--out", "last.npz"]);
    place.refuse(&["sample", "run/recipe.json", "--out", "x.npz"], &["the recipe of a run", "name its folder, run"]);
    place.refuse(
        &["sample", "run", "--arm", "mixflow-0", "--out", "x.npz"],
        &["the run of one network", "leave out --arm"],
    );

    // Without the data, by what the run remembers of them.
    fs::rename(place.path("photos"), place.path("moved")).unwrap();
    fs::write(place.path("run/data.json"), json!({ "classes": ["cats", "dogs"] }).to_string()).unwrap();
    assert!(numbers == sample("dogs,cats,dogs", "remembered.npz"));
    fs::remove_file(place.path("run/data.json")).unwrap();
    refuse("dogs", &["--labels dogs: the names of this network's classes are known neither", "give numbers"]);
    assert!(numbers == sample("1,0,1", "again.npz"));
}
