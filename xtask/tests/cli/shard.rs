//! Images and latents by several processes, each with a part.

use std::fs;
use std::path::PathBuf;

use mixflow::files::images::{ByteImage, ImageSource};
use serde_json::json;

use crate::encode::{self, latents as latents_of};
use crate::{Place, everything};

/// A network of digits that was trained for a step, which draws three images at a time.
fn trained() -> Place {
    let place = Place::new();
    let recipe = json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 1, "batch": 8, "checkpoint_every": 1 },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 }, "batch": 3 },
    });
    fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
    place.run(&["train", "tiny.json", "--out", "run"]);
    place
}

fn images(place: &Place, path: &str) -> Vec<ByteImage> {
    ImageSource::open(&place.path(path)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn parts_of_samples_are_the_samples() {
    let place = trained();
    let sample = |more: &[&'static str]| [&["sample", "run", "--count", "20"], more].concat();
    place.run(&sample(&["--out", "whole.npz"]));
    // All at once, as a scheduler does, but the second.
    std::thread::scope(|scope| {
        for shard in ["3/4", "1/4", "4/4"] {
            let call = sample(&["--shard", shard, "--out", "parts"]);
            let place = &place;
            scope.spawn(move || place.run(&call));
        }
    });
    let measure = ["eval", "--images-from", "parts", "--against", "whole.npz"];
    place.refuse(&measure, &["lacks parts that are to be made yet, with --shard 2/4"]);
    let second = sample(&["--shard", "2/4", "--out", "parts"]);
    assert!(place.run(&second).contains("images 3 to 8 of 20, part 2/4"), "whole batches");
    assert_eq!(images(&place, "parts"), images(&place, "whole.npz"));
    assert!(place.run(&measure).contains("parts against whole.npz"));

    let before = fs::metadata(place.path("parts/part-00002-of-00004.npz")).unwrap().modified().unwrap();
    assert!(place.run(&second).contains("part 2/4 is there"));
    assert_eq!(fs::metadata(place.path("parts/part-00002-of-00004.npz")).unwrap().modified().unwrap(), before);
    let other = sample(&["--shard", "2/4", "--out", "parts", "--seed", "7"]);
    place.refuse(&other, &["holds parts made with another `seed`, 0, not 7"]);
    place.refuse(&sample(&["--shard", "2/5", "--out", "parts"]), &["another `parts`, 4, not 5"]);
    let wrong = place.call(&sample(&["--shard", "5/4", "--out", "more"]));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("a part and their number, from 1/1"), "{wrong:?}");
    place.refuse(&sample(&["--shard", "1/2", "--out", "whole.npz"]), &["expected a folder"]);
    let few = place.run(&["sample", "run", "--count", "2", "--shard", "1/2", "--out", "few"]);
    assert!(few.contains("part 1/2 has no images"), "{few}");
}

#[test]
fn parts_are_measured_as_all_images_are() {
    let place = trained();
    let eval = |more: &[&'static str]| [&["eval", "run", "--images", "20"], more].concat();
    place.run(&eval(&["--out", "whole.json"]));
    for shard in ["2/2", "1/2"] {
        place.refuse(&eval(&["--parts", "parts"]), &[if shard == "2/2" { "found none" } else { "--shard 1/2" }]);
        place.run(&eval(&["--parts", "parts", "--shard", shard]));
    }
    place.run(&eval(&["--parts", "parts", "--out", "parts.json"]));
    let [whole, parts] = ["whole.json", "parts.json"].map(|file| place.json(file)["evaluation"].clone());
    assert_eq!(whole, parts);

    place.refuse(&eval(&["--shard", "1/2"]), &["expected --parts too"]);
    place.refuse(
        &eval(&["--parts", "parts", "--steps", "3"]),
        &["they were made with another `sampling.grid.steps`, 2, not 3"],
    );
    place.refuse(&["eval", "run", "--images", "21", "--parts", "parts"], &["another `images`, 20, not 21"]);
}

/// Names and contents of the files of a folder of latents.
fn files(place: &Place, folder: &str) -> Vec<(String, Vec<u8>)> {
    let all = everything(&place.path(folder)).into_iter();
    let file = |(path, bytes): (PathBuf, Option<Vec<u8>>)| {
        (path.file_name().unwrap().to_str().unwrap().into(), bytes.unwrap())
    };
    all.map(file).filter(|(name, _): &(String, _)| name != ".lock").collect()
}

#[test]
fn parts_of_latents_are_the_latents() {
    let place = encode::place();
    for number in 6..11 {
        encode::picture(number).save(place.path(format!("photos/dogs/{number}.png"))).unwrap();
    }
    // Eleven images, of which one is broken, in files of two.
    fs::write(place.path("photos/cats/1b.png"), "broken").unwrap();
    let call = |to: &'static str, more: &[&'static str]| {
        [&["encode", "photos", "--to", to, "--shard-size", "2", "--on-broken", "skip", "--flip"], &encode::SD[..], more]
            .concat()
    };
    for shard in ["3/3", "1/3"] {
        place.run(&call("parts", &["--shard", shard]));
    }
    place.refuse(&call("parts", &[]), &["lack parts that are to be encoded yet, with --shard 2/3"]);
    place.refuse(&call("parts", &["--shard", "9/9"]), &["6 files of 2 (--shard-size), which is how many parts"]);
    assert!(place.run(&call("parts", &["--shard", "2/3"])).contains("latents of 4 x 8 x 8"));
    let told = place.told(&call("parts", &[]));
    assert!(told.contains("3 parts are one folder now"), "{told}");

    place.run(&call("whole", &[]));
    let read = |folder: &str| latents_of(&place.path(folder));
    assert_eq!(read("parts"), read("whole"));
    // What is joined is a folder as any other: nothing is left of the parts, and it can grow.
    assert!(files(&place, "parts").iter().all(|(name, _)| name == "manifest.json" || name.starts_with("shard-")));
    encode::picture(12).save(place.path("photos/dogs/12.png")).unwrap();
    assert!(place.run(&call("parts", &[])).contains("1 of them new"));
    place.refuse(&call("parts", &["--shard", "1/2"]), &["is finished", "without --shard"]);
}

/// Two devices encode what one does, byte for byte.
#[test]
fn several_devices_encode_the_same_bytes() {
    let place = encode::place();
    for (to, device) in [("one", "flex"), ("two", "flex,flex,flex")] {
        encode::encode(&place, "photos", to, &["--device", device, "--batch", "1", "--flip"]);
    }
    assert_eq!(files(&place, "one"), files(&place, "two"));
}

/// Interrupted between any two of its steps, joining goes on where it was.
#[test]
fn joining_survives_interruptions() {
    let place = encode::place();
    let call = |shard| {
        [&["encode", "photos", "--to", "parts", "--shard-size", "2", "--shard", shard], &encode::SD[..]].concat()
    };
    for shard in ["1/2", "2/2"] {
        place.run(&call(shard));
    }
    place.run(&[&["encode", "photos", "--to", "whole", "--shard-size", "2"], &encode::SD[..]].concat());
    let (parts, whole) = (place.path("parts"), files(&place, "whole"));
    let first = parts.join("part-00001-of-00002");
    fs::rename(first.join("shard-00000.safetensors"), parts.join("shard-00000.safetensors")).unwrap();
    assert_eq!(mixflow::data::latents::join_parts(&parts).unwrap(), 2);
    assert_eq!(files(&place, "parts"), whole);
    assert_eq!(mixflow::data::latents::join_parts(&parts).unwrap(), 0);

    // The manifest was written, one part is left; and one that is of something else.
    for shard in ["1/2", "2/2"] {
        place.run(
            &[&["encode", "photos", "--to", "again", "--shard-size", "2", "--shard", shard], &encode::SD[..]].concat(),
        );
    }
    fs::rename(place.path("again/part-00002-of-00002"), parts.join("part-00002-of-00002")).unwrap();
    assert_eq!(mixflow::data::latents::join_parts(&parts).unwrap(), 1);
    assert_eq!(files(&place, "parts"), whole);
    fs::create_dir(parts.join("part-00002-of-00002")).unwrap();
    let error = mixflow::data::latents::join_parts(&parts).unwrap_err().to_string();
    assert!(error.contains("no part of them"), "{error}");
}
