//! Images and latents by several processes, each with a part.

use std::fs;

use mixflow::files::images::{ByteImage, ImageSource};

use crate::encode::{self, latents as latents_of};
use crate::start::recipe;
use crate::{Place, everything};

/// A network of digits that was trained for a step, which draws three images at a time.
fn trained() -> Place {
    let place = Place::new();
    let mut recipe = recipe();
    recipe["sampling"]["batch"] = 3.into();
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
    place.refuse(&sample(&["--shard", "2/5", "--out", "parts"]), &["a part of 4 in all, not of 5"]);
    let wrong = place.call(&sample(&["--shard", "5/4", "--out", "more"]));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("a part and their number, from 1/1"), "{wrong:?}");
    place.refuse(&sample(&["--shard", "1/2", "--out", "whole.npz"]), &["expected a folder"]);
    // One that was cut off is made again.
    fs::write(place.path("parts/part-00002-of-00004.npz"), "cut").unwrap();
    place.run(&second);
    assert_eq!(images(&place, "parts"), images(&place, "whole.npz"));
    let few = place.run(&["sample", "run", "--count", "2", "--shard", "1/2", "--out", "few"]);
    assert!(few.contains("part 1/2 has no images: all 2 are in fewer batches"), "{few}");
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

    place.refuse(
        &eval(&["--parts", "parts", "--set", "network.heads=1"]),
        &["another `settings.network.heads`, 2, not 1"],
    );
    place.refuse(&["eval", "--images-from", "parts", "--against", "parts"], &["for `eval --parts`"]);
    place.refuse(
        &eval(&["--parts", "parts", "--steps", "3"]),
        &["they were made with another `sampling.grid.steps`, 2, not 3"],
    );
    place.refuse(&["eval", "run", "--images", "21", "--parts", "parts"], &["another `images`, 20, not 21"]);
}

#[test]
fn parts_of_latents_are_the_latents() {
    let place = encode::place();
    for number in 6..11 {
        encode::picture(number).save(place.path(format!("photos/dogs/{number}.png"))).unwrap();
    }
    // Eleven images in files of two, and all images of the first two files broken, and one besides.
    for name in ["0a", "0b", "0c", "0d", "1b"] {
        fs::write(place.path(format!("photos/cats/{name}.png")), "broken").unwrap();
    }
    let call = |to: &'static str, more: &[&'static str]| {
        let encode = ["encode", "photos", "--to", to, "--shard-size", "2", "--on-broken", "skip", "--flip"];
        [&encode[..], &encode::SD[..], more].concat()
    };
    place.run(&call("parts", &["--shard", "3/4"]));
    for (more, words) in [
        (&["--shard", "1/3"][..], "hold part 3/4, which does not go with 1/3"),
        (&["--shard", "1/4", "--precision", "f16"], "hold part 3/4 with another `precision`"),
        (&[], "lack parts that are to be encoded yet, with --shard 1/4, 2/4, 4/4"),
    ] {
        place.refuse(&call("parts", more), &[words]);
    }
    for shard in ["2/4", "1/4", "4/4"] {
        place.run(&call("parts", &["--shard", shard]));
    }
    place.refuse(&call("parts", &["--precision", "f16"]), &["hold part 1/4 with another `precision`"]);
    let lost = place.path("parts/part-00003-of-00004/shard-00000.safetensors");
    fs::rename(&lost, place.path("lost")).unwrap();
    place.refuse(&call("parts", &[]), &["lack part-00003-of-00004/shard-00000.safetensors", "make it again"]);
    fs::rename(place.path("lost"), &lost).unwrap();
    let told = place.told(&call("parts", &[]));
    assert!(told.contains("parts holds 4 of 4 parts"), "{told}");

    place.run(&call("whole", &[]));
    let read = |folder: &str| latents_of(&place.path(folder));
    assert_eq!(read("parts"), read("whole"));
    // It is a folder as any other, which can grow; and a part that is made again is there.
    encode::picture(12).save(place.path("photos/dogs/12.png")).unwrap();
    assert!(place.run(&call("parts", &[])).contains("1 of them new"));
    assert_eq!(read("parts").len(), read("whole").len() + 1);
    place.refuse(&call("whole", &["--shard", "1/2"]), &["are finished", "without --shard"]);
    fs::remove_file(place.path("photos/dogs/12.png")).unwrap();
    assert!(place.run(&call("parts", &["--shard", "3/4"])).contains("none of them new"));
}

/// A folder that was begun without parts is not divided, and parts are not joined over it.
#[test]
fn parts_and_a_whole_keep_apart() {
    let place = encode::place();
    let call = |more: &[&'static str]| {
        [&["encode", "photos", "--to", "latents", "--shard-size", "2"], &encode::SD[..], more].concat()
    };
    place.run(&call(&[]));
    fs::rename(place.path("latents/manifest.json"), place.path("latents/partial.json")).unwrap();
    place.refuse(&call(&["--shard", "1/2"]), &["were begun without --shard"]);
    fs::create_dir(place.path("latents/part-00001-of-00002")).unwrap();
    place.refuse(&call(&[]), &["were begun without --shard, and hold part 1/2"]);
}

/// Three devices encode what one does, byte for byte.
#[test]
fn several_devices_encode_the_same_bytes() {
    let place = encode::place();
    for (to, device) in [("one", "flex"), ("three", "flex,flex,flex")] {
        encode::encode(&place, "photos", to, &["--device", device, "--batch", "1", "--flip"]);
    }
    let files = |folder| {
        let all = everything(&place.path(folder)).into_iter();
        all.map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes)).collect::<Vec<_>>()
    };
    assert_eq!(files("one"), files("three"));
}
