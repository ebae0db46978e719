//! Numbers and initial values of the published networks, and what DiT^DH's tests share.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use super::LightningDitConfig;
use crate::init::laws::{Law, assert_laws};

fn config() -> LightningDitConfig {
    LightningDitConfig {
        input_size: 4,
        channels: 64,
        width: 64,
        depth: 2,
        heads: 4,
        hidden: 96,
        classes: 99,
        ..LightningDitConfig::extra_large()
    }
}

/// Numbers of all parameters and of those that are no tables, constants of rotary positions excepted.
pub(crate) fn count(network: &impl Module) -> [u64; 2] {
    struct Count(Vec<String>, [u64; 2]);
    impl ModuleVisitor for Count {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.0.iter().any(|part| part.contains("rope")) {
                let numbers = param.lazy_shape().num_elements() as u64;
                self.1[0] += numbers;
                let table = ["pos_embed", "frequencies"].contains(&self.0.last().map_or("", String::as_str));
                self.1[1] += if table { 0 } else { numbers };
            }
        }
    }
    let mut count = Count(vec![], [0, 0]);
    network.visit(&mut count);
    count.1
}

/// `README.md` of the recorded cases: counts of the instantiated official class.
#[test]
fn parameter_counts_are_the_published_ones() {
    let config = LightningDitConfig::extra_large();
    assert_eq!(config.parameters(), 677_248_384);
    assert_eq!(count(&config.init(0, &Device::default())), [677_248_384, 676_953_216]);
}

#[test]
fn tables_are_trained_if_wanted() {
    for trained_tables in [true, false] {
        let network = LightningDitConfig { trained_tables, ..config() }.init(0, &Device::default().autodiff());
        assert_eq!(network.pos_embed.val().is_require_grad(), trained_tables);
        assert_eq!(network.t_embedder.frequencies.val().is_require_grad(), trained_tables);
        assert!(network.feat_rope.is_some_and(|table| !table.freqs_cos.val().is_require_grad()));
    }
}

#[test]
fn every_option_is_counted() {
    use crate::block::{NormKind, PerceptronKind};
    for norm in [NormKind::Rms, NormKind::Layer] {
        for perceptron in [PerceptronKind::SwiGlu, PerceptronKind::Gelu] {
            for flag in [true, false] {
                let mut config = LightningDitConfig { learn_sigma: flag, rotary: flag, null_class: flag, ..config() };
                config.parts = super::LightningParts { norm, perceptron, qk_norm: flag };
                let counted = count(&config.init(0, &Device::default()))[0];
                assert_eq!(config.parameters(), counted, "{config:?}");
            }
        }
    }
}

#[test]
fn every_parameter_has_the_published_moments() {
    assert_laws(&config().init(5, &Device::default()), |name, shape| match name {
        "pos_embed" => None,
        "t_embedder.W" => Some(Law::Normal(1.0)),
        _ if name.contains("rope") => None,
        _ if name.contains("norm") => Some(Law::One),
        _ if name.ends_with("bias") || name.contains("adaLN") || name.starts_with("final_layer.linear") => {
            Some(Law::Zero)
        }
        "y_embedder.embedding_table.weight" | "t_embedder.mlp.0.weight" | "t_embedder.mlp.2.weight" => {
            Some(Law::Normal(0.02))
        }
        _ => Some(Law::xavier(shape)),
    });
}
