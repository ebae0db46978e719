//! The device that everything is computed on: the CPU, or with the feature `cuda` a GPU.

use std::env;

use burn::tensor::Device;

/// The version of Burn in the workspace's `Cargo.toml`.
const BURN: &str = "0.23.0-pre.1";

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

/// The version of Burn and the default device, as Burn names it, with the name of the card where there is one.
///
/// Burn panics where [`check_device`] fails.
pub fn device_name() -> String {
    let device = Device::default();
    let name = if device == Device::flex() { "flex (CPU)".to_owned() } else { format!("{device:?}") };
    format!("burn {BURN}, {}{name}", card(&device))
}

#[cfg(feature = "cuda")]
fn card(device: &Device) -> String {
    device.identity().map_or_else(String::new, |identity| format!("{}, ", identity.name))
}

#[cfg(not(feature = "cuda"))]
fn card(_: &Device) -> String {
    String::new()
}

/// Whether the default device is the CPU.
pub(crate) fn on_cpu() -> bool {
    !cfg!(feature = "cuda") || env::var(VARIABLE).is_ok_and(|wanted| wanted.eq_ignore_ascii_case("flex"))
}

#[cfg(feature = "cuda")]
fn has_gpu() -> bool {
    use burn::tensor::DeviceType;
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
    fn the_version_of_burn_is_the_one_that_is_built() {
        let lock = include_str!("../../Cargo.lock");
        let burn = lock.split("[[package]]").find(|package| package.contains("name = \"burn\"\n")).unwrap();
        assert!(burn.contains(&format!("version = \"{BURN}\"")), "{burn}");
    }

    #[test]
    fn the_device_is_the_one_that_tensors_are_on() {
        // Burn is asked for the place of a tensor, not for the default.
        let place = burn::tensor::Tensor::<1>::zeros([1], &Device::default()).device();
        let (name, on_cpu) = (device_name(), format!("{place:?}").contains("Flex"));
        assert!(name.starts_with("burn 0.") && name.contains("flex (CPU)") == on_cpu, "{name}: {place:?}");
    }

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
