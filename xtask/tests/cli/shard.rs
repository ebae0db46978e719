//! Images and latents by several processes, each with a part.

use std::fs;

use mixflow::files::images::{ByteImage, ImageSource};
use serde_json::json;

use crate::Place;

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
