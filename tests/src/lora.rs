//! Recorded low-rank adapters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use mixflow_backbones::lora::LoraConfig;

use crate::Fixture;

/// `network` with the adapter of a recorded case: the settings of its `config`, and the factors `adapter.<layer>.lora_A.weight`
/// and so on.
///
/// # Panics
/// If the settings do not fit.
pub fn adapted<M: Module>(fixture: &Fixture, network: M, key: fn(&str) -> String) -> (M, LoraConfig) {
    let config = &fixture.manifest["config"];
    let targets = config["target_modules"].as_array().expect("a list").iter();
    let lora = LoraConfig {
        rank: config["r"].as_u64().expect("a number") as usize,
        alpha: config["lora_alpha"].as_f64(),
        targets: targets.map(|target| target.as_str().expect("a name").into()).collect(),
        ..LoraConfig::default()
    };
    let network = lora.attach(network, key, 0).expect("targets are layers");
    (network.map(&mut Recorded { fixture, key, path: vec![] }), lora)
}

/// What `peft` calls the parameter at a path: `….weight.lora.a` is `….lora_A.weight`.
pub fn factor_key(path: &str, key: fn(&str) -> String) -> String {
    match [("a", "A"), ("b", "B")].into_iter().find_map(|(ours, theirs)| {
        let weight = path.strip_suffix(&format!(".lora.{ours}"))?;
        Some(key(weight).replace(".weight", &format!(".lora_{theirs}.weight")))
    }) {
        Some(name) => name,
        None => key(path),
    }
}

struct Recorded<'a> {
    fixture: &'a Fixture,
    key: fn(&str) -> String,
    path: Vec<String>,
}

impl ModuleMapper for Recorded<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = format!("adapter.{}", factor_key(&self.path.join("."), self.key));
        match self.fixture.has(&name) {
            true => param.map(|old| Tensor::from_data(self.fixture.data(&name), &old.device()).require_grad()),
            false => param,
        }
    }
}
