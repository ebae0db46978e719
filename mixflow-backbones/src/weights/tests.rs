use std::fs;
use std::io::Seek as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use burn::tensor::{BoolStore, DType, Device, FloatDType};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::embed::LABEL_TABLE;
use crate::repa::RepaConfig;
use crate::sit::{Sit, SitConfig, official_key};

mod fit;

/// Checkpoints of `torch.save`, the part to read, and the tensors that PyTorch says it holds.
const CASES: [(&str, Option<Part>, &str); 7] = [
    ("bare.pt", None, "bare.safetensors"),
    ("bare.pt", Some(Part::Bare), "bare.safetensors"),
    ("legacy.pt", None, "legacy.safetensors"),
    ("half.pt", None, "half.safetensors"),
    ("nested.pt", None, "nested.ema.safetensors"),
    ("nested.pt", Some(Part::Ema), "nested.ema.safetensors"),
    ("nested.pt", Some(Part::Model), "nested.model.safetensors"),
];

const FILES: [&str; 6] = ["bare.pt", "legacy.pt", "half.pt", "nested.pt", "stat_numpy.pt", "half.safetensors"];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/")).join(name)
}

fn pt(name: &str) -> PathBuf {
    fixture("pt").join(name)
}

fn tiny() -> SitConfig {
    SitConfig { width: 16, depth: 2, heads: 2, hidden: 32, input_size: 4, classes: 3, ..SitConfig::small(2) }
}

fn sit(config: &SitConfig) -> Sit {
    config.init(0, &Device::default())
}

fn assert_same(a: &Weights, b: &Weights) {
    let names = |weights: &Weights| weights.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for (name, tensor) in a.iter() {
        let other = b.get(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (other.dtype(), other.shape()), "{name}");
        let (found, expected) = (tensor.data().unwrap(), other.data().unwrap());
        assert!(found.bytes()[..] == expected.bytes()[..], "{name}: bytes differ");
        assert_eq!(found.bytes().len(), tensor.byte_len(), "{name}");
    }
}

fn mismatch<M>(result: Result<M, Error>) -> Mismatch {
    match result {
        Err(Error::Mismatch(mismatch)) => *mismatch,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("loaded"),
    }
}

#[test]
fn pytorch_files_are_read_bit_exactly() {
    for (file, part, expected) in CASES {
        let found = read(&pt(file), part).unwrap();
        assert_same(&found, &Weights::read(pt(expected)).unwrap());
    }
}

#[test]
fn the_source_names_the_part_that_was_taken() {
    assert!(Weights::read(pt("nested.pt")).unwrap().source().ends_with("nested.pt, part `ema`"));
    let model = Weights::read_part(pt("nested.pt"), Part::Model).unwrap();
    assert!(model.source().ends_with("nested.pt, part `model`, names without `module.`"));
    assert_eq!(["nested.pt", "bare.pt"].map(|name| Weights::read(pt(name)).unwrap().part()), [Some("ema"), None]);
    assert!(Weights::read(pt("bare.pt")).unwrap().source().ends_with("bare.pt"));
    let error = Weights::read_part(pt("bare.pt"), Part::Ema).unwrap_err().to_string();
    assert!(error.contains("has no part ema among its entries `final_layer.linear.bias`"), "{error}");
    let error = Weights::read_part(pt("bare.safetensors"), Part::Model).unwrap_err().to_string();
    assert!(error.contains("has no part model"), "{error}");
}

/// Reads a file with all its values; whatever they are, that must not panic.
fn read_whole(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    let read = || {
        let mut weights = read(path, part)?;
        for tensor in weights.tensors.values_mut() {
            *tensor = tensor.data()?.into();
        }
        Ok(weights)
    };
    catch_unwind(read).expect("a file's content must not cause a panic")
}

fn read_bytes(bytes: &[u8], part: Option<Part>) -> Result<Weights, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    read_whole(file.path(), part)
}

#[test]
fn cut_files_are_errors_or_complete() {
    for file in FILES {
        let whole = fs::read(pt(file)).unwrap();
        let expected = Weights::read(pt(file)).unwrap();
        let cut = tempfile::NamedTempFile::new().unwrap();
        fs::write(cut.path(), &whole).unwrap();
        for length in (0..whole.len()).rev() {
            cut.as_file().set_len(length as u64).unwrap();
            if let Ok(found) = read_whole(cut.path(), None) {
                assert_same(&found, &expected);
            }
        }
    }
}

#[test]
fn flipped_bits_never_cause_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for file in FILES {
        let whole = fs::read(pt(file)).unwrap();
        let mut flipped = tempfile::NamedTempFile::new().unwrap();
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            flipped.rewind().unwrap();
            flipped.write_all(&bytes).unwrap();
            if let Ok(found) = read_whole(flipped.path(), None) {
                assert!(found.iter().map(|(_, tensor)| tensor.byte_len()).sum::<usize>() <= 4 * bytes.len());
            }
        }
    }
}

/// A zip archive checks its entries; a flip in a tensor of such a file cannot go unseen.
#[test]
fn a_flip_in_an_archived_tensor_is_seen() {
    let mut bytes = fs::read(pt("bare.pt")).unwrap();
    let value = 3e38f32.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == value).unwrap();
    bytes[at] ^= 1;
    assert!(read_bytes(&bytes, None).is_err());

    // Names and shapes come first: those of another network are reported, not the damage.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    let weights = Weights::read(file.path()).unwrap();
    assert!(!mismatch(weights.into_module(sit(&tiny()), official_key)).missing.is_empty());
}

#[test]
fn a_network_gets_no_damaged_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sit.pt");
    let weights = Weights::of(&sit(&tiny()), official_key);
    weights.write_pytorch(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let value = weights.get("x_embedder.proj.weight").unwrap().data().unwrap();
    let at = bytes.windows(16).position(|window| window == &value.bytes()[..16]).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = Weights::read(&path).unwrap().into_module(sit(&tiny()), official_key).map(drop).unwrap_err();
    assert!(error.to_string().contains("x_embedder.proj.weight"), "{error}");
}

#[test]
fn rows_and_shapes_of_a_file_are_those_of_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.safetensors");
    let values = TensorData::new((0..24u8).map(f32::from).collect::<Vec<_>>(), [6, 4]);
    Weights { tensors: [("rows".into(), values.into())].into(), ..Weights::default() }.write(&path, &[]).unwrap();
    for weights in [Weights::read(&path).unwrap(), Weights::from_safetensors(&fs::read(&path).unwrap()).unwrap()] {
        let rows = weights.get("rows").unwrap();
        assert!(rows.split_rows(4).is_none());
        let last = rows.split_rows(3).unwrap().pop().unwrap().reshaped(vec![4, 2]);
        assert_eq!(last.data().unwrap(), TensorData::new((16..24u8).map(f32::from).collect::<Vec<_>>(), [4, 2]));
        let mut halves = rows.split_rows(2).unwrap();
        halves.reverse();
        let swapped = LazyTensor::concat_rows(halves.clone()).unwrap();
        assert_eq!(swapped.shape(), [6, 4]);
        let numbers = swapped.data().unwrap().iter::<u8>().collect::<Vec<_>>();
        assert_eq!(numbers, (12..24).chain(0..12).collect::<Vec<_>>());
        assert!(LazyTensor::concat_rows(vec![halves[0].clone(), last]).is_none(), "rows of 4 and of 2");
        assert!(LazyTensor::concat_rows(vec![]).is_none());
    }
}

/// PyTorch's own reader in Burn, and ours before it, take what is written; `CASES` has every type of floats.
#[test]
fn what_is_written_for_pytorch_reads_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.pt");
    for (file, part, _) in CASES {
        let weights = read(&pt(file), part).unwrap();
        weights.write_pytorch(&path).unwrap();
        assert_same(&Weights::read(&path).unwrap(), &weights);
    }
    let odd = [
        ("scalar", TensorData::new(vec![-0.0f64], Vec::<usize>::new())),
        ("none", TensorData::new(Vec::<f32>::new(), [3, 0, 2])),
        ("whole", TensorData::new(vec![i64::MIN, 7], [2, 1])),
        ("bytes", TensorData::new(vec![0u8, 255], [2])),
        ("truth", TensorData::try_from_bytes_vec(vec![1, 0], [2], DType::Bool(BoolStore::U8)).unwrap()),
    ];
    let tensors = odd.into_iter().map(|(name, data)| (name.to_string(), data.into())).collect();
    let odd = Weights { tensors, ..Weights::default() };
    odd.write_pytorch(&path).unwrap();
    assert_same(&Weights::read(&path).unwrap(), &odd);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");

    let wide = [("wide".to_string(), TensorData::new(vec![1u64], [1]).into())].into();
    let error = Weights { tensors: wide, ..Weights::default() }.write_pytorch(&path).unwrap_err().to_string();
    assert!(error.contains("cannot hold `wide`: PyTorch has no storage of U64"), "{error}");
    assert_same(&Weights::read(&path).unwrap(), &odd);
}

fn safetensors_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn hostile_headers_are_refused() {
    let tensor = |start: u64, end: u64| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":[{start},{end}]}}"#);
    let cases = [
        ("twice", format!(r#"{{"a":{},"a":{}}}"#, tensor(0, 4), tensor(0, 4)), 4, "`a` occurs twice"),
        ("overlap", format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 4), tensor(2, 6)), 6, "damaged"),
        ("gap", format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 4), tensor(8, 12)), 12, "damaged"),
        ("out of range", format!(r#"{{"a":{}}}"#, tensor(0, 4)), 3, "claim 4 bytes, the file has 3"),
        ("left over", format!(r#"{{"a":{}}}"#, tensor(0, 4)), 5, "claim 4 bytes, the file has 5"),
        ("reversed", format!(r#"{{"a":{}}}"#, tensor(4, 0)), 4, "damaged"),
        (
            "overflow",
            r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}"#.into(),
            4,
            "damaged",
        ),
        ("unknown type", r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#.into(), 4, "damaged"),
        ("deep", "{\"a\":".to_string() + &"[".repeat(100_000), 0, "damaged"),
        ("not an object", "{".into(), 0, "damaged"),
    ];
    for (what, header, length, expected) in cases {
        let error = read_bytes(&safetensors_of(&header, &vec![0; length]), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    let mut long = safetensors_of("{}", &[]);
    long[0] = 200;
    let error = read_bytes(&long, None).unwrap_err().to_string();
    assert!(error.contains("its header claims 200 bytes, the file has 10"), "{error}");
}

/// All there are, as PyTorch widens them.
#[test]
fn every_number_of_eight_bits_is_exact() {
    let weights = Weights::read(pt("float8.safetensors")).unwrap();
    for name in ["e4m3", "e5m2"] {
        let found = weights.get(name).unwrap();
        assert_eq!((found.dtype(), found.byte_len()), (DType::F16, 512));
        let wide = weights.get(&format!("{name}.wide")).unwrap().data().unwrap();
        for (bits, (found, expected)) in found.data().unwrap().iter::<f32>().zip(wide.iter::<f32>()).enumerate() {
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{name} {bits:#04x}: found {found}, expected {expected}");
        }
    }
}

#[test]
fn a_tensor_of_an_unknown_type_harms_its_own_network_alone() {
    let header = r#"{"a.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "b.bias":{"dtype":"F8_E8M0","shape":[4],"data_offsets":[4,8]}}"#;
    let weights = Weights::from_safetensors(&safetensors_of(header, &[0; 8])).unwrap();
    weights.clone().below("a.").check_values().unwrap();
    let error = weights.below("b.").check_values().unwrap_err().to_string();
    assert!(error.contains("holds `b.bias` as F8_E8M0, which is not supported"), "{error}");
}

#[test]
fn other_files_are_told_apart() {
    for (bytes, expected) in [
        (&b""[..], "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b"{\"error\": \"Repository not found\"}", "Repository not found"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"\x89PNG\r\n\x1a\n and so on", "neither a safetensors file nor a PyTorch checkpoint"),
    ] {
        let error = read_bytes(bytes, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Weights::read("no/such/file.pt").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/file.pt: "), "{error}");
    assert!(Weights::read(fixture("pt")).is_err(), "a folder");
}

#[test]
fn a_written_file_is_read_bit_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sit.safetensors");
    let network = sit(&tiny());
    let mut weights = Weights::of(&network, official_key);
    let mut set = |odd: [f32; 4]| {
        let bias = weights.tensors.get_mut("t_embedder.mlp.0.bias").unwrap();
        let mut data = bias.data().unwrap();
        data.as_mut_slice::<f32>().unwrap()[..4].copy_from_slice(&odd);
        *bias = data.into();
        weights.clone()
    };
    let not_finite = set([f32::NAN, -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY]);
    not_finite.write(&path, &[]).unwrap();
    assert_same(&not_finite, &Weights::read(&path).unwrap());

    let weights = set([f32::MAX, -0.0, f32::MIN_POSITIVE / 4.0, f32::MIN]);
    weights.write(&path, &[("format", "pt"), ("a", "\"quoted\"\n")]).unwrap();
    let read = Weights::read(&path).unwrap();
    assert_same(&weights, &read);
    let loaded = read.into_module(tiny().init(9, &Device::default()), official_key).unwrap();
    assert_same(&weights, &Weights::of(&loaded, official_key));

    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, weights.to_safetensors(&[("a", "\"quoted\"\n"), ("format", "pt")]).unwrap());
    ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");
}

/// The reference implementation reads mixed precisions from our files as they went in.
#[test]
fn every_precision_survives() {
    let weights = Weights::read(pt("half.pt")).unwrap();
    let bytes = weights.to_safetensors(&[]).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in weights.iter() {
        assert!(theirs.tensor(name).unwrap().data() == &tensor.data().unwrap().bytes()[..], "{name}");
    }
    assert_same(&weights, &read_bytes(&bytes, None).unwrap());
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::of(&sit(&tiny()), official_key);
    let path = folder.path().join("missing/sit.safetensors");
    let error = weights.write(&path, &[]).unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");

    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("inner")).unwrap();
    assert!(weights.write(&taken, &[]).is_err(), "the name belongs to a folder");
    assert!(taken.join("inner").is_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");
}

#[test]
fn two_writers_of_one_path_never_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let io = || Error::writing(&path);
    let written = replace(&path, |mut one| {
        one.write_all(b"one, ").map_err(io())?;
        replace(&path, |mut other| other.write_all(b"another").map_err(io()))?;
        assert_eq!(fs::read(&path).unwrap(), b"another");
        one.write_all(b"and one").map_err(io())
    });
    written.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one, and one");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");
}
