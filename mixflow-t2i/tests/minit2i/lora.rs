//! Low-rank adapters, as the official script trains and `peft` stores them.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::lora::Adapter;
use mixflow::schedules::{Linear, Prediction, Scaled};
use mixflow::{FlowMatching, sampling::Flow};
use mixflow_t2i::MmJit;
use mixflow_t2i::mmjit::official_key;
use mixflow_tests::{Fixture, adapted, assert_adapter_errs_like_bf16, assert_gradients, factor_key};

use crate::{network, text};

const CASE: &str = "lora/minit2i_lora";

/// The velocity that the network's images lead to, row by row.
fn velocity(fixture: &Fixture, network: &MmJit, device: &Device) -> Tensor<4> {
    let path = FlowMatching::new(Scaled { path: Linear, noise: 2.0 });
    let objective = FlowMatching { prediction: Prediction::Data, floor: 0.05, ..path };
    let flow: Flow<'_> = objective.flow(network, text(fixture, ["in.context", "in.attn_mask"], device));
    flow.predict_rows(fixture.tensor("in.x", device), &fixture.values("in.t"), Prediction::Velocity)
}

/// The loss of a velocity.
fn loss(fixture: &Fixture, found: Tensor<4>, device: &Device) -> Tensor<1> {
    let (x, image): (Tensor<4>, Tensor<4>) = (fixture.tensor("in.x", device), fixture.tensor("in.image", device));
    let left: Vec<f64> = fixture.values("in.t").iter().map(|t| (1.0 - t).max(0.05)).collect();
    let left = Tensor::<1>::from_data(left.as_slice(), device).reshape([-1, 1, 1, 1]);
    (found - (image - x) / left).square().mean()
}

#[test]
fn beside_weights_of_16_bits_it_learns_as_weights_do() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, lora) = adapted(&fixture, network(&device), official_key);
    assert_adapter_errs_like_bf16(&network, &lora, |network| {
        loss(&fixture, velocity(&fixture, network, &device), &device)
    });
}

#[test]
fn an_adapter_beside_the_weights_has_the_official_output_and_gradients() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, _) = adapted(&fixture, network(&device), official_key);
    let found = velocity(&fixture, &network, &device);
    fixture.assert_close("out.velocity", found.clone().into_data(), fixture.tolerance(None));
    let loss = loss(&fixture, found, &device);
    fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
    let key = |path: &str| factor_key(path, official_key);
    let compared = assert_gradients(&fixture, &network, &mut loss.backward(), key);
    assert_eq!(compared, fixture.names("out.grad.").len());
}

#[test]
fn a_file_of_the_official_script_is_added() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora/minit2i_lora_files/peft");
    let adapter = Adapter::read(folder).expect("a file of an adapter");
    let fused = adapter.fuse(network(&device), official_key, 1.0).expect("it fits");
    fixture.assert_close("out.velocity", velocity(&fixture, &fused, &device).into_data(), fixture.tolerance(None));
}
