//! Measuring, and what is said before it.

use std::fs;

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::json;

use crate::Place;

/// A recipe of a network that learns in a moment, for so many classes of `data`.
fn recipe(data: serde_json::Value, channels: usize, classes: usize) -> String {
    json!({
        "name": "tiny",
        "data": data,
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": channels, "width": 24, "depth": 1, "heads": 2,
            "hidden": 32, "classes": classes
        },
        "training": { "steps": 1, "batch": 8, "checkpoint_every": 1 },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } },
    })
    .to_string()
}

/// A folder of so many images in each class, and the recipe of a network for them.
fn photos(place: &Place, classes: &[(&str, u8)]) {
    for (name, count) in classes {
        let class = place.path("photos").join(name);
        fs::create_dir_all(&class).unwrap();
        for image in 0..*count {
            let colour = |x: u32, y: u32| Rgb([image.wrapping_mul(37), (x * 30) as u8, (y * 30) as u8]);
            RgbImage::from_fn(8, 8, colour).save(class.join(format!("{image}.png"))).unwrap();
        }
    }
    let data = json!({ "kind": "folder", "path": "photos", "size": 8 });
    fs::write(place.path("tiny.json"), recipe(data, 3, classes.len())).unwrap();
}

#[test]
fn four_images_to_train_on_are_enough_for_a_report() {
    let place = Place::new();
    photos(&place, &[("all", 14)]);
    let ten = "post_training={\"steps\":1,\"gamma\":0.8,\"seeds\":1,\"images\":10,\"lambdas\":[1.0]}";
    let output = place.call(&["train", "tiny.json", "--set", ten, "--out", "compared"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    // Three networks and the control, whose one factor is not searched.
    for part in ["real images\n  image 14/14", "sampling and measuring\n  image 40/40", "Slow Flow\n  image 40/40"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let grids = place.json("compared/results.json")["report"]["grids"].clone();
    // One row: four real images, ten generated ones.
    let width = |grid: &serde_json::Value| grid["picture"]["width"].as_u64().unwrap();
    assert!(width(&grids[0]) < width(&grids[1]), "{} and {}", grids[0]["caption"], grids[1]["caption"]);
}

#[test]
fn generated_images_have_the_classes_of_the_real_ones() {
    let place = Place::new();
    photos(&place, &[("often", 40), ("rarely", 4), ("seldom", 16)]);
    place.run(&["train", "tiny.json", "--out", "run"]);
    let told = place.run(&["eval", "run", "--images", "10"]);
    for words in ["Euler, 2 network evaluations", "classes as often as among the real images", "distances of pixels"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(told.contains("trained on the images of the floor too"), "{told}");
    let found = place.json("run/eval.json");
    assert_eq!(
        (&found["evaluation"]["labels"], &found["evaluation"]["trained_on_floor"]),
        (&json!("reference"), &json!(true))
    );
    assert!(found["device"].as_str().unwrap().starts_with("burn "), "{found}");

    let images = "post_training={\"steps\":1,\"gamma\":0.8,\"seeds\":1,\"images\":10,\"lambdas\":[1.0]}";
    let told = place.run(&["train", "tiny.json", "--set", images, "--out", "compared"]);
    assert!(told.contains("2 network evaluations per image, 10 images per arm and seed, classes as often"), "{told}");
    let told = place.run(&["figure", "compared"]);
    for panel in ["slow-flow", "slow-flow-calibrated", "dimension", "quality", "recall"] {
        assert!(told.contains(&format!("{panel}.svg")), "{told}");
        let svg = fs::read_to_string(place.path(format!("compared/figure/{panel}.svg"))).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && !svg.contains("NaN"), "{panel}");
        let csv = fs::read_to_string(place.path(format!("compared/figure/{panel}.csv"))).unwrap();
        let names = csv.lines().next().unwrap().split(',').count();
        assert!(csv.lines().count() > 2 && csv.lines().all(|line| line.split(',').count() == names), "{panel}: {csv}");
    }
    assert!(told.contains("MixFlow is not reproduced"), "one seed decides nothing: {told}");
    place.refuse(&["figure", "run"], &["results.json", "the folder of a finished comparison"]);
    let results = place.json("compared/results.json");
    assert_eq!(results["results"]["labels"], "reference");
    assert_eq!(results["report"]["table"]["labels"], "reference");
    let page = fs::read_to_string(place.path("compared/report.html")).unwrap();
    for words in ["classes as often as among the real images", "Euler, 2 network evaluations per image", "flex (CPU)"] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("KID") && !results.to_string().contains("\"kid\""));
}

#[test]
fn what_cannot_be_measured_is_said_before_an_image_is_made() {
    let place = Place::new();
    let data = json!({ "kind": "digits", "size": 8 });
    fs::write(place.path("tiny.json"), recipe(data, 1, 10)).unwrap();
    place.run(&["train", "tiny.json", "--out", "run"]);
    place.refuse(&["eval", "run", "--images", "9"], &["10 classes", "expected 10 images or more, found 9"]);
    place.refuse(
        &["eval", "run", "--images", "2000"],
        &["2000 images are held out, which must be fewer than those of the data, 1797"],
    );

    for (folder, size) in [("small", 8), ("large", 9), ("huge", 160)] {
        fs::create_dir(place.path(folder)).unwrap();
        for image in 0..8u8 {
            let image_of = GrayImage::from_fn(size, size, |x, _| Luma([image * 9 + x as u8]));
            image_of.save(place.path(folder).join(format!("{image}.png"))).unwrap();
        }
    }
    let sets = |images, real| ["eval", "--images-from", images, "--against", real];
    place.refuse(&sets("small", "large"), &["8 x 8 pixels", "9 x 9", "make them alike"]);
    // Behind the first image there is a broken one, which nobody has come to.
    fs::write(place.path("small/z.png"), "broken").unwrap();
    place.refuse(&sets("small", "large"), &["make them alike"]);
    fs::write(place.path("huge/z.png"), "broken").unwrap();
    place.refuse(&sets("huge", "huge"), &["25600 features does not fit into memory"]);
}

#[test]
fn where_the_numbers_cannot_go_is_said_before_an_image_is_made() {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe(json!({ "kind": "digits", "size": 8 }), 1, 10)).unwrap();
    place.run(&["train", "tiny.json", "--out", "run"]);
    let eval = ["eval", "run", "--images", "20"];
    place.run(&[&eval[..], &["--out", "new/folder/x.json"]].concat());
    assert_eq!(place.json("new/folder/x.json")["evaluation"]["seed"], 0);

    fs::create_dir(place.path("run/eval.json")).unwrap();
    place.refuse(&["eval", "nowhere", "--inception", "nothing.pth"], &["nothing.pth"]);
    for (more, words) in [(&[][..], "run/eval.json"), (&["--out", "tiny.json/x.json"], "tiny.json")] {
        let output = place.call(&[&eval[..], more].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(words) && !told.contains("sampling"), "{told}");
    }
}

#[test]
fn numbers_of_another_recipe_are_not_told_of_the_run() {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe(json!({ "kind": "digits", "size": 8 }), 1, 10)).unwrap();
    place.run(&["train", "tiny.json", "--out", "run"]);
    let eval = ["eval", "run", "--images", "10", "--recipe"];
    place.run(&[&eval[..], &["tiny.json"]].concat());
    assert!(!place.path("run/eval.json").exists());
    place.run(&[&eval[..], &["tiny.json", "--out", "run/eval.json"]].concat());
    assert_eq!(place.json("run/eval.json")["recipe"], "tiny.json");
    let said = place.run(&["publish", "run", "--to", "org/tiny", "--no-samples", "--json", "--dry-run"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(said["left_out"][0].as_str().unwrap().contains("measured by another recipe, tiny.json"), "{said}");
    // Its own, by name or not.
    for own in [eval[..4].to_vec(), [&eval[..], &["run/recipe.json"]].concat()] {
        place.run(&own);
        assert!(place.json("run/eval.json").get("recipe").is_none());
    }
}

#[test]
fn what_was_held_out_does_not_depend_on_the_seed_of_the_images() {
    let place = Place::new();
    photos(&place, &[("all", 40)]);
    let held_out = "post_training={\"steps\":1,\"gamma\":0.8,\"seeds\":1,\"images\":10,\"lambdas\":[1.0]}";
    place.run(&["train", "tiny.json", "--set", held_out, "--out", "compared"]);
    let measured = |seed: &str| {
        place.run(&["eval", "compared", "--images", "8", "--set", seed, "--set", "post_training=null"]);
        place.json("compared/mixflow-0/eval.json")["evaluation"].clone()
    };
    let [first, second] = ["seed=0", "seed=1"].map(measured);
    assert_eq!((&first["seed"], &second["seed"]), (&json!(0), &json!(1)));
    let of = |found: &serde_json::Value, what: &str| found["measurement"][what].clone();
    assert_ne!(of(&first, "generated"), of(&second, "generated"));
    assert_eq!(of(&first, "floor"), of(&second, "floor"));
}
