//! How much a network errs in 16 bits.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{Device, Gradients, Tensor};
use mixflow_backbones::lora::{LoraConfig, LowRank};
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

/// Panics unless what an adapter learns beside weights that are stored in bf16 errs at most 1.5 times as much as what it would
/// learn of a network in bf16 that has it in its weights: of `W + s B A`, by the gradient `G` of that, `s Bᵀ G` and `s G Aᵀ`.
/// `network` has the adapter of `lora`, of which no factor is zero, on an autodiff device, and `loss` is its loss.
///
/// # Panics
/// If it errs more, or so little that it cannot have computed in 16 bits.
pub fn assert_adapter_errs_like_bf16<B: Backbone>(network: &B, lora: &LoraConfig, loss: impl Fn(&B) -> Tensor<1>) {
    let tensors = |network: &B, gradients: Option<Gradients>| {
        let mut all = Named { gradients, path: vec![], tensors: BTreeMap::new() };
        network.visit(&mut all);
        all.tensors
    };
    let values = tensors(network, None);
    let ends = ["a", "b"].map(|factor| format!(".{}.{factor}", LowRank::NAME));
    let learned = |network: &B| tensors(network, Some(loss(network).backward()));
    // What the output does not come from has no gradient.
    let of_factors = learned(network);
    let layers: Vec<&str> = of_factors.keys().filter_map(|path| path.strip_suffix(&ends[0])).collect();
    assert!(!layers.is_empty() && of_factors.len() == 2 * layers.len(), "factors alone are trained");
    let flat = |factors: Vec<Tensor<2>>| -> Vec<f64> {
        factors.into_iter().flat_map(|factor| factor.into_data().iter::<f64>().collect::<Vec<_>>()).collect()
    };
    let of_weights = |network: &B| {
        let gradients = learned(network);
        let factors = layers.iter().flat_map(|layer| {
            let [a, b] = ends.each_ref().map(|end| values[&format!("{layer}{end}")].clone());
            let gradient = gradients[*layer].clone();
            [b.transpose().matmul(gradient.clone()), gradient.matmul(a.transpose())]
        });
        flat(factors.map(|factor| factor.mul_scalar(lora.scale())).collect())
    };

    let expected = flat(of_factors.values().cloned().collect());
    let merged = network.clone().materialize().map(&mut Unfrozen);
    let same = apart(&of_weights(&merged), &expected);
    assert!(same < 1e-4, "in f32 the gradients of factors follow from those of weights: {same}");
    let allowed = apart(&of_weights(&merged.in_precision(Precision::Bf16).expect("it knows bf16")), &expected);
    let low = Precision::Bf16.of_frozen(network.clone());
    // As a training computes, which says so once more.
    let low = learned(&low.in_precision(Precision::Bf16).expect("it knows bf16"));
    assert!(low.keys().eq(of_factors.keys()));
    let found = apart(&flat(low.into_values().collect()), &expected);
    assert!(found <= 1.5 * allowed, "an adapter errs by {found}, weights by {allowed}");
    assert!(found > 1e-4, "an adapter errs by {found}: that is not bf16");
}

/// Values of the parameters of two dimensions by their paths, or their gradients.
struct Named {
    gradients: Option<Gradients>,
    path: Vec<String>,
    tensors: BTreeMap<String, Tensor<2>>,
}

impl ModuleVisitor for Named {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = match &self.gradients {
            Some(gradients) => param.base().grad(gradients),
            None => Some(param.base().inner()),
        };
        if let Some(value) = value.filter(|_| D == 2) {
            let shape = [value.dims()[0], value.dims()[1]];
            self.tensors.insert(self.path.join("."), value.reshape(shape));
        }
    }
}

/// Has all parameters trained.
struct Unfrozen;

impl ModuleMapper for Unfrozen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(true)
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
