//! CLIP score of images, wherever they and their captions are.

use std::fs;

use image::{GenericImage, Rgb, RgbImage};
use serde_json::{Value, json};

use crate::{COMMIT, Place};

/// A tiny CLIP as Transformers has it, in the folder `clip`.
fn clip(place: &Place) {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/text");
    let read = |name: &str| fs::read(format!("{fixtures}/{name}")).unwrap();
    fs::create_dir(place.path("clip")).unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(place.path("clip").join(name), bytes).unwrap();
    let recorded: Value = serde_json::from_slice(&read("clip_model.json")).unwrap();
    for (name, content) in recorded["files"].as_object().unwrap() {
        write(name, content.to_string().into_bytes());
    }
    let settings = json!({ "model_max_length": 20, "pad_token": "<|endoftext|>" });
    write("tokenizer_config.json", settings.to_string().into_bytes());
    write("tokenizer.json", read("tokenizer_clip.json"));
    // Its other tensors are no part of the network.
    write("model.safetensors", read("clip_model.safetensors"));
}

#[test]
fn images_are_measured_with_their_captions_wherever_these_are() {
    let place = Place::new();
    clip(&place);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), text).unwrap();
    };
    let prompts = ["a photo of a cat", "two foxes under the moon"];
    let image = |number: u32| {
        RgbImage::from_fn(32, 32, |x, y| {
            Rgb([7 * x + 40 * number, 5 * y, 3 * (x + y) * number].map(|value| value as u8))
        })
    };
    // Four of each, with captions beside them, and the same in turn.
    let jsonl = prompts.map(|prompt| json!({ "prompt": prompt }).to_string()).join("\n");
    write("prompts.jsonl", &jsonl);
    write("prompts.txt", &prompts.join("\n"));
    for (index, prompt) in prompts.iter().enumerate() {
        write(&format!("dpg-prompts/{index}.txt"), prompt);
        let mut square = RgbImage::new(64, 64);
        for each in 0..4 {
            let number = (4 * index + each) as u32;
            write(&format!("captioned/{number}.txt"), prompt);
            write(&format!("geneval/{index:05}/samples/{each:04}.png"), "");
            let files = [
                format!("captioned/{number}.png"),
                format!("geneval/{index:05}/samples/{each:04}.png"),
                format!("turns/{}.png", 2 * each + index),
            ];
            fs::create_dir_all(place.path("turns")).unwrap();
            files.iter().for_each(|file| image(number).save(place.path(file)).unwrap());
            square.copy_from(&image(number), (each % 2 * 32) as u32, (each / 2 * 32) as u32).unwrap();
        }
        fs::create_dir_all(place.path("dpg")).unwrap();
        square.save(place.path("dpg").join(format!("{index}.png"))).unwrap();
    }
    let measure = |images: &str, flags: &[&str]| {
        let measured = ["eval", "--images-from", images, "--clip", "clip", "--json"];
        let said = place.run(&[&measured[..], flags].concat());
        serde_json::from_str::<Value>(&said).unwrap()["clip"].clone()
    };
    let found = measure("captioned", &[]);
    assert_eq!(found["images"], 8);
    let number = |of: &Value, key: &str| of[key].as_f64().unwrap();
    assert!(number(&found, "clip_score") > 0.0 && number(&found, "standard_error") > 0.0, "{found}");
    assert!((number(&found, "cosine") * 100.0 - number(&found, "clip_score")).abs() < 1e-9, "{found}");
    // Of each image what is below zero counts as zero there.
    assert!(number(&found, "clip_s") * 40.0 > number(&found, "clip_score"), "{found}");
    for (images, flags) in [
        ("turns", &["--prompts", "prompts.txt"][..]),
        ("geneval", &["--prompts", "prompts.jsonl", "--layout", "geneval"]),
        ("dpg", &["--prompts", "dpg-prompts", "--layout", "dpg"]),
    ] {
        let other = measure(images, flags);
        for key in ["images", "cosine", "clip_score", "standard_error"] {
            assert!((number(&other, key) - number(&found, key)).abs() < 1e-4, "{images}: {other}, {found}");
        }
    }
    let said = place.run(&["eval", "--images-from", "captioned", "--clip", "clip", "--out", "clip.json"]);
    assert!(said.starts_with("CLIP score ") && said.contains("as torchmetrics"), "{said}");
    assert_eq!(place.json("clip.json")["clip"], found);

    // The numbers say what they are by.
    let by = &place.json("clip.json")["by"];
    assert_eq!((&by["weights"], by["identity"].as_str().unwrap().len()), (&json!("clip"), 64));
    // Of the Hub it is the same CLIP, told by the commit.
    let paths = crate::names(&place.path("clip")).into_iter().map(|name| (place.path("clip").join(&name), name));
    let files: Vec<_> = paths.collect();
    place.cache("clip", &files.iter().map(|(path, name)| (&**name, &**path)).collect::<Vec<_>>());
    place.run(&["eval", "--images-from", "captioned", "--clip", "hf://org/clip", "--out", "hub.json"]);
    let hub = place.json("hub.json");
    assert_eq!((&hub["clip"], &hub["by"]["identity"]), (&found, &by["identity"]));
    assert_eq!(hub["by"]["weights"], format!("hf://org/clip@{COMMIT}"));
    // What `sample` wrote down of a folder is what is read of it.
    write("dpg.json", &json!({ "each": 1 }).to_string());
    let dpg = ["--images-from", "dpg", "--clip", "clip", "--prompts", "dpg-prompts", "--layout", "dpg"];
    place.refuse(&[&["eval"][..], &dpg, &["--each", "4"]].concat(), &["--each was 1 when they were drawn, found 4"]);
    assert_eq!(measure("dpg", &dpg[4..])["images"], 2);

    // Prompts that are longer than it reads are told.
    write("long.txt", &"a photo of two foxes under the moon ".repeat(9));
    let long = place.call(&["eval", "--images-from", "turns", "--clip", "clip", "--prompts", "long.txt"]);
    let told = String::from_utf8(long.stderr).unwrap();
    assert!(long.status.success() && told.contains("1 of 1 prompt is longer than the encoders read"), "{told}");

    for (flags, words) in [
        (&["--images-from", "turns", "--clip", "clip"][..], "turns"),
        (&["--images-from", "captioned", "--clip", "captioned"], "captioned"),
        (&["--images-from", "turns", "--clip", "clip", "--prompts", "prompts.jsonl"], "prompts.jsonl holds JSON"),
        (
            &["--images-from", "turns", "--clip", "clip", "--prompts", "prompts.jsonl", "--layout", "geneval"],
            "00000/samples/0000.png",
        ),
    ] {
        place.refuse(&[&["eval"][..], flags].concat(), &[words]);
    }
    for flags in [
        &["--images-from", "captioned"][..],
        &["--images-from", "captioned", "--clip", "clip", "--against", "turns"],
        &["--clip", "clip"],
        &["--images-from", "captioned", "--clip", "clip", "--layout", "geneval"],
    ] {
        assert_eq!(place.call(&[&["eval"][..], flags].concat()).status.code(), Some(2), "{flags:?}");
    }
}
