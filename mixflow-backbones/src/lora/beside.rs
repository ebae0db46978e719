//! Adapters beside weights that are stored rounded.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::{DType, Tensor};

use super::LowRank;
use crate::walk::{Walk, walks};

/// `A` and `B` of adapters by the paths of weights, with what their products are multiplied by in `B`.
pub(super) type Factors = BTreeMap<String, [Tensor<2>; 2]>;

/// `network` with these factors beside its weights, frozen; where there is an adapter already, as more of its rank.
pub(super) fn beside<M: Module>(network: M, factors: Factors) -> M {
    if factors.is_empty() {
        return network;
    }
    let scales = scales(&network);
    let network = network.map(&mut Widen { walk: Walk::default(), factors: &factors, scales: &scales });
    network.apply_reparameterization(Attach { factors })
}

/// What the products of a network's adapters are multiplied by, `[1, 1]`, by the paths of their weights. No walk sees it: beside a
/// weight of zero, factors of one come to it.
fn scales(network: &impl Module) -> BTreeMap<String, Tensor<2>> {
    let mut find = Find::default();
    network.visit(&mut find);
    let mut read = Read { walk: Walk::default(), paths: &find.paths, scales: BTreeMap::new() };
    if !find.paths.is_empty() {
        let ones = network.clone().map(&mut Ones { walk: Walk::default(), paths: &find.paths });
        ones.materialize().visit(&mut read);
    }
    read.scales
}

/// The path of the weight that the factor at a place stands beside; none of other parameters.
fn weight_of(walk: &Walk) -> Option<String> {
    let weight = walk.names.len().checked_sub(2)?;
    (walk.types.last()? == "Struct:LowRank").then(|| walk.names[..weight].join("."))
}

/// Finds weights with an adapter.
#[derive(Default)]
struct Find {
    walk: Walk,
    paths: BTreeSet<String>,
}

impl ModuleVisitor for Find {
    walks!();

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.paths.extend(weight_of(&self.walk));
    }
}

/// Makes factors one and the weights beside them zero, a number each.
struct Ones<'a> {
    walk: Walk,
    paths: &'a BTreeSet<String>,
}

impl ModuleMapper for Ones<'_> {
    walks!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_factor = weight_of(&self.walk).is_some();
        if !is_factor && !self.paths.contains(&self.walk.path()) {
            return param;
        }
        let number = f64::from(u8::from(is_factor));
        param.map(|old| Tensor::full([1; D], number, (&old.device(), DType::F32)))
    }
}

struct Read<'a> {
    walk: Walk,
    paths: &'a BTreeSet<String>,
    scales: BTreeMap<String, Tensor<2>>,
}

impl ModuleVisitor for Read<'_> {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.walk.path();
        if self.paths.contains(&path) {
            self.scales.insert(path, param.val().reshape([1, 1]));
        }
    }
}

/// Adds factors to those of adapters that are there.
struct Widen<'a> {
    walk: Walk,
    factors: &'a Factors,
    scales: &'a BTreeMap<String, Tensor<2>>,
}

impl ModuleMapper for Widen<'_> {
    walks!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let found = weight_of(&self.walk).and_then(|path| Some((self.factors.get(&path)?, self.scales.get(&path)?)));
        let Some(([a, b], scale)) = found else { return param };
        let (more, axis) = match self.walk.names.last().map(String::as_str) {
            Some("a") => (a.clone(), 0),
            _ => (b.clone() / scale.clone(), 1),
        };
        let shape = more.shape();
        param.map(|old| {
            let grad = old.is_require_grad();
            Tensor::cat(vec![old.detach(), more.reshape(shape)], axis).set_require_grad(grad)
        })
    }
}

/// Puts factors beside weights. Those that have an adapter keep it.
struct Attach {
    factors: Factors,
}

impl Reparameterizer for Attach {
    type Reparam = LowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        weight: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        (weight, self.factors.remove(path).map(LowRank::frozen))
    }
}
