//! Weights in a file of `torch.save`: a pickle, alone or in a zip archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixflow::backbones::weights::Weights;
use mixflow_fuzz::as_file;

fuzz_target!(|bytes: &[u8]| {
    as_file(bytes, |path| {
        if let Ok(weights) = Weights::read(path) {
            let held: usize = weights.iter().map(|(_, tensor)| tensor.byte_len()).sum();
            assert!(held <= 4 * bytes.len(), "{held} bytes of {}", bytes.len());
            // A damaged value is an error too.
            let _ = weights.to_safetensors(&[]);
        }
    });
});
