//! The data of a run: what is found, and what may become of it.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::Place;

/// A recipe that learns the images of `photos` in a moment.
fn recipe(classes: usize) -> Value {
    json!({
        "name": "tiny",
        "data": { "kind": "folder", "path": "photos", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 3, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": classes
        },
        "training": { "steps": 2, "batch": 4, "checkpoint_every": 1 },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } },
    })
}

fn image(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Another one under every name.
    let seed: u32 = path.file_name().unwrap().as_encoded_bytes().iter().map(|byte| u32::from(*byte)).sum();
    let colour = |x, y| Rgb([seed * 37 + 9 * x, seed * 11 + 13 * y, seed * x * y].map(|value| value as u8));
    RgbImage::from_fn(8, 8, colour).save(path).unwrap();
}

fn place(images: &[&str]) -> Place {
    let place = Place::new();
    images.iter().for_each(|name| image(&place.path("photos").join(name)));
    let classes = fs::read_dir(place.path("photos")).unwrap().count();
    fs::write(place.path("tiny.json"), recipe(classes).to_string()).unwrap();
    place
}

/// What a command tells beside its results.
#[track_caller]
fn told(place: &Place, arguments: &[&str]) -> String {
    let output = place.call(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    told
}

const TRAIN: [&str; 4] = ["train", "tiny.json", "--out", "run"];
const MORE: [&str; 3] = ["--resume", "--set", "training.steps=3"];

#[test]
fn a_run_goes_on_with_data_that_moved_and_not_with_others() {
    let place = place(&["cat/1.png", "cat/2.png", "dog/1.png"]);
    assert!(told(&place, &TRAIN).contains("images of a folder: 3 in 2 classes (cat 2, dog 1)\n"));
    let data = place.json("run/data.json");
    assert_eq!((&data["classes"], &data["class_examples"]), (&json!(["cat", "dog"]), &json!([2, 1])));

    // Renamed, removed, another class: each is told, and nothing of the run is touched.
    let state = fs::read(place.path("run/checkpoints/step-00000002/state.json")).unwrap();
    let resume = [&TRAIN[..], &MORE].concat();
    image(&place.path("photos/cat/3.png"));
    place.refuse(&resume, &["2 of class `cat`, now 3", "data.json"]);
    fs::rename(place.path("photos/cat/1.png"), place.path("aside.png")).unwrap();
    place.refuse(&resume, &["other names"]);
    fs::rename(place.path("photos/dog"), place.path("photos/owl")).unwrap();
    place.refuse(&resume, &["gone classes: `dog`, new classes: `owl`"]);
    assert_eq!(fs::read(place.path("run/checkpoints/step-00000002/state.json")).unwrap(), state);
    assert_eq!(
        (place.json("run/data.json"), place.json("run/recipe.json")["data"]["path"].clone()),
        (data, "photos".into())
    );

    fs::rename(place.path("photos/owl"), place.path("photos/dog")).unwrap();
    fs::remove_file(place.path("photos/cat/3.png")).unwrap();
    // Another image under an old name.
    fs::write(place.path("photos/cat/1.png"), "longer than the others, or shorter").unwrap();
    place.refuse(&resume, &["the same names, but files of other sizes"]);
    fs::rename(place.path("aside.png"), place.path("photos/cat/1.png")).unwrap();
    fs::rename(place.path("photos"), place.path("pictures")).unwrap();
    place.refuse(&resume, &["photos"]);
    place.run(&[&resume[..], &["--set", "data.path=pictures", "--set", "data.on_broken=skip"]].concat());
    assert_eq!(place.json("run/recipe.json")["data"]["path"], "pictures");
    assert_eq!(fs::read_to_string(place.path("run/metrics.jsonl")).unwrap().lines().count(), 3);
    // Other options of the data change steps.
    let flipped = ["--set", "data.path=pictures", "--set", "data.flip=true"];
    place.refuse(&[&resume[..], &flipped].concat(), &["another `data.flip`"]);
}

#[test]
fn a_run_without_a_record_goes_on_where_its_data_lie() {
    let place = place(&["cat/1.png", "dog/1.png"]);
    place.run(&TRAIN);
    fs::remove_file(place.path("run/data.json")).unwrap();
    let resume = [&TRAIN[..], &MORE].concat();
    fs::rename(place.path("photos"), place.path("pictures")).unwrap();
    place.refuse(&[&resume[..], &["--set", "data.path=pictures"]].concat(), &["another `data.path`"]);
    fs::rename(place.path("pictures"), place.path("photos")).unwrap();
    place.run(&resume);
    assert_eq!(place.json("run/data.json")["examples"], 2);
}

#[test]
fn a_cut_image_is_refused_or_listed_with_its_reason() {
    let names: Vec<_> = (0..16).map(|number| format!("cat/{number:02}.png")).collect();
    let place = place(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, value) in names.iter().zip((0..).step_by(15)) {
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([value, (x * value as u32) as u8, (30 * y) as u8]));
        image.save(place.path("photos").join(name)).unwrap();
    }
    let (whole, cut) = (place.path("whole.jpg"), place.path("photos/cat/16.jpg"));
    RgbImage::from_fn(64, 64, |x, y| Rgb([4 * x as u8, 4 * y as u8, 9])).save(&whole).unwrap();
    let bytes = fs::read(whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 10]).unwrap();
    let reason = format!("16.jpg: it is cut after {} bytes", bytes.len() / 10);
    let here = ["16.jpg", "it is cut after"];

    let all = ["--set", "training.steps=5"];
    place.refuse(&[&TRAIN[..], &all].concat(), &[&here[..], &["data.on_broken"]].concat());
    place.refuse(&["eval", "--images-from", "photos", "--against", "photos"], &here);

    let skip = ["train", "tiny.json", "--out", "skipped", "--set", "data.on_broken=skip", "--set", "training.steps=5"];
    let trained = told(&place, &skip);
    assert!(trained.contains("1 image is broken and was replaced") && trained.contains(&reason), "{trained}");
    let measured = told(&place, &["eval", "skipped", "--images", "8"]);
    assert!(measured.contains("1 image is broken and was replaced") && measured.contains(&reason), "{measured}");
}

#[test]
fn training_tells_what_it_passed_over_and_shows_no_controls() {
    let place = place(&["train/1.png", "val/\u{1b}[2J.png", "loose.png"]);
    fs::write(place.path("photos/train/2.tiff"), "x").unwrap();
    fs::write(place.path("photos/val/\u{1b}[31m.bmp"), "x").unwrap();
    fs::write(place.path("tiny.json"), recipe(2).to_string()).unwrap();
    let told = told(&place, &TRAIN);
    for line in [
        "images of a folder: 2 in 2 classes (train 1, val 1)",
        "passed over 2 files (1 .bmp, 1 .tiff), which end in none of .png, .jpg, .jpeg and .webp, the first photos/train/2.tiff",
        "passed over 1 image in no class, the first photos/loose.png",
        "`train`, `val` are taken for classes and look like parts of a data set: to take one of them, name it, such as photos/train",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    fs::write(place.path("photos/val/\u{1b}[2J.png"), "no image").unwrap();
    let output = place.call(&["train", "tiny.json", "--out", "other"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("\\u{1b}[2J.png") && !told.contains('\u{1b}'), "{told}");
}

#[test]
fn measuring_on_data_that_changed_is_refused() {
    let names: Vec<_> = (0..16).map(|number| format!("{}/{number}.png", ["cat", "dog"][number % 2])).collect();
    let place = place(&names.iter().map(|name| &name[..]).collect::<Vec<_>>());
    place.run(&TRAIN);
    let eval = ["eval", "run", "--images", "8"];
    place.run(&eval);
    fs::rename(place.path("photos"), place.path("pictures")).unwrap();
    let moved = [&eval[..], &["--set", "data.path=pictures"]].concat();
    place.run(&moved);
    image(&place.path("pictures/dog/17.png"));
    for arguments in [moved, vec!["slow-flow", "run", "--set", "data.path=pictures", "--images", "8"]] {
        place.refuse(&arguments, &["not those that the run learned from, 8 of class `dog`, now 9"]);
    }
}
