//! What loading a network takes.

use burn::tensor::Device;
use mixflow_backbones::sit::{SitConfig, official_key};
use mixflow_backbones::weights::Weights;

use crate::allocation::peak;

/// Names, shapes, messages.
const CONSTANT: usize = 1 << 20;

#[test]
fn a_network_is_loaded_in_the_memory_of_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = Device::default();
    let config = SitConfig { width: 256, depth: 4, heads: 4, hidden: 1024, ..SitConfig::small(2) };
    let weights = Weights::of(&config.init(0, &device), official_key);
    let sizes = || weights.iter().map(|(_, tensor)| tensor.byte_len());
    let (whole, largest) = (sizes().sum::<usize>(), sizes().max().expect("it has tensors"));
    assert!(whole > 4 * (2 * largest + CONSTANT), "the network is too small to tell");
    let [safetensors, pytorch] = ["sit.safetensors", "sit.pt"].map(|name| folder.path().join(name));
    weights.write(&safetensors, &[]).expect("there is room");
    weights.write_pytorch(&pytorch).expect("there is room");
    for file in [safetensors, pytorch] {
        let (loaded, held) = peak(|| {
            let weights = Weights::read(&file).expect("just written");
            config.init(1, &device).load(weights).expect("the same network")
        });
        assert!(held >= whole, "{held} bytes cannot hold {whole}");
        // Beside the network: a tensor as it is read, and as it is handed on.
        assert!(held <= whole + 2 * largest + CONSTANT, "{}: {held} bytes of {whole}", file.display());
        let again = Weights::of(&loaded, official_key).to_safetensors(&[]).expect("in memory");
        assert!(again == weights.to_safetensors(&[]).expect("in memory"));
    }
}
