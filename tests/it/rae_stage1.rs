//! Pretrained encoders and RAE's first stage against the official code, on tiny networks.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::encoder::{Architecture, Encoder, EncoderConfig, Normalisation, Preprocessing};
use mixflow_backbones::rae::{Decoder, DecoderConfig, LatentStatistics, Rae, add_noise, to_planes, to_tokens};
use mixflow_backbones::resize::{Filter, resize};
use mixflow_tests::{Fixture, close};

const CASES: [&str; 3] = ["rae_stage1/rae_dinov2_reg", "rae_stage1/rae_siglip2", "rae_stage1/rae_mae_interp"];

/// The autoencoder of a fixture, with its weights.
fn autoencoder(fixture: &Fixture, device: &Device) -> Rae {
    let number = |path: &str| {
        let value = fixture.manifest["config"].pointer(path).and_then(serde_json::Value::as_u64);
        value.unwrap_or_else(|| panic!("no {path}")) as usize
    };
    let hidden = |name: &str| fixture.data(&format!("weights.encoder.{name}")).shape()[0];
    let published = match fixture.manifest["config"]["encoder_cls"].as_str().expect("encoder_cls") {
        "Dinov2withNorm" => {
            EncoderConfig { hidden: hidden("encoder.encoder.layer.0.mlp.fc1.weight"), ..EncoderConfig::dinov2_base() }
        }
        "SigLIP2wNorm" => {
            EncoderConfig { hidden: hidden("model.encoder.layers.0.mlp.fc1.weight"), ..EncoderConfig::siglip2_base() }
        }
        "MAEwNorm" => EncoderConfig {
            hidden: hidden("model.encoder.layer.0.intermediate.dense.weight"),
            ..EncoderConfig::mae_base()
        },
        other => panic!("unknown encoder {other}"),
    };
    let encoder = EncoderConfig {
        input_size: number("/encoder_input_size"),
        table_size: number("/encoder_config/image"),
        patch: number("/encoder_config/patch"),
        width: number("/encoder_config/hidden"),
        depth: number("/encoder_config/layers"),
        heads: number("/encoder_config/heads"),
        ..published
    };
    let decoder = DecoderConfig {
        features: encoder.width,
        grid: number("/decoder_num_patches").isqrt(),
        patch: number("/decoder_patch_size"),
        channels: 3,
        width: number("/decoder/decoder_hidden_size"),
        depth: number("/decoder/decoder_num_hidden_layers"),
        heads: number("/decoder/decoder_num_attention_heads"),
        hidden: number("/decoder/decoder_intermediate_size"),
    };
    let recorded = |prefix: &'static [&'static str], key: fn(&str) -> String| Recorded {
        fixture,
        prefix,
        key,
        path: vec![],
        missing: vec![],
    };
    let encoder = encoder.init(0, device);
    let mut weights = recorded(&["weights.encoder.encoder.", "weights.encoder.model."], encoder.official_key());
    let encoder = encoder.map(&mut weights);
    let unused = |name: &String| name.contains("layernorm.") || name.contains("head.");
    assert!(weights.missing.iter().all(unused), "not recorded: {:?}", weights.missing);
    let mut weights = recorded(&["weights.decoder."], Decoder::official_key);
    let decoder = decoder.init(0, device).map(&mut weights);
    assert!(weights.missing.is_empty(), "not recorded: {:?}", weights.missing);
    let shape: [usize; 3] = fixture.data("weights_stats.latent_mean").shape().to_vec().try_into().expect("three axes");
    let mut statistics = LatentStatistics::new(shape, device);
    statistics.mean = Param::from_tensor(fixture.tensor("weights_stats.latent_mean", device));
    statistics.variance = Param::from_tensor(fixture.tensor("weights_stats.latent_var", device));
    Rae { encoder, decoder, statistics }
}

struct Recorded<'a> {
    fixture: &'a Fixture,
    prefix: &'static [&'static str],
    key: fn(&str) -> String,
    path: Vec<String>,
    missing: Vec<String>,
}

impl ModuleMapper for Recorded<'_> {
    // As files do, names leave out which network an enum holds.
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.into());
        }
    }
    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // RAE's state dicts lack the prefix of SigLIP's files.
        let key = (self.key)(&self.path.join(".")).replace("vision_model.", "");
        let Some(name) = self.prefix.iter().map(|prefix| format!("{prefix}{key}")).find(|name| self.fixture.has(name))
        else {
            self.missing.push(key);
            return param;
        };
        param.map(|old| {
            let new = self.fixture.tensor::<D>(&name, &old.device());
            assert_eq!(new.dims(), old.dims(), "{name}");
            new.set_require_grad(old.is_require_grad())
        })
    }
}

/// The fixtures' images are in [0, 1], ours in [-1, 1].
fn signed(images: Tensor<4>) -> Tensor<4> {
    images * 2.0 - 1.0
}

fn unsigned(images: Tensor<4>) -> TensorData {
    ((images + 1.0) / 2.0).into_data()
}

#[test]
fn every_activation_is_the_official_one() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let Rae { encoder, decoder, statistics } = autoencoder(&fixture, &device);
        let rae = Rae { encoder: encoder.clone(), decoder: decoder.clone(), statistics };
        let mut compared = 0;
        let mut check = |name: &str, found: TensorData| {
            if fixture.has(name) {
                fixture.assert_close(name, found, fixture.tolerance(None));
                compared += 1;
            }
        };
        let images = signed(fixture.tensor::<4>("in.images", &device));
        let Preprocessing { size, normalisation } = *encoder.preprocessing();
        let resized = resize(images.clone(), [size; 2], Filter::Bicubic);
        check("out.images_resized", unsigned(resized.clone()));
        check("out.images_normalised", normalisation.apply(resized).into_data());
        check("out.encoder_tokens", encoder.forward(images.clone()).into_data());
        let z = rae.encode(images.clone());
        check("out.z", z.clone().into_data());
        check("out.decoded", unsigned(rae.decode(fixture.tensor("out.z", &device))));
        check("out.decoder_logits_of_raw_z", decoder.forward(to_tokens(z)).into_data());
        let other = decoder.forward(fixture.tensor("in.tokens_other_grid", &device));
        check("out.logits_other_grid", other.into_data());
        let with_class = fixture.tensor::<3>("in.tokens_with_cls", &device);
        check("out.logits_drop_cls_token", decoder.forward(with_class.slice_dim(1, 1..)).into_data());
        let amount = fixture.tensor::<3>("in.noise_u", &device).flatten::<1>(0, 2)
            * fixture.manifest["config"]["noise_tau"].as_f64().expect("noise_tau");
        let noised = rae.encode_noisy(images, amount, fixture.tensor("in.noise_eps", &device));
        check("out.z_train_noised", noised.into_data());
        assert_eq!(compared, fixture.names("out.").len(), "{case}: tensors compared");
    }
}

#[test]
fn running_statistics_are_the_official_ones() {
    let device = Device::default();
    let fixture = Fixture::read("rae_stage1/calculate_stat");
    let tolerance = fixture.tolerance(None);
    let mut compared = 0;
    let mut check = |mean: &str, variance: &str, found: &LatentStatistics| {
        fixture.assert_close(mean, found.mean.val().into_data(), tolerance);
        fixture.assert_close(variance, found.variance.val().into_data(), tolerance);
        compared += 2;
    };
    let ranks = [0, 1].map(|rank| {
        let start = LatentStatistics::new([3, 2, 2], &device);
        (0..3).fold(start, |statistics, batch| {
            let statistics = statistics.update(fixture.tensor(&format!("in.rank{rank}.batch{batch}"), &device));
            let name = |moment: &str| format!("out.rank{rank}.{moment}_after{batch}");
            check(&name("mean"), &name("var"), &statistics);
            statistics
        })
    });
    check("out.global_mean", "out.global_var", &LatentStatistics::merge(&ranks, &[1, 1]));
    assert_eq!(compared, fixture.names("out.").len());
}

#[test]
fn moments_of_equal_parts_merge_into_those_of_the_whole() {
    let device = Device::default();
    let fixture = Fixture::read("rae_stage1/calculate_stat");
    let part = |batch: usize| fixture.tensor::<4>(&format!("in.rank0.batch{batch}"), &device);
    let whole = LatentStatistics::of(Tensor::cat((0..3).map(part).collect(), 0));
    let merged = LatentStatistics::merge(&[0, 1, 2].map(|batch| LatentStatistics::of(part(batch))), &[1, 1, 1]);
    let values = |tensor: &Param<Tensor<3>>| tensor.val().into_data().iter::<f64>().collect::<Vec<_>>();
    // Rounding of f32 sums of squares of order 1.
    let tolerance = mixflow_tests::Tolerance { relative: 1e-5, absolute: 1e-5 };
    close("mean", &values(&merged.mean), &values(&whole.mean), tolerance);
    close("variance", &values(&merged.variance), &values(&whole.variance), tolerance);

    let all = Tensor::cat((0..3).map(part).collect(), 0);
    let back = whole.denormalise(whole.normalise(all.clone()));
    let list = |tensor: Tensor<4>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    close("round trip", &list(back), &list(all.clone()), tolerance);
    let normal = LatentStatistics::of(whole.normalise(all));
    assert!(values(&normal.mean).iter().all(|mean| mean.abs() < 1e-5));
}

#[test]
fn preprocessing_of_repa_is_the_official_one() {
    let device = Device::default();
    let fixture = Fixture::read("preprocess/center_crop");
    let raw: Vec<f32> = fixture.values("in.repa_raw").iter().map(|&pixel| pixel as f32 / 127.5 - 1.0).collect();
    let images = Tensor::<4>::from_data(TensorData::new(raw, [1, 3, 48, 48]), &device);
    let preprocessing = Preprocessing { size: 42, normalisation: Normalisation::ImageNet };
    fixture.assert_close("out.repa_bicubic_42", preprocessing.apply(images).into_data(), fixture.tolerance(None));
}

#[test]
fn normalisation_is_undone() {
    let images = Tensor::<4>::from_data([[[[0.5f32]], [[-1.0]], [[0.1]]]], &Device::default());
    for normalisation in [Normalisation::ImageNet, Normalisation::Symmetric] {
        let back = normalisation.undo(normalisation.apply(images.clone()));
        back.into_data().assert_approx_eq::<f32>(&images.clone().into_data(), burn::tensor::Tolerance::default());
    }
}

#[test]
fn the_last_norm_of_repa_is_learned() {
    let device = Device::default();
    let config = EncoderConfig {
        architecture: Architecture::Dinov2,
        width: 8,
        depth: 1,
        heads: 2,
        hidden: 16,
        input_size: 28,
        learned_norm: true,
        ..EncoderConfig::dinov2_base()
    };
    let Encoder::Dinov2(mut network) = config.init(0, &device) else { panic!("DINOv2 was asked for") };
    let images = Tensor::<4>::ones([1, 3, 28, 28], &device);
    let plain = network.forward(images.clone());
    network.norm.weight = Param::from_tensor(Tensor::full([8], 2.0, &device));
    network.norm.bias = Param::from_tensor(Tensor::full([8], 1.0, &device));
    let learned = network.forward(images);
    learned.into_data().assert_approx_eq::<f32>(&(plain * 2.0 + 1.0).into_data(), burn::tensor::Tolerance::default());
}

#[test]
fn noise_is_scaled_for_each_example() {
    let device = Device::default();
    let tokens = Tensor::<3>::ones([2, 4, 3], &device);
    let noisy = add_noise(tokens.clone(), Tensor::from_data([0.0f32, 2.0], &device), tokens);
    let sides = to_planes(noisy).into_data().iter::<f32>().collect::<Vec<_>>();
    assert_eq!(sides, [[1.0; 12], [3.0; 12]].concat());
}
