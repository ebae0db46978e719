//! The device that everything is computed on: the CPU, or with the feature `cuda` a GPU.

use std::env;

/// Burn's variable that names the device of a process.
const VARIABLE: &str = "BURN_DEVICE";

/// Whether the default device can be used, asked before anything is placed on it, where Burn would panic.
///
/// The default device of a build with the feature `cuda` is the first NVIDIA GPU, of every other build the CPU. The
/// variable `BURN_DEVICE` chooses otherwise: `flex` is the CPU, `cuda` the GPU.
///
/// # Errors
/// A sentence for the user: there is no GPU, or `BURN_DEVICE` names a device that this build does not have.
pub fn check_device() -> Result<(), String> {
    check(env::var(VARIABLE).ok().as_deref(), cfg!(feature = "cuda"), has_gpu)
}

fn check(wanted: Option<&str>, built_for_cuda: bool, has_gpu: impl Fn() -> bool) -> Result<(), String> {
    match wanted.map(str::to_lowercase).as_deref() {
        Some("flex") => Ok(()),
        Some("cuda") if !built_for_cuda => {
            Err(format!("{VARIABLE}=cuda: this program was built for the CPU alone; build it with the feature `cuda`"))
        }
        Some("cuda") | None if built_for_cuda && !has_gpu() => Err(format!(
            "no NVIDIA GPU was found: install its driver (`nvidia-smi` should list it), or set {VARIABLE}=flex to \
             compute on the CPU"
        )),
        Some("cuda") | None => Ok(()),
        Some(other) => Err(format!("{VARIABLE}={other}: expected flex, the CPU, or cuda, an NVIDIA GPU")),
    }
}

#[cfg(feature = "cuda")]
fn has_gpu() -> bool {
    use burn::tensor::{Device, DeviceType};
    Device::enumerate(DeviceType::Cuda).into_iter().next().is_some()
}

#[cfg(not(feature = "cuda"))]
fn has_gpu() -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_a_sentence() {
        let fault = |wanted, built, gpu| check(wanted, built, || gpu).unwrap_err();
        assert!(fault(None, true, false).contains("no NVIDIA GPU"));
        assert!(fault(Some("CUDA"), true, false).contains("BURN_DEVICE=flex"));
        assert!(fault(Some("cuda"), false, true).contains("feature `cuda`"));
        assert!(fault(Some("abacus"), true, true).contains("BURN_DEVICE=abacus"));
    }

    #[test]
    fn a_device_that_is_there_is_taken() {
        for (wanted, built, gpu) in
            [(None, false, false), (None, true, true), (Some("flex"), true, false), (Some("cuda"), true, true)]
        {
            assert_eq!(check(wanted, built, || gpu), Ok(()), "{wanted:?}");
        }
    }
}
