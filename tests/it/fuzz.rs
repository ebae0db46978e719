//! Damaged and hostile files: an error that says what is wrong, never a panic, and memory that the file's size backs.
//!
//! Valid files are mutated at random, from a fixed seed. `MIXFLOW_FUZZ` is the number of inputs for each of the formats
//! (default 150, a few seconds). Tried once with 60,000 for each of ten files, 600,000 in all: 5 minutes, no panic and
//! no excess.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use mixflow::backbones::weights::Weights;
use mixflow::data::latents::{
    Contents, EncodeConfig, EncodedBatch, Latents, Origin, StoragePrecision, StoredFeatures, Verified, Writer,
    encode_dataset,
};
use mixflow::data::source::{Directory, Source, WebDataset};
use mixflow::data::{Dataset, OnBroken};
use mixflow::recipe::Recipe;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::allocation::peak;

/// What reading may take beside the file: buffers, tables, messages.
const CONSTANT: usize = 4 << 20;

/// How often a file's bytes may be in memory: text, the tree parsed from it, the values.
const COPIES: usize = 64;

/// What a pickle of few bytes may copy before it is called a bomb.
const PICKLE: usize = 256 << 20;

fn inputs() -> usize {
    std::env::var("MIXFLOW_FUZZ").map_or(150, |text| text.parse().expect("MIXFLOW_FUZZ is a number"))
}

/// Mutates `whole` and hands every mutant to `read`, which may refuse it, on a bounded budget.
fn fuzz(name: &str, whole: &[u8], read: impl Fn(&[u8])) {
    let mut rng = ChaCha8Rng::seed_from_u64(whole.len() as u64);
    read(whole);
    for input in 0..inputs() {
        let mut bytes = whole.to_vec();
        for _ in 0..rng.random_range(1..=3) {
            mutate(&mut rng, &mut bytes);
        }
        let (result, held) = peak(|| catch_unwind(AssertUnwindSafe(|| read(&bytes))));
        assert!(result.is_ok(), "{name}: input {input} causes a panic");
        let allowed = CONSTANT + COPIES * bytes.len();
        assert!(held <= allowed, "{name}: input {input} of {} bytes takes {held} bytes", bytes.len());
    }
}

fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(0);
    }
    let at = rng.random_range(0..bytes.len());
    let length = rng.random_range(1..=64.min(bytes.len() - at));
    match rng.random_range(0..8) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random_range(0..=255u8),
        2 => bytes.truncate(at),
        // A length, a size or an offset that is far too large, negative or zero.
        3 => {
            let number = [0, u64::MAX, 1 << 63, 1 << 32, i64::MAX as u64, 0x7fff_ffff, bytes.len() as u64 + 1];
            let number = number[rng.random_range(0..number.len())].to_le_bytes();
            let width = [1, 2, 4, 8][rng.random_range(0..4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        // The same as text.
        4 => {
            let digits: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let at = digits[rng.random_range(0..digits.len())];
                let number: &[u8] =
                    [&b"0"[..], b"-1", b"4294967296", b"18446744073709551615", b"1e308"][rng.random_range(0..5)];
                bytes.splice(at..=at, number.iter().copied());
            }
        }
        // An entry twice, or one less.
        5 => {
            let piece = bytes[at..at + length].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        6 => drop(bytes.drain(at..at + length)),
        // Another place's bytes.
        _ => {
            let to = rng.random_range(0..=bytes.len() - length);
            bytes.copy_within(at..at + length, to);
        }
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).expect("fixtures are there")
}

#[test]
fn weights_survive_any_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weights");
    for name in ["pt/bare.pt", "pt/legacy.pt", "pt/half.pt", "pt/nested.pt", "pt/half.safetensors"] {
        fuzz(name, &fixture(name), |bytes| {
            fs::write(&path, bytes).expect("the folder is writable");
            // An error must have a text of bearable length that is not empty.
            if let Err(error) = Weights::read(&path).and_then(|weights| weights.to_safetensors(&[])) {
                assert!((10..4000).contains(&error.to_string().len()), "{error}");
            }
        });
    }
}

/// A folder with a manifest and one shard of everything that a shard can hold.
fn latents(folder: &Path) {
    let images = folder.join("images/class");
    fs::create_dir_all(&images).expect("the folder is writable");
    for name in ["a.png", "b.png", "c.png"] {
        image::RgbImage::from_pixel(4, 4, image::Rgb([9, 8, 7]))
            .save(images.join(name))
            .expect("the folder is writable");
    }
    let origin = || Origin { name: "none".into(), sha256: String::new() };
    let source = Directory::open(&folder.join("images")).expect("images are there");
    let contents = Contents {
        shape: [2, 2, 2],
        precision: StoragePrecision::F16,
        deviation: true,
        flipped: true,
        normalised: true,
        image_size: 4,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: source.classes().to_vec(),
        autoencoder: origin(),
        features: vec![StoredFeatures { tokens: 2, width: 3, encoder: origin() }],
        source: source.describe(),
        shard_examples: 10,
    };
    let writer = Writer::open(&folder.join("latents"), contents).expect("a new folder");
    let config = EncodeConfig { batch: 3, on_broken: OnBroken::Refuse };
    let encode = |_| EncodedBatch {
        mean: vec![0.5; 24],
        deviation: Some(vec![0.1; 24]),
        features: vec![vec![1.0; 18]],
        mask: None,
    };
    encode_dataset(&source, config, writer, &AtomicBool::new(false), vec![encode], |_| {}).expect("all is valid");
}

/// Reads all that can be read of a folder of latents.
fn read_latents(folder: &Path) {
    let Ok(latents) = Latents::open(folder) else { return };
    let _ = latents.verify(&Verified::default(), |_, _| ());
    for index in 0..latents.len().unwrap_or(0).min(20) {
        let _ = (latents.example(index), latents.name(index));
    }
}

#[test]
fn latents_survive_any_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    latents(folder.path());
    let folder = folder.path().join("latents");
    // A manifest of format 1 has no checksum, which would hide what is behind it.
    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("it was written");
    fs::write(manifest, text.replace("\"format\": 2", "\"format\": 1")).expect("the folder is writable");
    assert!(Latents::open(&folder).is_ok());
    for name in ["manifest.json", "shard-00000.safetensors"] {
        let path = folder.join(name);
        let whole = fs::read(&path).expect("it was written");
        let manifest = fs::read_to_string(folder.join("manifest.json")).expect("it was written");
        fuzz(name, &whole, |bytes| {
            fs::write(&path, bytes).expect("the folder is writable");
            if name != "manifest.json" {
                // As a hostile author would: the manifest knows the file's size.
                let size = |bytes: usize| format!("\"bytes\": {bytes},");
                let manifest = manifest.replace(&size(whole.len()), &size(bytes.len()));
                fs::write(folder.join("manifest.json"), manifest).expect("the folder is writable");
            }
            read_latents(&folder);
        });
        fs::write(&path, &whole).expect("the folder is writable");
    }
}

#[test]
fn recipes_survive_any_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("recipe.json");
    for name in ["digits", "shapes"] {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../mixflow/recipes/{name}.json"));
        fuzz(name, &fs::read(whole).expect("recipes are there"), |bytes| {
            fs::write(&path, bytes).expect("the folder is writable");
            let _ = Recipe::read(&path.to_string_lossy(), &[]);
        });
    }
}

#[test]
fn archives_survive_any_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("images.tar");
    let header = |name: &str, size: usize| {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    };
    let mut whole = Vec::new();
    for (name, content) in
        [("a/1.png", &[7; 600][..]), ("a/1.cls", b"1"), ("a/2.png", &[9; 5]), ("a/2.json", b"{\"label\":0}")]
    {
        whole.extend(header(name, content.len()));
        whole.extend(content);
        whole.resize(whole.len().next_multiple_of(512), 0);
    }
    whole.extend([0; 1024]);
    fs::write(&path, &whole).expect("the folder is writable");
    let open = || WebDataset::open(&[PathBuf::from(&path)], None);
    assert_eq!(open().expect("it is whole").len(), 2);
    fuzz("images.tar", &whole, |bytes| {
        fs::write(&path, bytes).expect("the folder is writable");
        let Ok(source) = open() else { return };
        source.samples(0).into_iter().flatten().for_each(|sample| drop(sample.map(|sample| sample.planes(8))));
    });
}

fn refusal(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), bytes).expect("it is writable");
    let (result, held) = peak(|| Weights::read(file.path()));
    assert!(held < PICKLE + COPIES * bytes.len(), "{} bytes take {held}", bytes.len());
    result.expect_err("hostile files are refused").to_string()
}

fn safetensors(length: u64, header: &str, data: usize) -> Vec<u8> {
    [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn hostile_safetensors_are_refused() {
    let whole = |header: &str, data| safetensors(header.len() as u64, header, data);
    let tensor = |shape: &str, range: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{range}}}"#);
    let rank = format!("[{}1]", "1,".repeat(40));
    for (bytes, expected) in [
        (safetensors(u64::MAX, "{", 0), "neither"),
        (safetensors(100_000_000, "{}", 0), "claims 100000000 bytes"),
        (whole(&format!(r#"{{"a":{},"b":{}}}"#, tensor("[2]", "[0,8]"), tensor("[2]", "[4,12]")), 12), "damaged"),
        (whole(&format!(r#"{{"a":{}}}"#, tensor("[2]", "[0,8]")), 4), "claim 8 bytes"),
        (whole(&format!(r#"{{"a":{},"a":{}}}"#, tensor("[1]", "[0,4]"), tensor("[1]", "[0,4]")), 4), "occurs twice"),
        (whole(&format!(r#"{{"a":{}}}"#, tensor("[0,9223372036854775807,9]", "[0,0]")), 0), "too large"),
        (whole(&format!(r#"{{"a":{}}}"#, tensor(&rank, "[0,4]")), 4), "41 dimensions"),
    ] {
        let problem = refusal(&bytes);
        assert!(problem.contains(expected), "{expected}: {problem}");
    }
}

/// A legacy file whose fourth pickle, that of the tensors, is this.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    bytes.extend(pickle);
    bytes.extend(b"\x80\x02].");
    bytes
}

#[test]
fn hostile_pickles_are_refused() {
    let bomb = [&b"\x80\x02]q\x00(N"[..], &b"h\x00h\x00eq\x00(".repeat(60), b"e."].concat();
    let deep = [&b"\x80\x02"[..], &b"]".repeat(200_000), b"."].concat();
    for (pickle, expected) in [
        (&b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."[..], "`os.system`"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "`posix.system`"),
        (b"\x80\x02}X\x01\x00\x00\x00acbuiltins\neval\ns.", "`builtins.eval`"),
        (b"\x80\x02\xf0.", "unknown instruction 0xf0"),
        (b"\x80\x02]q\x00h\x00a.", "no dictionary"),
        (b"\x80\x02h\x07.", "memo"),
        (&bomb, "cannot be read"),
        (&deep, "PyTorch"),
        (b"\x80\x02X\xff\xff\xff\x7f", "cut off"),
    ] {
        let problem = refusal(&legacy(pickle));
        assert!(problem.contains(expected), "{expected}: {problem}");
        // The bare pickle, without anything that tensors could be in.
        assert!(refusal(pickle).contains("neither"));
    }
}
