//! What the tests across crates share: recorded cases of the official PyTorch code, and how close we must come.

mod gradients;
mod lora;
mod names;
mod precision;
mod run;
mod tiny_net;

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use mixflow_backbones::weights::Weights;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub use gradients::{assert_gradients, assert_loss_and_gradients};
pub use lora::{adapted, factor_key};
pub use names::{assert_official_names, official_names};
pub use precision::{assert_adapter_errs_like_bf16, assert_errs_like_autocast};
pub use run::{assert_continues, train_from, with_waves};
pub use tiny_net::{LabelledTinyNet, TinyNet};

/// Relative and absolute tolerance: `|a - b| <= absolute + relative * |b|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Of the recorded value.
    pub relative: f64,
    /// Whatever the value.
    pub absolute: f64,
}

/// One recorded case: tensors and the manifest beside them.
#[derive(Debug)]
pub struct Fixture {
    name: String,
    bytes: Vec<u8>,
    /// The case's JSON: configuration, conventions, tolerances.
    pub manifest: Value,
}

impl Fixture {
    /// Reads `tests/fixtures/<name>.{safetensors,json}`.
    ///
    /// # Panics
    /// If either cannot be read.
    pub fn read(name: &str) -> Self {
        Self { name: name.into(), bytes: read(&format!("{name}.safetensors")), manifest: Self::read_json(name) }
    }

    /// Reads `tests/fixtures/<name>.json` alone.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read_json(name: &str) -> Value {
        serde_json::from_slice(&read(&format!("{name}.json"))).expect("manifests are JSON")
    }

    /// All names that begin with `prefix`, without it, sorted.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.tensors().names().iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_string).collect();
        names.sort();
        names
    }

    /// Whether a tensor of that name was recorded.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// Shape and bytes as recorded.
    pub fn data(&self, name: &str) -> TensorData {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.name));
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::I64 => DType::I64,
            Dtype::U8 => DType::U8,
            other => panic!("{}: {name} has type {other:?}", self.name),
        };
        TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype)
    }

    /// A recorded tensor of floats.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(name), device)
    }

    /// A recorded tensor of integers.
    pub fn integers<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        Tensor::from_data(self.data(name), device)
    }

    /// The recorded weights whose names begin with `prefix`, without it.
    pub fn weights(&self, prefix: &str) -> Weights {
        let tensors = self.tensors();
        let chosen = tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix(prefix)?.to_string(), view)));
        let bytes = safetensors::serialize(chosen, None).expect("tensors that were read can be written");
        Weights::from_safetensors(&bytes).expect("bytes that were written can be read")
    }

    /// Recorded values, in `f64`, row-major.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.data(name).iter::<f64>().collect()
    }

    /// The manifest's tolerance, or that of one of its groups, such as `grads`.
    pub fn tolerance(&self, group: Option<&str>) -> Tolerance {
        let all = &self.manifest["tolerance"];
        let chosen = group.map_or(all, |group| &all[group]);
        let number = |key: &str| chosen[key].as_f64().unwrap_or_else(|| panic!("{}: no tolerance {key}", self.name));
        Tolerance { relative: number("rtol"), absolute: number("atol") }
    }

    /// Panics unless `found` equals the recorded tensor in shape and, within `tolerance`, in every value.
    pub fn assert_close(&self, name: &str, found: TensorData, tolerance: Tolerance) {
        let expected = self.data(name);
        assert_eq!(found.shape(), expected.shape(), "{}: shape of {name}", self.name);
        let found: Vec<f64> = found.iter::<f64>().collect();
        close(&format!("{}: {name}", self.name), &found, &self.values(name), tolerance);
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics, naming the worst value, unless `found` equals `expected` within `tolerance`.
pub fn close(what: &str, found: &[f64], expected: &[f64], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let excess = |(a, b): (&f64, &f64)| (a - b).abs() - tolerance.absolute - tolerance.relative * b.abs();
    let worst = found.iter().zip(expected).enumerate().max_by(|(_, a), (_, b)| excess(*a).total_cmp(&excess(*b)));
    if let Some((index, (a, b))) = worst {
        // A difference that is not a number must fail as well.
        assert!(excess((a, b)) <= 0.0, "{what}: at {index} found {a}, expected {b} within {tolerance:?}");
    }
}
