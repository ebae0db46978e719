//! The autoencoders of latent diffusion against the official code, on tiny networks.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use mixflow_backbones::Autoencoder;
use mixflow_backbones::autoencoder::{
    KlAutoencoder, KlAutoencoderConfig, LatentDistribution, TileConfig, official_key,
};
use mixflow_backbones::weights::Weights;
use mixflow_tests::{Fixture, assert_official_names};
use safetensors::tensor::TensorView;

const CASES: [&str; 2] = ["vae/sd_vae", "vae/sd3_vae"];

fn config(fixture: &Fixture) -> KlAutoencoderConfig {
    let config = &fixture.manifest["config"];
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let widths = config["block_out_channels"].as_array().expect("block_out_channels").iter();
    KlAutoencoderConfig {
        image_channels: number("in_channels"),
        latent_channels: number("latent_channels"),
        widths: widths.map(|width| width.as_u64().expect("a width") as usize).collect(),
        depth: number("layers_per_block"),
        groups: number("norm_num_groups"),
        quant_conv: config["use_quant_conv"].as_bool().unwrap_or(true),
        scale: config["scaling_factor"].as_f64().expect("scaling_factor"),
        shift: config["shift_factor"].as_f64().unwrap_or(0.0),
    }
}

/// The weights of a fixture in a file, under the names that `rename` gives them.
fn weights(fixture: &Fixture, rename: impl Fn(&str, TensorData) -> (String, TensorData)) -> Weights {
    let tensors: BTreeMap<String, TensorData> =
        fixture.names("weights.").iter().map(|name| rename(name, fixture.data(&format!("weights.{name}")))).collect();
    let views = tensors.iter().map(|(name, data)| {
        assert_eq!(data.dtype(), DType::F32);
        let view = TensorView::new(safetensors::Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (name, view.expect("the shape fits the bytes"))
    });
    let bytes = safetensors::serialize(views, None).expect("the names differ");
    Weights::from_safetensors(&bytes).expect("a valid file")
}

fn load(config: &KlAutoencoderConfig, fixture: &Fixture) -> KlAutoencoder {
    let weights = weights(fixture, |name, data| (name.into(), data));
    config.init(0, &Device::default()).load(weights).expect("the names are official")
}

#[test]
fn moments_samples_and_images_are_the_official_ones() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let check = |name: &str, found: Tensor<4>| {
            fixture.assert_close(name, found.into_data(), fixture.tolerance(None));
        };
        let normalised = config(&fixture);
        let plain = KlAutoencoderConfig { scale: 1.0, shift: 0.0, ..normalised.clone() };
        let (images, noise) = (fixture.tensor::<4>("in.images", &device), fixture.tensor::<4>("in.noise", &device));

        let autoencoder = load(&plain, &fixture);
        let latents = autoencoder.encode(images.clone());
        check("out.mean", latents.mean.clone());
        let deviation = latents.deviation.clone().expect("the encoder is not deterministic");
        check("out.std", deviation.clone());
        check("out.logvar", deviation.log() * 2.0);
        check("out.sample", latents.sample(noise.clone()));
        check("out.decode", autoencoder.decode(fixture.tensor("in.z", &device)));

        let autoencoder = load(&normalised, &fixture);
        check("out.latent_scaled", autoencoder.encode(images).sample(noise));
        check("out.decode_of_latent", autoencoder.decode(fixture.tensor("out.latent_scaled", &device)));

        let extreme = LatentDistribution::from_moments(fixture.tensor("in.raw_moments", &device));
        check("out.raw_logvar_clamped", extreme.deviation.expect("moments have a deviation").log() * 2.0);
        assert_eq!(fixture.names("out.").len(), 8, "{case}: values compared");
    }
}

#[test]
fn every_naming_loads_and_the_one_of_diffusers_is_saved() {
    for case in CASES {
        let fixture = Fixture::read(case);
        let config = config(&fixture);
        let map = fixture.manifest["key_map_original"].as_object().expect("a map of names");
        let original = |name: &str, data: TensorData| {
            let original = map[name].as_str().expect("a name");
            let pixel = original.contains(".attn_1.") && data.shape().num_dims() == 2;
            let shape = if pixel { [&data.shape()[..], &[1, 1]].concat() } else { data.shape().to_vec() };
            (original.to_string(), TensorData::from_bytes(data.into_bytes(), shape, DType::F32))
        };
        let in_stable_diffusion = |name: &str, data| {
            let (name, data) = original(name, data);
            (format!("first_stage_model.{name}"), data)
        };
        let old_diffusers = |name: &str, data| {
            let new_and_old =
                [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
            (new_and_old.iter().fold(name.to_string(), |name, (new, old)| name.replace(new, old)), data)
        };
        let expected = weights(&fixture, |name, data| (name.into(), data));
        for weights in
            [weights(&fixture, original), weights(&fixture, in_stable_diffusion), weights(&fixture, old_diffusers)]
        {
            assert!(weights.get("encoder.mid_block.attentions.0.to_q.weight").is_none(), "the names are the same");
            let loaded = config.init(0, &Device::default()).load(weights).expect("the names are known");
            let bytes = |weights: Weights| weights.to_safetensors(&[]).expect("in memory");
            assert!(bytes(Weights::of(&loaded, official_key)) == bytes(expected.clone()), "{case}");
        }
    }
}

#[test]
fn parameters_of_the_published_sizes_are_the_official_ones() {
    let init = |config: KlAutoencoderConfig| config.init(0, &Device::default());
    let first = init(KlAutoencoderConfig::stable_diffusion());
    assert_official_names(&first, official_key, "sd_vae_diffusers");
    assert_eq!(first.num_params(), 83_653_863);
    assert_eq!(init(KlAutoencoderConfig::stable_diffusion_3()).num_params(), 83_819_683);
}

#[test]
fn tiles_that_hold_the_image_change_nothing() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let autoencoder = load(&config(&fixture), &fixture);
        let (images, z) = (fixture.tensor::<4>("in.images", &device), fixture.tensor::<4>("in.z", &device));
        let tiles = TileConfig { side: 6, overlap: 2 };
        assert_eq!(autoencoder.decode_tiled(z.clone(), tiles).into_data(), autoencoder.decode(z.clone()).into_data());

        let tiles = TileConfig { side: 4, overlap: 1 };
        assert_eq!(autoencoder.decode_tiled(z, tiles).dims(), images.dims());
    }
}
