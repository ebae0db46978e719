//! Recorded names and shapes of a network.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Panics unless `network` has the names and shapes of `tests/fixtures/keys/<list>.txt`, and was not drawn.
///
/// # Panics
/// If one differs, or the list cannot be read.
pub fn assert_official_names(network: &impl Module, key: fn(&str) -> String, list: &str) {
    let mut found = Names { path: vec![], key, lines: vec![] };
    network.visit(&mut found);
    found.lines.sort_unstable();
    assert_eq!(found.lines, official_names(list), "{list}");
}

/// The lines of `tests/fixtures/keys/<list>.txt`, sorted: a name, its shape and its type.
///
/// # Panics
/// If the list cannot be read.
pub fn official_names(list: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/keys/{list}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines: Vec<_> = text.lines().map(str::to_string).collect();
    lines.sort_unstable();
    lines
}

struct Names {
    path: Vec<String>,
    key: fn(&str) -> String,
    lines: Vec<String>,
}

impl ModuleVisitor for Names {
    // As files do, names leave out which network an enum holds.
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.into());
        }
    }
    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = (self.key)(&self.path.join("."));
        assert!(!param.is_initialized(), "{name} was allocated");
        self.lines.push(format!("{name}\t{:?}\tfloat32", param.lazy_shape().to_vec()));
    }
}
