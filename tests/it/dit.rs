//! DiT against the official code, on a tiny network.

use burn::tensor::{Device, Tensor};
use mixflow_backbones::dit::Dit;
use mixflow_backbones::{Backbone, ClassLabels};
use mixflow_tests::Fixture;

/// The network of the fixture, with its weights.
pub(crate) fn network(fixture: &Fixture, device: &Device) -> Dit {
    let dit = Dit::from(crate::sit::shape(fixture).init(0, device));
    dit.load(fixture.weights("weights.")).expect("the recorded weights fit")
}

#[test]
fn noise_and_variance_are_the_official_ones() {
    let (fixture, device) = (Fixture::read("dit/dit_p2_learnsigma"), Device::default());
    let network = network(&fixture, &device);
    let x = fixture.tensor::<4>("in.x", &device);
    let time = fixture.integers::<1>("in.t", &device).float() / 1000.0;
    let labels = ClassLabels { labels: fixture.integers("in.y", &device), null: 10 };
    let (noise, fraction) = network.forward_with_variance(x.clone(), time.clone(), labels.clone());
    let v = fraction.expect("it learns sigma") * 2.0 - 1.0;
    let outputs = Tensor::cat(vec![noise.clone(), v], 1);
    fixture.assert_close("out.forward", outputs.into_data(), fixture.tolerance(None));
    assert_eq!(network.forward(x, time, labels).into_data(), noise.into_data());
}
