//! Latents of images that have masks and several captions.

use super::*;
use crate::data::source::Renumbered;

/// Three latents of one channel, of the places of two rows and two columns.
fn whole() -> Contents {
    let classes = ["a", "b", "c"].map(String::from).into();
    let (deviation, flipped, masked, several_captions) = (false, false, true, true);
    Contents {
        shape: [1, 2, 2],
        deviation,
        flipped,
        masked,
        several_captions,
        classes,
        features: vec![],
        shard_examples: 2,
        ..contents()
    }
}

/// The captions of each image.
const TOLD: [&[(usize, f64)]; 3] = [&[(2, 1.0), (0, 0.5)], &[(1, 1.0)], &[(0, 3.0), (1, 0.0), (2, 1.0)]];

fn mask(number: u64) -> Vec<f32> {
    vec![number as f32 / 4.0, 1.0, 0.0, 0.125]
}

fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), whole()).unwrap();
    for (number, captions) in (0..).zip(TOLD) {
        let name = format!("{number}.png");
        let entry = SourceEntry { name, class: captions[0].0, captions: captions.into(), stamp: None };
        let encoded =
            EncodedBatch { mean: vec![number as f32; 4], deviation: None, features: vec![], mask: Some(mask(number)) };
        writer.push(&[Image { entry, sha256: [0; 32] }], &encoded, None).unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
    folder
}

#[test]
fn masks_and_captions_are_read_as_they_were_written() {
    let folder = written();
    let latents = Latents::open(folder.path()).unwrap();
    latents.verify(&Verified::default(), |_, _| {}).unwrap();
    assert!(latents.masked());
    crate::testing::check_dataset(&latents);
    for (number, captions) in (0..).zip(TOLD) {
        let Example { pixels, label, mask: found, captions: told, .. } = latents.example(number).unwrap();
        assert_eq!((pixels, found), (vec![number as f32; 4], Some(mask(number))));
        assert_eq!((label, &told[..]), (captions[0].0, captions));
    }
}

/// The numbers of the captions stand before those of the latents, whose header says where.
#[test]
fn captions_that_are_damaged_are_refused() {
    let folder = written();
    let path = folder.path().join("shard-00000.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = |name: &str| {
        let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        data + header[name]["data_offsets"][0].as_u64().unwrap() as usize
    };
    for (name, number, changed, words) in [
        ("caption", 1, 3i64.to_le_bytes(), "a caption is none of 3"),
        ("caption", 0, (-1i64).to_le_bytes(), "a caption is none of 3"),
        ("caption_end", 0, 0i64.to_le_bytes(), "captions and their weights do not fit"),
        ("caption_end", 1, 2i64.to_le_bytes(), "do not fit"),
        ("caption_end", 1, i64::MAX.to_le_bytes(), "do not fit"),
        ("caption_weight", 2, 0f64.to_le_bytes(), "do not fit"),
        ("caption_weight", 0, f64::NAN.to_le_bytes(), "do not fit"),
    ] {
        let mut damaged = bytes.clone();
        damaged[start(name) + 8 * number..][..8].copy_from_slice(&changed);
        fs::write(&path, damaged).unwrap();
        let error = Latents::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("are damaged: ") && error.contains(words), "{name}: {error}");
    }
}

/// Of the same images, other captions or weights are another set.
#[test]
fn captions_that_have_changed_are_named() {
    let root = tempfile::tempdir().unwrap();
    let table = |captions: &str| {
        RgbImage::new(4, 4).save(root.path().join("1.png")).unwrap();
        fs::write(root.path().join("metadata.jsonl"), format!(r#"{{"file_name":"1.png",{captions}}}"#)).unwrap();
        Directory::captioned(root.path(), crate::data::CaptionFormat::Whole).unwrap()
    };
    let renumbered = Renumbered::new(Box::new(table(r#""text":["a","b"],"weights":[2,1]"#)), vec!["b".into()]);
    assert!(renumbered.classes() == ["b", "a"] && renumbered.several_captions());
    assert_eq!(renumbered.entries().unwrap()[0].captions, [(1, 2.0), (0, 1.0)]);

    let folder = tempfile::tempdir().unwrap();
    let encode = |source: Directory| {
        let contents = Contents { several_captions: true, classes: source.classes().into(), ..contents() };
        encode(folder.path(), contents, &source, usize::MAX).map(drop)
    };
    encode(table(r#""text":["a","b"]"#)).unwrap();
    encode(table(r#""text":["a","b"],"weights":[1,1]"#)).unwrap();
    let error = encode(table(r#""text":["a","b"],"weights":[1,2]"#)).unwrap_err().to_string();
    assert!(error.contains("hold `1.png` with other captions or weights than it has now"), "{error}");
}
