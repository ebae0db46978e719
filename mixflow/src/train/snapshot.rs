//! A training state as named tensors.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{DType, Tensor, TensorData};
use mixflow_backbones::lora::LowRank;
use mixflow_backbones::weights::{Misfit, Mismatch};

/// A [`TrainState`](super::TrainState) as named tensors; names are paths of the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The network's weights.
    pub weights: Tensors,
    /// Their moving average.
    pub average: Tensors,
    /// The optimiser's average gradient.
    pub first_moment: Tensors,
    /// The optimiser's average squared gradient.
    pub second_moment: Tensors,
    /// Steps taken.
    pub step: u64,
    /// Updates taken: steps less the skipped ones.
    pub updates: u64,
    /// The state of a network that is trained against this one: the discriminator of a decoder.
    pub opponent: Option<Box<Self>>,
}

impl Snapshot {
    /// `network` with the moving average.
    ///
    /// # Errors
    /// Names the tensors that are missing, have another shape, or are none of the network's.
    pub fn into_average<B: Module>(self, network: B) -> Result<B, Box<Mismatch>> {
        fill(network, self.average, AVERAGE)
    }
}

/// What the averaged network is called where it does not fit.
pub(super) const AVERAGE: &str = "the checkpoint's averaged network";

/// Tensors by the path of their parameter.
pub type Tensors = BTreeMap<String, TensorData>;

/// The parameters of a module by their paths; of one with an adapter, those of the adapter.
pub(super) fn collect<B: Module>(module: &B) -> Tensors {
    struct Collect {
        tensors: Tensors,
        path: Vec<String>,
        /// Whether those of an adapter are looked for: what is frozen beside it may be large.
        adapted: bool,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            if is_of_adapter(&path) == self.adapted {
                let data = param.val().into_data();
                // A GPU copies when somebody looks, which may be after the next step: somebody looks now.
                let _ = data.as_bytes().first();
                self.tensors.insert(path, data);
            }
        }
    }
    let mut adapter = Collect { tensors: BTreeMap::new(), path: vec![], adapted: true };
    module.visit(&mut adapter);
    if !adapter.tensors.is_empty() {
        return adapter.tensors;
    }
    let mut whole = Collect { adapted: false, ..adapter };
    module.visit(&mut whole);
    whole.tensors
}

/// `module` with the values of `tensors`, which are all of its parameters and no others, or those of its adapter; `source` is
/// what they are called.
pub(super) fn fill<B: Module>(module: B, tensors: Tensors, source: &str) -> Result<B, Box<Mismatch>> {
    struct Fill {
        tensors: Tensors,
        path: Vec<String>,
        /// Whether the tensors are those of an adapter.
        adapted: bool,
        mismatch: Mismatch,
    }
    impl ModuleMapper for Fill {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.join(".");
            let expected = param.lazy_shape();
            match self.tensors.remove(&name) {
                None if self.adapted && !is_of_adapter(&name) => {}
                None => self.mismatch.missing.push(name),
                Some(data) if data.shape() != &expected => {
                    let [expected, found] = [&expected, data.shape()].map(|shape| shape.to_vec());
                    self.mismatch.misfits.push(Misfit { name, expected, found, kind: None });
                }
                Some(data) => {
                    return param.map(|old| {
                        let grad = old.is_require_grad();
                        // A checkpoint is in 32 bits, whatever the module has its weights in.
                        Tensor::from_data(data, (&old.device(), DType::F32)).set_require_grad(grad)
                    });
                }
            }
            param
        }
    }
    let mismatch = Mismatch { source: source.into(), missing: vec![], unused: vec![], misfits: vec![], twins: vec![] };
    let mut mapper =
        Fill { adapted: tensors.keys().any(|path| is_of_adapter(path)), tensors, path: Vec::new(), mismatch };
    let module = module.map(&mut mapper);
    let mismatch = Mismatch { unused: mapper.tensors.into_keys().collect(), ..mapper.mismatch };
    if mismatch.is_none() { Ok(module) } else { Err(Box::new(mismatch)) }
}

/// Whether a parameter belongs to a [`LowRank`](mixflow_backbones::lora::LowRank), by its path.
pub(super) fn is_of_adapter(path: &str) -> bool {
    path.split('.').any(|part| part == LowRank::NAME)
}
