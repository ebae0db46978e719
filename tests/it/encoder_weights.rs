//! Weights of encoders, decoders and statistics: names, sizes and files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::encoder::EncoderConfig;
use mixflow_backbones::rae::{Decoder, DecoderConfig, LatentStatistics};
use mixflow_backbones::weights::{LazyTensor, Weights};
use mixflow_tests::{assert_official_names, official_names};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

#[test]
fn names_and_shapes_are_those_of_the_published_files() {
    let device = Device::default();
    for (config, name) in [
        (EncoderConfig::dinov2_base(), "hf_dinov2_with_registers_base"),
        (EncoderConfig::siglip2_base(), "hf_siglip2_base_p16_256_vision"),
        (EncoderConfig::mae_base(), "hf_vit_mae_base_encoder"),
    ] {
        let encoder = config.init(0, &device);
        assert_official_names(&encoder, encoder.official_key(), name);
    }
    let decoder = DecoderConfig::extra_large().init(0, &device);
    assert_official_names(&decoder, Decoder::official_key, "rae_decoder_vitxl");
}

/// The state dict of RAE's encoders, whose last normalisation has no numbers, nor SigLIP 2 a head: what features of patches do
/// without.
#[test]
fn what_features_do_without_may_be_missing_and_nothing_else() {
    let device = Device::default();
    let small = |config: EncoderConfig| EncoderConfig { width: 16, hidden: 32, depth: 1, heads: 2, ..config };
    let images = || Tensor::<4>::ones([1, 3, 224, 224], &device) * 0.25;
    for (config, missing, needed) in [
        (EncoderConfig::dinov2_base(), &["layernorm.", "embeddings.mask_token"][..], "embeddings.cls_token"),
        (
            EncoderConfig::siglip2_base(),
            &["vision_model.post_layernorm.", "vision_model.head."],
            "vision_model.embeddings.position_embedding.weight",
        ),
        (EncoderConfig::mae_base(), &["layernorm."], "embeddings.cls_token"),
    ] {
        let config = small(config);
        let trained = config.init(1, &device);
        let weights = trained.weights();
        let without = |names: &[&str]| -> Weights {
            let kept = weights.iter().filter(|(name, _)| !names.iter().any(|gone| name.starts_with(gone)));
            kept.map(|(name, tensor)| (format!("encoder.encoder.{name}"), tensor.clone())).collect()
        };
        assert!(without(missing).iter().len() < weights.iter().len(), "{config:?}");
        let loaded = config.init(2, &device).load(without(missing)).expect("nothing that is needed is missing");
        assert_eq!(loaded.forward(images()).into_data(), trained.forward(images()).into_data());
        let error = config.init(2, &device).load(without(&[needed])).expect_err("it is needed").to_string();
        assert!(error.contains(needed), "{error}");
        let learned = EncoderConfig { learned_norm: true, ..config };
        assert!(
            learned.init(2, &device).load(without(missing)).is_err(),
            "the numbers of its normalisation are needed"
        );
    }
}

/// `README.md` of the recorded cases: counts of the instantiated official classes, frozen tables included.
#[test]
fn parameter_counts_are_the_published_ones() {
    let device = Device::default();
    for (config, expected) in [
        (EncoderConfig::dinov2_base(), 86_583_552),
        (EncoderConfig::siglip2_base(), 92_930_304),
        (EncoderConfig::mae_base(), 85_798_656),
    ] {
        assert_eq!(config.init(0, &device).num_params(), expected, "{config:?}");
        assert_eq!(config.parameters(), expected as u64, "{config:?}");
    }
    for (config, expected) in [
        (DecoderConfig::base(), 86_435_328),
        (DecoderConfig::large(), 304_150_272),
        (DecoderConfig::extra_large(), 415_352_704),
    ] {
        assert_eq!(config.init(0, &device).num_params(), expected, "{config:?}");
        assert_eq!(config.parameters(), expected as u64, "{config:?}");
    }
}

#[test]
fn multiply_adds_are_the_published_ones() {
    // Torchvision states 17.564 G for `vit_b_16` at 224 px, with a last layer of 768 x 1000.
    let vit = EncoderConfig { input_size: 224, ..EncoderConfig::mae_base() };
    let giga = |count: u64| (count as f64 / 1e6).round() / 1e3;
    assert_eq!(giga(vit.multiply_adds() + 768 * 1000), 17.564);
    // At 256 px: 256 patches; a class token and the registers are tokens, but no patches.
    let of = |tokens: u64, pixels: u64| {
        let block = tokens * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * tokens * tokens * 768;
        12 * block + 256 * 768 * pixels
    };
    assert_eq!(EncoderConfig::mae_base().multiply_adds(), of(257, 3 * 16 * 16));
    assert_eq!(EncoderConfig::siglip2_base().multiply_adds(), of(256, 3 * 16 * 16));
    assert_eq!(EncoderConfig::dinov2_base().multiply_adds(), of(261, 3 * 14 * 14));
    assert_eq!(EncoderConfig::dinov2_base_for_repa(256).multiply_adds(), of(257, 3 * 14 * 14));
}

#[test]
fn files_of_whole_models_load_as_well() {
    let device = Device::default();
    let small = |config: EncoderConfig| EncoderConfig {
        width: 8,
        depth: 1,
        heads: 2,
        hidden: 16,
        input_size: 32,
        table_size: 32,
        patch: 8,
        ..config
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (config, list, prefix, other) in [
        (
            small(EncoderConfig::dinov2_base()),
            "hf_dinov2_with_registers_base",
            "dinov2_with_registers.",
            "classifier.weight",
        ),
        (
            small(EncoderConfig::siglip2_base()),
            "hf_siglip2_base_p16_256_vision",
            "",
            "text_model.encoder.layers.0.mlp.fc1.bias",
        ),
        (small(EncoderConfig::mae_base()), "hf_vit_mae_base_encoder", "vit.", "decoder.mask_token"),
    ] {
        let (encoder, start) = (config.init(1, &device), config.init(2, &device));
        // The names in files are those that are published, not only names that load again.
        let published = official_names(list);
        for (name, _) in encoder.weights().iter() {
            assert!(published.iter().any(|line| line.split('\t').next() == Some(name)), "{list} has no {name}");
        }
        let images = Tensor::<4>::zeros([1, 3, 32, 32], &device);
        let path = folder.path().join(format!("{:?}.safetensors", config.architecture));
        encoder.weights().write(&path, &[]).expect("the folder exists");
        let loaded = start.clone().load(Weights::read(&path).expect("just written")).expect("the same network");
        assert_eq!(loaded.forward(images.clone()).into_data(), encoder.forward(images.clone()).into_data());

        let own: BTreeMap<String, TensorData> =
            encoder.weights().iter().map(|(name, tensor)| (name.to_string(), in_memory(tensor))).collect();
        let mut whole: BTreeMap<_, _> =
            own.iter().map(|(name, data)| (format!("{prefix}{name}"), data.clone())).collect();
        whole.insert(other.into(), TensorData::new(vec![1.0f32], [1]));
        let loaded = start.clone().load(weights_of(&whole)).expect("the same network");
        assert_eq!(loaded.forward(images.clone()).into_data(), encoder.forward(images.clone()).into_data());

        // As Transformers 5 writes a vision tower that was made of a configuration.
        let flat = own.iter().map(|(name, data)| (name.trim_start_matches("vision_model.").into(), data.clone()));
        let loaded = start.clone().load(weights_of(&flat.collect())).expect("the same network");
        assert_eq!(loaded.forward(images.clone()).into_data(), encoder.forward(images).into_data());

        // What nobody has published there is another network's.
        for name in ["encoder.layer.9.unknown.weight", "vision_model.encoder.layers.9.unknown.weight", "head.weight"] {
            let mut more = own.clone();
            more.insert(name.into(), TensorData::new(vec![1.0f32], [1]));
            let error = start.clone().load(weights_of(&more)).map(drop).expect_err("another network").to_string();
            assert!(error.ends_with(&format!("1 unused: {name}")), "{list}: {error}");
        }
    }
}

/// Beside the network, published files hold what is listed here, and nothing else passes.
#[test]
fn known_tensors_of_others_are_left_out_and_unknown_ones_refused() {
    let device = Device::default();
    let one = || TensorData::new(vec![1.0f32], [1]);
    let siglip = EncoderConfig {
        width: 8,
        depth: 1,
        heads: 2,
        hidden: 16,
        input_size: 32,
        table_size: 32,
        patch: 8,
        ..EncoderConfig::siglip2_base()
    };
    let encoder = siglip.init(1, &device);
    let mut whole: BTreeMap<String, TensorData> =
        encoder.weights().iter().map(|(name, tensor)| (name.to_string(), in_memory(tensor))).collect();
    // `google/siglip2-base-patch16-256`, `SiglipModel`, and the numbers of positions of older versions.
    for name in [
        "logit_scale",
        "logit_bias",
        "text_model.embeddings.token_embedding.weight",
        "text_model.head.weight",
        "vision_model.embeddings.position_ids",
    ] {
        whole.insert(name.into(), one());
    }
    encoder.load(weights_of(&whole)).map(drop).expect("a whole SigLIP");
}

/// What `torch.hub.load("facebookresearch/dinov2", "dinov2_vitb14_reg").state_dict()` is called, at one block.
const HUB: [(&str, &str); 22] = [
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("register_tokens", "embeddings.register_tokens"),
    ("mask_token", "embeddings.mask_token"),
    ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"),
    ("patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"),
    ("blocks.0.norm1.weight", "encoder.layer.0.norm1.weight"),
    ("blocks.0.norm1.bias", "encoder.layer.0.norm1.bias"),
    ("blocks.0.attn.qkv.weight", "encoder.layer.0.attention.attention.{}.weight"),
    ("blocks.0.attn.qkv.bias", "encoder.layer.0.attention.attention.{}.bias"),
    ("blocks.0.attn.proj.weight", "encoder.layer.0.attention.output.dense.weight"),
    ("blocks.0.attn.proj.bias", "encoder.layer.0.attention.output.dense.bias"),
    ("blocks.0.ls1.gamma", "encoder.layer.0.layer_scale1.lambda1"),
    ("blocks.0.norm2.weight", "encoder.layer.0.norm2.weight"),
    ("blocks.0.norm2.bias", "encoder.layer.0.norm2.bias"),
    ("blocks.0.mlp.fc1.weight", "encoder.layer.0.mlp.fc1.weight"),
    ("blocks.0.mlp.fc1.bias", "encoder.layer.0.mlp.fc1.bias"),
    ("blocks.0.mlp.fc2.weight", "encoder.layer.0.mlp.fc2.weight"),
    ("blocks.0.mlp.fc2.bias", "encoder.layer.0.mlp.fc2.bias"),
    ("blocks.0.ls2.gamma", "encoder.layer.0.layer_scale2.lambda1"),
    ("norm.weight", "layernorm.weight"),
    ("norm.bias", "layernorm.bias"),
];

#[test]
fn both_namings_of_dinov2_load() {
    let device = Device::default();
    let config = EncoderConfig {
        width: 8,
        depth: 1,
        heads: 2,
        hidden: 16,
        input_size: 28,
        learned_norm: true,
        ..EncoderConfig::dinov2_base()
    };
    let start = config.init(0, &device);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut random = |shape: &[usize]| {
        let count = shape.iter().product();
        TensorData::new((0..count).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<_>>(), shape)
    };
    let hugging_face: BTreeMap<_, _> =
        start.weights().iter().map(|(name, data)| (name.to_string(), random(data.shape()))).collect();
    let of_hub = |name: &str| {
        if !name.contains("{}") {
            return hugging_face[name].clone();
        }
        let parts = ["query", "key", "value"].map(|part| &hugging_face[&name.replace("{}", part)]);
        let numbers: Vec<f32> = parts.iter().flat_map(|part| part.iter::<f32>()).collect();
        TensorData::new(numbers, [&[24], &parts[0].shape()[1..]].concat())
    };
    let hub: BTreeMap<_, _> = HUB.iter().map(|(hub, name)| (hub.to_string(), of_hub(name))).collect();
    let images = random(&[2, 3, 28, 28]);

    let features = [&hugging_face, &hub].map(|tensors| {
        let loaded = start.clone().load(weights_of(tensors)).expect("the same network");
        loaded.forward(Tensor::from_data(images.clone(), &device)).into_data()
    });
    assert_eq!(features[0], features[1]);
    assert_ne!(start.forward(Tensor::from_data(images.clone(), &device)).into_data(), features[0]);

    let deeper = EncoderConfig { depth: 2, ..config }.init(0, &device);
    let error = deeper.load(weights_of(&hub)).expect_err("a block is missing").to_string();
    assert!(error.contains("encoder.layer.1."), "{error}");
}

fn in_memory(tensor: &LazyTensor) -> TensorData {
    tensor.data().expect("in memory")
}

/// Tensors of `f32` after a trip through a file's bytes.
fn weights_of(tensors: &BTreeMap<String, TensorData>) -> Weights {
    let views = tensors.iter().map(|(name, data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (name, view.expect("bytes of that shape"))
    });
    let bytes = safetensors::serialize(views, None).expect("named tensors");
    Weights::from_safetensors(&bytes).expect("just written")
}

#[test]
fn statistics_are_read_under_the_released_names() {
    let device = Device::default();
    let latents = Tensor::<4>::from_data([[[[1.0f32, 2.0]]], [[[3.0, -2.0]]]], &device);
    let statistics = LatentStatistics::of(latents.clone());
    assert_eq!(statistics.weights().iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["mean", "var"]);
    let bytes = statistics.weights().to_safetensors(&[]).expect("in memory");
    let start = LatentStatistics::new([1, 1, 2], &device);
    let loaded = start.load(Weights::from_safetensors(&bytes).expect("just written")).expect("the same shape");
    assert_eq!(loaded.normalise(latents.clone()).into_data(), statistics.normalise(latents).into_data());
}

/// The files hold `mean = i / 8 − 1` and `var = (i + 1) / 16`: see `make_statistics.py` beside them.
#[test]
fn statistics_are_read_from_files_of_torch() {
    let device = Device::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pt");
    for file in ["stat.pt", "stat_numpy.pt"] {
        let weights = Weights::read(folder.join(file)).unwrap_or_else(|error| panic!("{error}"));
        let start = LatentStatistics::new([2, 3, 3], &device);
        let statistics = start.load(weights).unwrap_or_else(|error| panic!("{file}: {error}"));
        let numbers = |moment: &Param<Tensor<3>>| moment.val().into_data().iter::<f32>().collect::<Vec<_>>();
        let expected = |number: fn(f32) -> f32| (0..18u8).map(|i| number(i.into())).collect::<Vec<_>>();
        assert_eq!(numbers(&statistics.mean), expected(|i| i / 8.0 - 1.0), "{file}");
        assert_eq!(numbers(&statistics.variance), expected(|i| (i + 1.0) / 16.0), "{file}");
    }
}
