//! CLIP score against Transformers.

use std::path::Path;

use burn::tensor::Device;
use mixflow::data::{RgbImage, to_planes};
use mixflow_t2i::{ClipScore, ClipScores, Error};
use mixflow_tests::{Fixture, close};
use serde_json::{Value, json};

use crate::pipeline::write_clip_vocabulary;

const NAMES: [&str; 3] = ["wide", "tall", "small"];

/// Writes the recorded CLIP as Transformers does.
fn write(folder: &Path) -> Fixture {
    let fixture = Fixture::read("text/clip_model");
    write_clip_vocabulary(folder, &json!("<|endoftext|>"));
    for (name, content) in fixture.manifest["files"].as_object().expect("files") {
        std::fs::write(folder.join(name), content.to_string()).expect("a file");
    }
    fixture.weights("weights.").write(folder.join("model.safetensors"), &[]).expect("a file");
    fixture
}

fn opened(folder: &Path) -> ClipScore {
    ClipScore::from_folder(folder, &Device::default()).expect("a whole folder")
}

fn images(fixture: &Fixture) -> Vec<RgbImage> {
    let image = |name: &str| {
        let data = fixture.data(&format!("in.{name}"));
        let [height, width, 3] = data.shape()[..] else { panic!("{name} is no image") };
        RgbImage::from_raw(width as u32, height as u32, data.bytes().to_vec()).expect("an image")
    };
    NAMES.map(image).to_vec()
}

fn texts(fixture: &Fixture) -> Vec<String> {
    fixture.manifest["texts"]
        .as_array()
        .expect("texts")
        .iter()
        .map(|text| text.as_str().expect("text").into())
        .collect()
}

#[test]
fn images_and_texts_are_what_transformers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write(folder.path());
    let (clip, tolerance) = (opened(folder.path()), fixture.tolerance(None));
    let (images, texts) = (images(&fixture), texts(&fixture));
    fixture.assert_close("out.pixel_values", clip.preprocess(&images).into_data(), tolerance);
    fixture.assert_close("out.image_embeds", clip.of_images(&images).into_data(), tolerance);
    let told: Vec<&str> = texts.iter().map(String::as_str).collect();
    fixture.assert_close("out.text_embeds", clip.of_texts(&told).expect("texts").into_data(), tolerance);

    // Image by image with its text: the diagonal of the recorded logits, before their scale.
    let pairs = images.iter().cloned().zip(texts.clone()).map(Ok::<_, Error>);
    let mut told = vec![];
    let cosines = clip.cosines(pairs, |done| told.push(done)).expect("texts");
    let scale = fixture.manifest["logit_scale"].as_f64().expect("a number");
    let logits = fixture.values("out.logits_per_image");
    let expected: Vec<f64> = [0, 4, 8].map(|place| logits[place] / scale).to_vec();
    close("cosines", &cosines, &expected, tolerance);
    assert_eq!(told, [3]);
    // More than the networks see at a time are what each is alone.
    let many = (0..40).map(|place| Ok::<_, Error>((images[place % 3].clone(), texts[place % 3].clone())));
    let many = clip.cosines(many, |_| {}).expect("texts");
    close("cosines", &many, &(0..40).map(|place| cosines[place % 3]).collect::<Vec<_>>(), tolerance);
    assert_eq!(to_planes(&images[0]).len(), 3 * 101 * 47);
}

/// `torchmetrics` has the mean of `100 cos`, or 0 if that is more, and CLIP-S the mean of `2.5 max(cos, 0)`.
#[test]
fn scores_are_those_of_torchmetrics_and_of_the_paper() {
    let found = ClipScores::of(&[0.2, 0.4, -0.3]);
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    near(found.cosine, 0.1);
    near(found.clip_score, 10.0);
    near(found.clip_s, 0.5);
    near(ClipScores::of(&[-0.3, 0.1]).clip_score, 0.0);
    // Deviation of 20, 40 and -30, over the root of three.
    near(found.standard_error.expect("three images"), 1300f64.sqrt() / 3f64.sqrt());
    assert_eq!((found.images, ClipScores::of(&[0.5]).standard_error), (3, None));
}

#[test]
fn older_and_shorter_files_are_read_and_others_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write(folder.path());
    let expected = opened(folder.path()).of_images(&images(&fixture)).into_data();
    let change = |file: &str, change: &dyn Fn(&mut Value)| {
        let mut value = fixture.manifest["files"][file].clone();
        change(&mut value);
        std::fs::write(folder.path().join(file), value.to_string()).expect("a file");
        let found = ClipScore::from_folder(folder.path(), &Device::default());
        let found = found.map(|clip| clip.of_images(&images(&fixture)).into_data()).map_err(|error| error.to_string());
        std::fs::write(folder.path().join(file), fixture.manifest["files"][file].to_string()).expect("a file");
        found
    };
    // As versions before 4.21 wrote it; moments that are not told are those of CLIP.
    let old =
        change("preprocessor_config.json", &|value| *value = json!({ "size": 32, "crop_size": 32, "resample": 3 }));
    assert_eq!(old.expect("an old file"), expected);
    let (preprocessor, config) = ("preprocessor_config.json", "config.json");
    for (file, pointer, value, words) in [
        (
            preprocessor,
            "/resample",
            json!(2),
            "expected bicubic resizing (resample 3) of the shorter side to 32 pixels",
        ),
        (preprocessor, "/size", json!({ "shortest_edge": 40 }), "of the shorter side to 32 pixels and its centre"),
        (config, "/vision_config/patch_size", json!(7), "image_size by patch_size must be whole, found 32 by 7"),
        (config, "/vision_config/num_attention_heads", json!(0), "vision_config.num_attention_heads: expected 1 to"),
        (config, "/text_config/hidden_size", json!(17), "hidden_size: 17 is not divisible by num_attention_heads, 2"),
        (config, "/projection_dim", json!(13), "projection"),
    ] {
        let refused = change(file, &|all| *all.pointer_mut(pointer).expect("a key") = value.clone());
        let error = refused.expect_err(pointer);
        assert!(error.contains(words), "{pointer}: {error}");
    }
    let name = folder.path().join("model.safetensors");
    std::fs::remove_file(&name).expect("a file");
    let error = ClipScore::from_folder(folder.path(), &Device::default()).expect_err("no weights").to_string();
    assert!(error.contains("lacks model.safetensors") && error.contains("pytorch_model.bin"), "{error}");
}
