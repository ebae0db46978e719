//! Weights and configurations of published files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use mixflow::backbones::Error;
use mixflow::backbones::weights::Weights;
use mixflow_t2i::MmDitConfig;
use mixflow_t2i::mmdit::official_key;
use mixflow_tests::Fixture;
use serde_json::json;

use crate::{CASES, config, network};

/// What the fixture's network holds, under the names of `diffusers`.
fn same(fixture: &Fixture, weights: Weights) {
    let device = Device::default();
    let bytes = |weights: Weights| weights.to_safetensors(&[]).expect("in memory");
    let loaded = config(fixture).init(1, &device).load(weights).expect("the same network");
    let expected = bytes(Weights::of(&network(fixture, &device), official_key));
    assert!(bytes(Weights::of(&loaded, official_key)) == expected, "other weights came back");
}

/// The bytes of a safetensors file.
fn file(tensors: &BTreeMap<String, TensorData>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, data)| {
        let dtype = match data.dtype() {
            DType::F32 => safetensors::Dtype::F32,
            DType::F16 => safetensors::Dtype::F16,
            DType::BF16 => safetensors::Dtype::BF16,
            // Of numbers of 8 bits, which Burn does not have.
            DType::U8 => safetensors::Dtype::F8_E4M3,
            other => panic!("no test has {other:?}"),
        };
        let view = safetensors::tensor::TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        (name, view.expect("data of its shape"))
    });
    safetensors::serialize(views, None).expect("tensors can be written")
}

/// The fixture's network under the names of the Stability code, by the recorded map: diffusers' tensors one behind the
/// other, or the halves of one in the other order.
fn stability(fixture: &Fixture, prefix: &str) -> BTreeMap<String, TensorData> {
    let weights = fixture.weights("weights.");
    let mut used = BTreeSet::new();
    let map = fixture.manifest["key_map_stability"].as_object().expect("a map");
    let mut tensors = BTreeMap::new();
    for (name, sources) in map {
        let sources: Vec<&str> = sources.as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
        let (sources, swap) = match sources[..] {
            [source, "SWAP_HALVES"] => (vec![source], true),
            _ => (sources, false),
        };
        let mut values: Vec<f32> = vec![];
        let mut shape = vec![];
        for source in sources {
            let tensor = weights.get(source).unwrap_or_else(|| panic!("the network has no {source}"));
            let rows = shape.first().copied().unwrap_or(0) + tensor.shape()[0];
            shape = [&[rows], &tensor.shape()[1..]].concat();
            values.extend(tensor.data().expect("in memory").iter::<f32>());
            used.insert(source.to_string());
        }
        if swap {
            let half = values.len() / 2;
            values.rotate_left(half);
        }
        tensors.insert(format!("{prefix}{name}"), TensorData::new(values, shape));
    }
    assert_eq!(used.len(), weights.iter().len(), "the map covers the network");
    tensors
}

#[test]
fn the_stability_names_hold_the_same_network() {
    for case in CASES {
        let fixture = Fixture::read(case);
        same(&fixture, Weights::from_safetensors(&file(&stability(&fixture, ""))).expect("just written"));
        // As in the published files: with everything else that belongs to Stable Diffusion.
        let mut whole = stability(&fixture, "model.diffusion_model.");
        for other in ["first_stage_model.decoder.conv_in.bias", "text_encoders.clip_l.logit_scale"] {
            whole.insert(other.into(), TensorData::new(vec![1f32], [1]));
        }
        same(&fixture, Weights::from_safetensors(&file(&whole)).expect("just written"));
        // One beside it in 8 bits, as in `sd3_medium_incl_clips_t5xxlfp8.safetensors`.
        whole.insert("text_encoders.t5xxl.bias".into(), TensorData::new(vec![0x38u8], [1]));
        same(&fixture, Weights::from_safetensors(&file(&whole)).expect("just written"));
    }
}

/// 2⁻³ is 0x20 in E4M3: an exponent of 4, counted from −7.
#[test]
fn weights_of_eight_bits_are_those_numbers_unless_a_scale_stands_beside_them() {
    let fixture = Fixture::read(CASES[0]);
    let name = "model.diffusion_model.x_embedder.proj.weight";
    let mut tensors = stability(&fixture, "model.diffusion_model.");
    let (eighths, shape) = (tensors[name].num_elements(), tensors[name].shape().to_vec());
    tensors.insert(name.into(), TensorData::new(vec![0x20u8; eighths], shape));
    let load = |tensors: &BTreeMap<String, TensorData>| {
        let weights = Weights::from_safetensors(&file(tensors)).expect("just written");
        config(&fixture).init(1, &Device::default()).load(weights)
    };
    let loaded = Weights::of(&load(&tensors).expect("the same network"), official_key);
    let found = loaded.get("pos_embed.proj.weight").expect("it has one").data().expect("in memory");
    assert_eq!(found.iter::<f32>().collect::<Vec<_>>(), vec![0.125; eighths]);
    // By the names of diffusers, where the layer has one.
    for (other, named) in
        [("x_embedder.proj.scale_weight", "pos_embed.proj.scale_weight"), ("scaled_fp8", "scaled_fp8")]
    {
        let mut scaled = tensors.clone();
        scaled.insert(format!("model.diffusion_model.{other}"), TensorData::new(vec![1f32], [1]));
        let Err(Error::Mismatch(mismatch)) = load(&scaled) else { panic!("these are to be multiplied") };
        assert_eq!(mismatch.unused, [named]);
    }
}

#[test]
fn differences_are_named_as_diffusers_names_them() {
    let fixture = Fixture::read(CASES[1]);
    let mut tensors = stability(&fixture, "model.diffusion_model.");
    let name = |name: &str| format!("model.diffusion_model.{name}");
    tensors.remove(&name("x_embedder.proj.bias"));
    tensors.insert(name("joint_blocks.0.x_block.attn.qkv.bias"), TensorData::new(vec![1f32; 7], [7]));
    tensors.insert(name("joint_blocks.0.x_block.attn3.qkv.bias"), TensorData::new(vec![1f32; 9], [9]));
    let weights = Weights::from_safetensors(&file(&tensors)).expect("just written");
    let Err(Error::Mismatch(mismatch)) = config(&fixture).init(0, &Device::default()).load(weights) else {
        panic!("that is another network")
    };
    let attention = |part: &str| format!("transformer_blocks.0.attn.{part}.bias");
    assert_eq!(mismatch.missing, ["pos_embed.proj.bias".into(), attention("to_k"), attention("to_v")]);
    assert_eq!(mismatch.unused, ["joint_blocks.0.x_block.attn3.qkv.bias"]);
    assert_eq!(mismatch.misfits.iter().map(|misfit| &misfit.name).collect::<Vec<_>>(), [&attention("to_q")]);
}

/// As the published networks are stored: two types, two files and an index.
#[test]
fn half_precision_and_shards_are_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for case in CASES {
        let fixture = Fixture::read(case);
        let mut shards = [BTreeMap::new(), BTreeMap::new()];
        let mut map = serde_json::Map::new();
        let mut rounded = BTreeMap::new();
        for (index, (name, tensor)) in fixture.weights("weights.").iter().enumerate() {
            let data = tensor.data().expect("in memory").convert_dtype([DType::F16, DType::BF16][index % 2]);
            map.insert(name.into(), format!("model-{}.safetensors", index % 2).into());
            rounded.insert(name.to_string(), data.clone().convert::<f32>());
            shards[index % 2].insert(name.to_string(), data);
        }
        for (index, shard) in shards.iter().enumerate() {
            std::fs::write(folder.path().join(format!("model-{index}.safetensors")), file(shard)).expect("room");
        }
        let index = folder.path().join("diffusion_pytorch_model.safetensors.index.json");
        std::fs::write(&index, json!({ "metadata": {}, "weight_map": map }).to_string()).expect("room");
        let device = Device::default();
        let loaded = config(&fixture).init(0, &device).load(Weights::read(&index).expect("both are there"));
        let loaded = Weights::of(&loaded.expect("the same network"), official_key);
        let expected = Weights::from_safetensors(&file(&rounded)).expect("just written");
        assert!(loaded.to_safetensors(&[]).expect("in memory") == expected.to_safetensors(&[]).expect("in memory"));
    }
}

/// `transformer/config.json` of `stabilityai/stable-diffusion-3.5-medium`.
const MEDIUM: &str = r#"{ "_class_name": "SD3Transformer2DModel", "_diffusers_version": "0.31.0", "attention_head_dim": 64,
    "caption_projection_dim": 1536, "dual_attention_layers": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    "in_channels": 16, "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 24, "out_channels": 16,
    "patch_size": 2, "pooled_projection_dim": 2048, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
    "sample_size": 128 }"#;

fn read(text: &str) -> Result<MmDitConfig, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.json");
    std::fs::write(&file, text).expect("room");
    MmDitConfig::from_diffusers(&file)
}

#[test]
fn published_configurations_are_those_that_are_known() {
    assert_eq!(read(MEDIUM).expect("published"), MmDitConfig::stable_diffusion_3_5_medium());
    let large = MEDIUM
        .replace("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]", "[]")
        .replace("384", "192")
        .replace("1536", "2432")
        .replace("24,", "38,");
    assert_eq!(read(&large).expect("published"), MmDitConfig::stable_diffusion_3_5_large());
    // Older files lack what Stable Diffusion 3 does not have.
    let first = r#"{ "_class_name": "SD3Transformer2DModel", "caption_projection_dim": 1536, "num_attention_heads": 24,
        "num_layers": 24, "pos_embed_max_size": 192 }"#;
    assert_eq!(read(first).expect("published"), MmDitConfig::stable_diffusion_3_medium());
}

#[test]
fn other_configurations_are_refused() {
    for (text, complaint) in [
        ("{", "is no configuration of diffusers' SD3Transformer2DModel"),
        (r#"{ "model_type": "t5" }"#, "it has no `_class_name`"),
        (&MEDIUM.replace("SD3T", "FluxT"), "describes a FluxTransformer2DModel; expected SD3Transformer2DModel"),
        (&MEDIUM.replace("64", "-64"), "is no configuration"),
        (&MEDIUM.replace("rms_norm", "layer_norm"), r#"qk_norm must be null or "rms_norm", found "layer_norm""#),
        (&MEDIUM.replace("1536", "1535"), "caption_projection_dim must be 24 heads of 64, found 1535"),
        (&MEDIUM.replace(r#""out_channels": 16"#, r#""out_channels": 32"#), "out_channels must be in_channels"),
        (&MEDIUM.replace("384", "63"), "table must hold latents of input_size, 64 tokens a side, found 63"),
    ] {
        let error = read(text).expect_err(complaint).to_string();
        assert!(error.contains(complaint), "{error}");
    }
    let missing = MmDitConfig::from_diffusers(Path::new("nowhere/config.json")).expect_err("no such file");
    assert!(missing.to_string().contains("cannot read nowhere/config.json"), "{missing}");
}

#[test]
fn a_network_of_smaller_images_takes_the_middle_of_the_table() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let (whole, config) = (network(&fixture, &device), config(&fixture));
        let used = config.input_size / config.patch;
        let table = used + (config.table - used) % 2;
        let small = MmDitConfig { table, ..config.clone() }.init(1, &device);
        let small = small.load(Weights::of(&whole, official_key)).expect("the same network but for its table");
        assert_eq!(small.pos_embed.shape().dims(), [1, table * table, config.width]);
        let [channels, height, width] = config.shape();
        for [rows, columns] in [[height, width], [config.patch, width]] {
            let x = Tensor::zeros([1, channels, rows, columns], &device);
            assert_eq!(small.embed(x.clone()).into_data(), whole.embed(x).into_data());
        }
        // What it writes is a network of that table, in which no other table fits.
        let written = Weights::of(&small, official_key);
        assert!(MmDitConfig { table, ..config.clone() }.init(2, &device).load(written.clone()).is_ok());
        assert!(MmDitConfig { table: table + 2, ..config }.init(2, &device).load(written).is_err());
    }
}
