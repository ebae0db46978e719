//! Recorded gradients of a network.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::Fixture;

/// Panics unless every recorded gradient of a parameter, `out.grad.<official name>`, is that of `network`, within the
/// tolerance `grads`. Returns how many there are.
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
            let found = param.val().grad_remove(self.gradients).unwrap_or_else(|| panic!("{name}: no gradient"));
            self.fixture.assert_close(&name, found.into_data(), self.fixture.tolerance(Some("grads")));
            self.compared += 1;
        }
    }
}
