//! The weights that the last step left.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use mixflow_backbones::weights::Weights;

use super::Checkpoints;
use super::manifest::Manifest;
use super::snapshot::is_of_adapter;
use super::stored::adapter_alone;
use crate::Error;

impl Checkpoints {
    /// The network of the newest checkpoint as its last step left it, under the names that `key` gives to the paths of `network`, as
    /// in [`Weights::of`]; none without a checkpoint. Nothing beside the weights is read, and their values only for the hash.
    ///
    /// # Errors
    /// If the newest checkpoint is damaged, or holds an adapter without its network.
    pub fn last_weights(&self, network: &impl Module, key: impl Fn(&str) -> String) -> Result<Option<Weights>, Error> {
        let newest = self.newest(|path| Manifest::read(path)?.file(path, "weights.safetensors"))?;
        if let Some(damaged) = newest.damaged.into_iter().next() {
            return Err(damaged);
        }
        let Some(file) = newest.whole else { return Ok(None) };
        let weights = Weights::read(&file)?;
        if weights.iter().any(|(name, _)| is_of_adapter(name)) {
            return Err(adapter_alone(&file));
        }
        let mut names = Names { key, whole: vec![], path: vec![], names: BTreeMap::new() };
        network.visit(&mut names);
        let names = names.names;
        Ok(Some(weights.rename(|name| Some(names.get(name).cloned().unwrap_or_else(|| name.into())))))
    }
}

/// What parameters are called in a checkpoint, where variants of an enum are part of their paths, and otherwise.
struct Names<K> {
    key: K,
    whole: Vec<String>,
    path: Vec<String>,
    names: BTreeMap<String, String>,
}

impl<K: Fn(&str) -> String> ModuleVisitor for Names<K> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.whole.push(name.into());
        if !container.starts_with("Enum:") {
            self.path.push(name.into());
        }
    }
    fn exit_module(&mut self, _: &str, container: &str) {
        self.whole.pop();
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.names.insert(self.whole.join("."), (self.key)(&self.path.join(".")));
    }
}
