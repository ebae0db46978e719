//! The manifest of a folder of latents, with a shard that fits the first seed.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mixflow::data::Dataset;
use mixflow::data::latents::{
    Contents, EncodedBatch, Image, Latents, Origin, StoragePrecision, StoredFeatures, Verified, Writer,
};
use mixflow::data::source::SourceEntry;
use mixflow_fuzz::folder;

fuzz_target!(|bytes: &[u8]| {
    static LATENTS: OnceLock<PathBuf> = OnceLock::new();
    let latents = LATENTS.get_or_init(write);
    fs::write(latents.join("manifest.json"), bytes).expect("the folder is writable");
    let Ok(latents) = Latents::open(latents) else { return };
    let _ = latents.verify(&Verified::default(), |_, _| ());
    for index in 0..latents.len().unwrap_or(0).min(4) {
        let _ = (latents.example(index), latents.name(index));
    }
});

fn write() -> PathBuf {
    let origin = || Origin { name: "none".into(), sha256: String::new() };
    let contents = Contents {
        shape: [2, 2, 2],
        precision: StoragePrecision::F16,
        deviation: true,
        flipped: false,
        normalised: true,
        image_size: 4,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: vec!["a".into(), "b".into()],
        autoencoder: origin(),
        features: vec![StoredFeatures { tokens: 2, width: 3, encoder: origin() }],
        source: "none".into(),
        shard_examples: 10,
    };
    let path = folder().join("latents");
    let mut writer = Writer::open(&path, contents).expect("a new folder");
    let encoded = EncodedBatch { mean: vec![0.5; 24], deviation: Some(vec![0.1; 24]), features: vec![vec![1.0; 18]], mask: None };
    let image = |name: &str| Image { entry: SourceEntry { name: name.into(), class: 1, captions: vec![], stamp: None }, sha256: [7; 32] };
    writer.push(&["1.png", "2.png", "3.png"].map(image), &encoded, None).expect("all is valid");
    writer.finish().expect("the folder is writable");
    path
}
