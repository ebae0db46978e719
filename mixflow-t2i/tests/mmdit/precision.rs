//! The network in 16 bits against `diffusers` under PyTorch's autocast.

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Backbone;
use mixflow_tests::{Fixture, assert_errs_like_autocast};

use crate::{network, text};

#[test]
fn mmdit_errs_as_under_autocast() {
    let (fixture, device) = (Fixture::read("bf16/sd3_qknorm_dual"), Device::default().autodiff());
    let time = fixture.tensor::<1>("in.ext.timestep", &device) / 1000.0;
    let text = text(&fixture, ["in.ext.encoder_hidden_states", "in.ext.pooled_projections"], &device);
    let network = network(&Fixture::read("mmdit/sd3_qknorm_dual"), &device);
    assert_errs_like_autocast("sd3_qknorm_dual", &network, |network, x: Tensor<4>| {
        network.forward(x, time.clone(), text.clone())
    });
}
