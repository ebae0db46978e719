//! The network itself.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::{Backbone, testing};
use mixflow_t2i::z_image::official_key;
use mixflow_t2i::{TextEmbedding, ZImageConfig};
use mixflow_tests::{Fixture, assert_gradients, assert_official_names};

use crate::{TINY, config, network, recorded_texts, texts};

/// A row of a recorded batch, in which shorter rows are filled up.
fn assert_row(fixture: &Fixture, name: &str, row: usize, found: &Tensor<3>) {
    let [_, tokens, width] = found.dims();
    let recorded = fixture.tensor::<3>(name, &found.device()).narrow(0, row, 1).narrow(1, 0, tokens);
    let values = |x: Tensor<3>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    assert_eq!(recorded.dims(), [1, tokens, width]);
    mixflow_tests::close(name, &values(found.clone()), &values(recorded), fixture.tolerance(None));
}

#[test]
fn every_activation_is_the_official_one() {
    let (fixture, device) = (Fixture::read(TINY), Device::default());
    let net = network(&device);
    let times: Tensor<1> = fixture.tensor("in.t", &device);
    fixture.assert_close("out.t_embedder", net.embed_time(times.clone()).into_data(), fixture.tolerance(None));
    for (row, tokens) in [(0, 32), (1, 64)] {
        let x: Tensor<4> = fixture.tensor::<4>(&format!("in.x.{row}"), &device).swap_dims(0, 1);
        let text: Tensor<2> = fixture.tensor(&format!("in.cap_feats.{row}"), &device);
        let told = texts(&[text], 33);
        let time = times.clone().narrow(0, row, 1);
        let found = net.forward(x.clone(), time.clone(), told.clone()).swap_dims(0, 1);
        fixture.assert_close(&format!("out.forward.{row}"), found.clone().into_data(), fixture.tolerance(None));

        let ([_, _, height, width], time) = (x.dims(), net.embed_time(time));
        let places = net.rotary_embeddings([height, width], tokens, &x);
        let image = net.noise_refiner[0].forward(net.embed(x), time.clone(), &places.image);
        assert_row(&fixture, "out.noise_refiner0", row, &image);
        let text = net.embed_text(told.tokens, tokens);
        let text = net.context_refiner[0].forward(text, time.clone(), &places.text);
        assert_row(&fixture, "out.context_refiner0", row, &text);
        let (mut both, places) = (Tensor::cat(vec![image, text], 1), places.image.and(places.text));
        for (number, block) in net.layers.iter().enumerate() {
            both = block.forward(both, time.clone(), &places);
            assert_row(&fixture, &format!("out.layer{number}"), row, &both);
        }
        assert_eq!(net.decode(both, time, [height, width]).swap_dims(0, 1).into_data(), found.into_data());
    }
}

/// Texts of a batch that are filled up to different numbers of tokens.
#[test]
fn gradients_are_the_official_ones() {
    let (fixture, device) = (Fixture::read("z_image/gradients"), Device::default().autodiff());
    for recompute in [false, true] {
        let net = if recompute { network(&device).recomputing().expect("it can") } else { network(&device) };
        let x = fixture.tensor::<4>("in.x", &device).require_grad();
        let found = net.forward(x.clone(), fixture.tensor("in.t", &device), recorded_texts(&fixture, &device));
        fixture.assert_close("out.forward", found.clone().into_data(), fixture.tolerance(None));
        let loss = (found - fixture.tensor("in.target", &device)).square().mean();
        fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
        let mut gradients = loss.backward();
        let of_x = x.grad_remove(&mut gradients).expect("it is tracked").into_data();
        fixture.assert_close("out.grad.in.x", of_x, fixture.tolerance(Some("grads")));
        let compared = assert_gradients(&fixture, &net, &mut gradients, official_key);
        assert_eq!(1 + compared, fixture.names("out.grad.").len(), "gradients compared");
    }
}

/// The list and the count of `README.md` of the recorded cases.
#[test]
fn the_published_size_has_the_official_names_and_shapes() {
    let config = ZImageConfig::published();
    let network = config.init(0, &Device::default());
    assert_official_names(&network, official_key, "zimage_diffusers");
    assert_eq!((config.parameters(), network.num_params() as u64), (6_154_908_736, 6_154_908_736));
}

/// Numbers in [-1, 1] that depend on their place alone.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 1.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[test]
fn it_passes_the_conformance_checks() {
    let device = Device::default().autodiff();
    for refiners in [0, 2] {
        let config = ZImageConfig {
            input_size: 8,
            channels: 4,
            width: 24,
            depth: 2,
            refiners,
            heads: 2,
            axes: [2, 4, 6],
            context_width: 6,
        };
        // Of 4 and of 35 tokens, one between them none; none at all is the null condition.
        let row = |first: usize, tokens| numbers::<2>([40, 6], &device).narrow(0, first, tokens);
        let between = Tensor::cat(vec![row(0, 2), Tensor::zeros([1, 6], &device), row(3, 1)], 0);
        let told = texts(&[between, row(1, 35), row(2, 4)], 40);
        testing::check(&config.init(0, &device), [3, 4, 8, 8], told);
    }
}

#[test]
fn a_text_is_the_same_with_more_room_behind_it() {
    let (fixture, device) = (Fixture::read(TINY), Device::default());
    let net = network(&device);
    let text: Tensor<2> = fixture.tensor("in.cap_feats.0", &device);
    let x: Tensor<4> = fixture.tensor::<4>("in.x.0", &device).swap_dims(0, 1);
    let time = fixture.tensor::<1>("in.t", &device).narrow(0, 0, 1);
    let told = |told: TextEmbedding| net.forward(x.clone(), time.clone(), told).into_data();
    let expected = told(texts(std::slice::from_ref(&text), 5));
    for room in [32, 33, 512] {
        assert_eq!(told(texts(std::slice::from_ref(&text), room)), expected);
    }
}

#[test]
fn blocks_of_both_can_be_left_out() {
    let net = network(&Device::default());
    assert_eq!(net.without_blocks(&[1]).expect("it has this").layers.len(), config(&Fixture::read(TINY)).depth - 1);
    let error = net.without_blocks(&[2]).expect_err("it has two").to_string();
    assert!(error.contains("must be 0 to 1, found 2"), "{error}");
    assert!(net.with_guidance(3.5).is_none());
}
