//! Recorded gradients of a network.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

use crate::Fixture;

/// Panics unless loss and gradients of `network` are the recorded ones: `out.loss`, the squared error of `output`'s result
/// from `in.target`; `out.grad.in.x`; and `out.grad.<official name>` for all parameters.
///
/// # Panics
/// If one differs or was recorded for nothing.
pub fn assert_loss_and_gradients(
    fixture: &Fixture,
    network: &impl Module,
    key: fn(&str) -> String,
    output: impl FnOnce(Tensor<4>) -> Tensor<4>,
) {
    let device = Device::default().autodiff();
    let x = fixture.tensor::<4>("in.x", &device).require_grad();
    let loss = (output(x.clone()) - fixture.tensor("in.target", &device)).square().mean();
    fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
    let mut gradients = loss.backward();
    let found = x.grad_remove(&mut gradients).expect("the input is tracked").into_data();
    fixture.assert_close("out.grad.in.x", found, fixture.tolerance(Some("grads")));
    let compared = assert_gradients(fixture, network, &mut gradients, key);
    assert_eq!(1 + compared, fixture.names("out.grad.").len(), "gradients compared");
}

/// Panics unless every recorded gradient of a parameter, `out.grad.<official name>`, is that of `network`, which has none
/// where zeros were recorded. Returns how many there are.
///
/// # Panics
/// If one differs.
pub fn assert_gradients(
    fixture: &Fixture,
    network: &impl Module,
    gradients: &mut Gradients,
    key: fn(&str) -> String,
) -> usize {
    let mut compare = Compare { fixture, gradients, key, path: vec![], compared: 0 };
    network.visit(&mut compare);
    compare.compared
}

struct Compare<'a> {
    fixture: &'a Fixture,
    gradients: &'a mut Gradients,
    key: fn(&str) -> String,
    path: Vec<String>,
    compared: usize,
}

impl ModuleVisitor for Compare<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = format!("out.grad.{}", (self.key)(&self.path.join(".")));
        if self.fixture.has(&name) {
            match param.val().grad_remove(self.gradients) {
                Some(found) => {
                    self.fixture.assert_close(&name, found.into_data(), self.fixture.tolerance(Some("grads")));
                }
                None => {
                    assert!(self.fixture.values(&name).iter().all(|value| *value == 0.0), "{name}: no gradient");
                }
            }
            self.compared += 1;
        }
    }
}
