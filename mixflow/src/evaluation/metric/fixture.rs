//! Recorded reference values, for the tests of this crate.

use std::path::Path;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use safetensors::{Dtype, SafeTensors};

use super::Features;

/// One case of `tests/fixtures`: its tensors and its manifest.
pub(crate) struct Fixture {
    bytes: Vec<u8>,
    manifest: serde_json::Value,
}

impl Fixture {
    pub(crate) fn load(case: &str) -> Self {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures")).join(case);
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        let manifest = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        Self { bytes, manifest }
    }

    pub(crate) fn scalar(&self, name: &str) -> f64 {
        self.manifest["expected_scalars"][name].as_f64().unwrap()
    }

    /// Values in row-major order.
    pub(crate) fn tensor(&self, name: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        match tensor.dtype() {
            Dtype::F32 => tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect(),
            Dtype::I64 => tensor.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn features(&self, name: &str) -> Features {
        let shape = SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().shape().to_vec();
        Features::new(shape[0], shape[1..].iter().product(), self.tensor(name)).unwrap()
    }

    /// Rows of indices.
    pub(crate) fn indices(&self, name: &str) -> Vec<Vec<usize>> {
        self.features(name).iter().map(|row| row.iter().map(|&i| i as usize).collect()).collect()
    }

    /// `|found − expected| ≤ atol + rtol |expected|` with the tolerances of the manifest.
    pub(crate) fn assert_close(&self, found: &[f64], expected: &[f64]) {
        let [relative, absolute] = ["rtol", "atol"].map(|name| self.manifest["tolerance"][name].as_f64().unwrap());
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= absolute + relative * expected.abs(),
                "{}: {found}, expected {expected}, at {i}",
                self.manifest["case"]
            );
        }
    }
}

/// Uniform on [0, 1), reproducible.
pub(crate) fn noise(rows: usize, columns: usize, seed: u64) -> Features {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Features::new(rows, columns, (0..rows * columns).map(|_| rng.random()).collect()).unwrap()
}
