//! Between weights and a network's parameters.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};

use super::finite::not_finite;
use super::widen::widened;
use super::{LazyTensor, Misfit, Mismatch, Weights};
use crate::Error;
use crate::mismatch::type_name;
use crate::walk::{Walk, walks};

impl Weights {
    /// The floating-point parameters of `module`, frozen ones too; [adapters](crate::lora) beside them are not among them. `key`
    /// gives the official name of a path such as `blocks.3.mlp.fc1.weight`. Values stay on their device until they are asked for.
    ///
    /// # Panics
    /// If `key` gives two parameters the same name.
    pub fn of(module: &impl Module, key: impl Fn(&str) -> String) -> Self {
        let mut collect = Collect { key, walk: Walk::default(), tensors: BTreeMap::new() };
        module.visit(&mut collect);
        Self { tensors: collect.tensors, source: "a network".into(), ..Self::default() }
    }

    /// `module` with every floating-point parameter replaced by the tensor of its name, in the precision that the
    /// parameter has, on its device, trained or frozen as it was. Names are as in [`of`](Self::of).
    ///
    /// # Errors
    /// If a parameter has no tensor, a tensor no parameter, or shapes differ: all of them are named, before a value is
    /// read. Or if values cannot be read, or are no finite numbers in the precision of their parameter.
    pub fn into_module<M: Module>(self, module: M, key: impl Fn(&str) -> String) -> Result<M, Error> {
        self.check(&module, &key)?;
        replaced(module, key, self)
    }

    /// Whether these are the weights of `module`, as [`into_module`](Self::into_module) asks. No value is read.
    ///
    /// # Errors
    /// If a parameter has no tensor, a tensor no parameter, or shapes differ: all of them are named.
    pub fn check(&self, module: &impl Module, key: impl Fn(&str) -> String) -> Result<(), Error> {
        self.compare(module, key, true)
    }

    /// Whether all values are finite numbers, as [`into_module`](Self::into_module) asks. One tensor after another is read.
    ///
    /// # Errors
    /// If values are none, or cannot be read.
    pub fn check_values(&self) -> Result<(), Error> {
        self.tensors.iter().try_for_each(|(name, tensor)| self.check_finite(name, &tensor.data()?, tensor.dtype()))
    }

    /// Whether the values of a tensor of these are finite numbers in the precision `dtype`.
    fn check_finite(&self, name: &str, data: &TensorData, dtype: DType) -> Result<(), Error> {
        let (lost, count) = (not_finite(data, dtype), data.num_elements());
        if lost == 0 {
            return Ok(());
        }
        let of = if count == 1 { "value" } else { "values" };
        let problem = format!(
            "holds {lost} of the {count} {of} of {name} as no finite number, or as one beyond the network's precision: a \
             training that diverged writes such files; take an earlier checkpoint"
        );
        Err(Error::format(self.source.as_ref(), problem))
    }

    /// A part of the network whose weights these are, as [`into_module`](Self::into_module) fills the whole: tensors that
    /// `module` has no parameter for stay in their file.
    ///
    /// # Errors
    /// If a parameter has no tensor, or shapes differ: all of them are named. Or if values cannot be read or used, as with
    /// [`into_module`](Self::into_module).
    pub fn fill<M: Module>(&self, module: M, key: impl Fn(&str) -> String) -> Result<M, Error> {
        self.compare(&module, &key, false)?;
        replaced(module, key, self.clone())
    }

    fn compare(&self, module: &impl Module, key: impl Fn(&str) -> String, whole: bool) -> Result<(), Error> {
        let mut compare =
            Compare { key, walk: Walk::default(), weights: self, missing: vec![], misfits: vec![], known: vec![] };
        module.visit(&mut compare);
        let Compare { mut missing, mut misfits, mut known, .. } = compare;
        known.sort();
        missing.sort();
        misfits.sort_by(|a, b| a.name.cmp(&b.name));
        let unused = self.tensors.keys().filter(|name| whole && known.binary_search(name).is_err()).cloned().collect();
        let twins = self.twins.clone();
        let mismatch = Mismatch { source: self.source.clone(), missing, unused, misfits, twins };
        if mismatch.is_none() { Ok(()) } else { Err(Box::new(mismatch).into()) }
    }
}

/// `module` with the values of `weights`, which were compared with it.
fn replaced<M: Module>(module: M, key: impl Fn(&str) -> String, weights: Weights) -> Result<M, Error> {
    let mut replace = Replace { key, walk: Walk::default(), weights, fault: None };
    let module = module.map(&mut replace);
    replace.fault.map_or(Ok(module), Err)
}

struct Collect<K> {
    key: K,
    walk: Walk,
    tensors: BTreeMap<String, LazyTensor>,
}

impl<K: Fn(&str) -> String> ModuleVisitor for Collect<K> {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.walk.is_beside() {
            return;
        }
        let name = (self.key)(&self.walk.key());
        let twin = self.tensors.insert(name.clone(), LazyTensor::of(param.base()));
        assert!(twin.is_none(), "two parameters are called {name}");
    }
}

struct Compare<'a, K> {
    key: K,
    walk: Walk,
    weights: &'a Weights,
    missing: Vec<String>,
    misfits: Vec<Misfit>,
    known: Vec<String>,
}

impl<K: Fn(&str) -> String> ModuleVisitor for Compare<'_, K> {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = (self.key)(&self.walk.key());
        self.known.push(name.clone());
        let Some(tensor) = self.weights.get(&name) else {
            self.missing.push(name);
            return;
        };
        let (expected, found) = (param.lazy_shape().to_vec(), tensor.shape().to_vec());
        let kind = (!tensor.dtype().is_float()).then(|| type_name(tensor.dtype()));
        if expected != found || kind.is_some() {
            self.misfits.push(Misfit { name, expected, found, kind });
        }
    }
}

struct Replace<K> {
    key: K,
    walk: Walk,
    weights: Weights,
    /// Why values could not be read or used.
    fault: Option<Error>,
}

impl<K: Fn(&str) -> String> ModuleMapper for Replace<K> {
    walks!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = (self.key)(&self.walk.key());
        let tensor = self.weights.tensors.remove(&name).unwrap_or_else(|| panic!("two parameters are called {name}"));
        if self.fault.is_some() {
            return param;
        }
        let data = match tensor.into_data() {
            Ok(data) => data,
            Err(fault) => {
                self.fault = Some(fault);
                return param;
            }
        };
        let device = param.lazy_device();
        // A parameter that was not drawn yet would have been in the device's own precision.
        let dtype = if param.is_initialized() { param.dtype() } else { device.settings().float_dtype.into() };
        let data = if dtype == DType::F32 { widened(data) } else { data };
        if let Err(fault) = self.weights.check_finite(&name, &data, dtype) {
            self.fault = Some(fault);
            return param;
        }
        let id = param.id;
        param.transform_for_load(Tensor::from_data(data, (&device, dtype)), id)
    }
}
