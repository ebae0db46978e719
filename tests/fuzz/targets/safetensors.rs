//! Weights in a `.safetensors` file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixflow::backbones::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(weights) = Weights::from_safetensors(bytes) {
        // What was read is written as something that reads as the same.
        let Ok(written) = weights.to_safetensors(&[]) else { return };
        let again = Weights::from_safetensors(&written).expect("what was written is whole");
        assert_eq!(again.to_safetensors(&[]).expect("it was read"), written);
    }
});
