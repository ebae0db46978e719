//! How much a network errs in 16 bits.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use mixflow_backbones::{Backbone, Precision};

use crate::Fixture;

/// Panics unless `network` in bf16 errs at most 1.5 times as much as the official code under PyTorch's autocast on the same
/// inputs, in its output and in the gradient of all parameters together, both by the norm of the difference. `forward` gives
/// the output of the recorded inputs `in.ext.` for `x`. The network is on an autodiff device.
///
/// Outputs are compared with those recorded in 64 bits, gradients with those in 32 bits, which other tests hold.
///
/// # Panics
/// If it errs more, or so little that it cannot have computed in 16 bits.
pub fn assert_errs_like_autocast<B: Backbone>(case: &str, network: &B, forward: impl Fn(&B, Tensor<4>) -> Tensor<4>) {
    let fixture = Fixture::read(&format!("bf16/{case}"));
    let errors = Fixture::read_json("bf16/errors");
    let recorded = &errors["cases"][case]["autocast_bf16_norms_f32"]["extra_batch_of_16"];
    let allowed = |what: &str| 1.5 * recorded[what]["rel_l2"].as_f64().unwrap_or_else(|| panic!("{case}: no {what}"));

    let device = Device::default().autodiff();
    let step = |network: &B, of: &B| {
        let output = forward(of, fixture.tensor("in.ext.x", &device));
        let loss = (output.clone() - fixture.tensor("in.ext.target", &device)).square().mean();
        let mut all = All { gradients: loss.backward(), values: vec![] };
        network.visit(&mut all);
        (output.into_data().iter::<f64>().collect::<Vec<_>>(), loss.into_scalar::<f64>(), all.values)
    };
    let (output, loss, gradient) = step(network, network);
    let expected = fixture.values("out.ext.forward");
    assert!(apart(&output, &expected) < 1e-5, "{case}: in f32 {}", apart(&output, &expected));
    assert!((loss / fixture.values("out.ext.loss")[0] - 1.0).abs() < 1e-5, "{case}: loss {loss}");

    let low = network.in_precision(Precision::Bf16).expect("a network that knows bf16");
    let (output, _, low_gradient) = step(network, &low);
    assert_eq!(low_gradient.len(), gradient.len(), "{case}: every parameter has its gradient");
    for (what, found, allowed) in [
        ("output", apart(&output, &expected), allowed("forward")),
        ("gradient", apart(&low_gradient, &gradient), allowed("gradient_all_parameters")),
    ] {
        assert!(found <= allowed, "{case}: {what} errs by {found}, autocast by {}", allowed / 1.5);
        // In 32 bits it errs by 1e-6.
        assert!(found > 1e-4, "{case}: {what} errs by {found}: that is not bf16");
    }
}

/// Norm of the difference over the norm of what was expected.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

/// The gradients of all parameters that have one.
struct All {
    gradients: Gradients,
    values: Vec<f64>,
}

impl ModuleVisitor for All {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.gradients) {
            self.values.extend(gradient.into_data().iter::<f64>());
        }
    }
}
