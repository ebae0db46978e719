//! The network itself.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::embed::{patchify, unpatchify_planes};
use mixflow::backbones::ops::Pairs;
use mixflow::backbones::{Backbone, ops, testing};
use mixflow_t2i::flux::official_key;
use mixflow_t2i::{Flux, FluxConfig, TextEmbedding};
use mixflow_tests::{Fixture, assert_gradients, assert_official_names, close};

use crate::{CASES, config, network, text};

/// What `of` makes of the network and each image: recorded networks are told another guidance with each.
fn by_row<const D: usize>(
    fixture: &Fixture,
    network: &Flux,
    device: &Device,
    of: impl Fn(&Flux, usize) -> Tensor<D>,
) -> Tensor<D> {
    let scales = if network.guidance_embedder.is_some() { fixture.values("in.guidance") } else { vec![0.0; 2] };
    let rows = scales.into_iter().enumerate().map(|(row, scale)| {
        let told = network.with_guidance(scale).unwrap_or_else(|| network.clone());
        of(&told, row)
    });
    assert_eq!(fixture.tensor::<1>("in.timestep", device).dims(), [2]);
    Tensor::cat(rows.collect(), 0)
}

/// The recorded prediction from `x`.
fn predicted(fixture: &Fixture, network: &Flux, x: &Tensor<4>, told: &TextEmbedding, device: &Device) -> Tensor<4> {
    let time = fixture.tensor::<1>("in.timestep", device);
    by_row(fixture, network, device, |network, row| {
        let rows = Tensor::from_data([row as i64], device);
        let told = mixflow::backbones::Condition::select(told.clone(), rows);
        network.forward(x.clone().narrow(0, row, 1), time.clone().narrow(0, row, 1), told)
    })
}

#[test]
fn every_activation_is_the_official_one() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let check = |name: &str, found: TensorData| fixture.assert_close(name, found, fixture.tolerance(None));
        let (net, x, told) =
            (network(&fixture, &device), fixture.tensor("in.x_latent", &device), text(&fixture, &device));
        let velocity = predicted(&fixture, &net, &x, &told, &device);
        check("out.forward_unpacked", velocity.clone().into_data());
        check("out.forward", patchify(velocity, config(&fixture).channels, 2).into_data());

        let time = fixture.tensor::<1>("in.timestep", &device);
        let vector = by_row(&fixture, &net, &device, |net, row| {
            net.time_text_embed(time.clone().narrow(0, row, 1), told.pooled.clone().narrow(0, row, 1))
        });
        check("out.time_text_embed", vector.clone().into_data());
        let [_, _, height, width] = x.dims();
        let (mut image, mut context) = (net.embed(x), net.context_embedder.forward(told.tokens));
        check("out.tokens", image.clone().into_data());
        check("out.context", context.clone().into_data());
        let (modulation, [tokens, words]) = (ops::silu(vector), [image.dims()[1], context.dims()[1]]);
        let places = net.rotary_embeddings([height, width], &image);
        let mut compared = 0;
        let mut check_both = |name: String, image: &Tensor<3>, context: &Tensor<3>| {
            check(&format!("out.{name}.x"), image.to_data());
            check(&format!("out.{name}.context"), context.to_data());
            compared += 2;
        };
        for (k, block) in net.transformer_blocks.iter().enumerate() {
            (image, context) = block.forward(image, context, modulation.clone(), Some(&places));
            check_both(format!("double{k}"), &image, &context);
        }
        let (places, mut both) = (places.and_still(words), Tensor::cat(vec![image, context], 1));
        // Here the text comes last, there it comes first.
        for (name, table) in ["out.rope_cos", "out.rope_sin"].into_iter().zip(places.tables()) {
            let [image, text] = [table.clone().narrow(0, 0, tokens), table.clone().narrow(0, tokens, words)];
            check(name, Tensor::cat(vec![text, image], 0).into_data());
        }
        for (k, block) in net.single_transformer_blocks.iter().enumerate() {
            both = block.forward(both, modulation.clone(), &places);
            check_both(
                format!("single{k}"),
                &both.clone().narrow(1, 0, tokens),
                &both.clone().narrow(1, tokens, words),
            );
        }
        assert_eq!(fixture.names("out.double").len() + fixture.names("out.single").len(), compared);
    }
}

#[test]
fn gradients_are_the_official_ones() {
    let device = Device::default().autodiff();
    for case in CASES {
        let fixture = Fixture::read(case);
        let (net, grads) = (network(&fixture, &device), fixture.tolerance(Some("grads")));
        let x = fixture.tensor::<4>("in.x_latent", &device).require_grad();
        let mut told = text(&fixture, &device);
        told.tokens = told.tokens.require_grad();
        let target = fixture.tensor::<4>("in.noise_latent", &device) - fixture.tensor("in.data_latent", &device);
        let loss = (predicted(&fixture, &net, &x, &told, &device) - target).square().mean();
        fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
        let mut gradients = loss.backward();
        let of_x = patchify(x.grad_remove(&mut gradients).expect("it is tracked"), config(&fixture).channels, 2);
        fixture.assert_close("out.grad.in.x", of_x.into_data(), grads);
        let of_text = told.tokens.grad_remove(&mut gradients).expect("it is tracked");
        fixture.assert_close("out.grad.in.encoder_hidden_states", of_text.into_data(), grads);
        let compared = assert_gradients(&fixture, &net, &mut gradients, official_key);
        assert_eq!(2 + compared, fixture.names("out.grad.").len(), "gradients compared");
    }
}

#[test]
fn latents_are_packed_as_the_official_pipeline_packs_them() {
    let (fixture, device) = (Fixture::read("flux/flux_sigmas"), Device::default());
    let latent: Tensor<4> = fixture.tensor("in.latent", &device);
    let packed = patchify(latent.clone(), 16, 2);
    fixture.assert_close("out.packed", packed.clone().into_data(), fixture.tolerance(None));
    assert_eq!(unpatchify_planes(packed, [3, 5], 2).into_data(), latent.into_data());
    // The angle of a pair that turns with an axis once a place is the number of the place.
    let places = mixflow::backbones::embed::Rotation::of_grid(&[[1, 2], [3, 2], [5, 2]], Pairs::Adjacent, &device);
    let [cos, sin] = places.tables().clone().map(|table| table.into_data().iter::<f64>().collect::<Vec<_>>());
    let found: Vec<f64> = cos.iter().zip(&sin).step_by(2).map(|(cos, sin)| sin.atan2(*cos)).collect();
    let turn = |id: f64| id.sin().atan2(id.cos());
    let expected: Vec<f64> = fixture.values("out.img_ids").into_iter().map(turn).collect();
    close("ids", &found, &expected, fixture.tolerance(None));
}

/// Counts from `README.md` of the recorded cases.
#[test]
fn published_sizes_have_the_official_names_and_shapes() {
    for (config, keys, parameters) in [
        (FluxConfig::dev(), "flux1_dev_diffusers", 11_901_408_320),
        (FluxConfig::schnell(), "flux1_schnell_diffusers", 11_891_178_560),
    ] {
        let network = config.init(0, &Device::default());
        assert_official_names(&network, official_key, keys);
        assert_eq!((config.parameters(), network.num_params() as u64), (parameters, parameters));
    }
}

/// Numbers in [-1, 1] that depend on their place alone.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 1.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[test]
fn it_passes_the_conformance_checks() {
    let device = Device::default().autodiff();
    for guidance in [None, Some(3.5)] {
        let config = FluxConfig {
            input_size: 8,
            channels: 4,
            width: 16,
            depth: 2,
            single_depth: 2,
            heads: 2,
            axes: [2, 2, 4],
            context_width: 6,
            pooled_width: 5,
            guidance,
        };
        let told = TextEmbedding::new(numbers([3, 4, 6], &device), numbers([3, 5], &device));
        testing::check(&config.init(0, &device), [3, 4, 8, 8], told);
    }
}

#[test]
fn blocks_of_both_kinds_can_be_left_out() {
    let (fixture, device) = (Fixture::read(CASES[0]), Device::default());
    let net = network(&fixture, &device);
    let kept = |blocks: &[usize]| {
        let net = net.without_blocks(blocks).expect("it has these");
        [net.transformer_blocks.len(), net.single_transformer_blocks.len()]
    };
    assert_eq!((kept(&[]), kept(&[1]), kept(&[0, 3])), ([2, 2], [1, 2], [1, 1]));
    let error = net.without_blocks(&[4]).expect_err("it has four").to_string();
    assert!(error.contains("must be 0 to 3, found 4"), "{error}");
    assert!(net.with_guidance(3.5).is_none());
}
