//! Memory that a request would take, worked out before any is allocated.

use std::fs;

use burn::tensor::Device;

use crate::{Error, device};

/// What no request may exceed where the system does not say how much memory it has: 1 TiB, more than any one device has.
const MOST: u64 = 1 << 40;

/// Bytes of memory that a training on a device can have at most: those of this machine where it is the CPU and Linux tells,
/// else 1 TiB.
pub fn memory(device: &Device) -> u64 {
    if device::is_cpu(device) { machine() } else { MOST }
}

/// The same where it is known: of the CPU, if Linux tells.
pub fn known_memory(device: &Device) -> Option<u64> {
    Some(memory(device)).filter(|bytes| *bytes < MOST)
}

/// Refuses what takes more memory than this machine has: `what` in words, its bytes as a product.
///
/// # Errors
/// [`Error::Memory`].
pub fn check_memory(what: impl FnOnce() -> String, bytes: &[u64]) -> Result<(), Error> {
    let needed = bytes.iter().fold(1u128, |product, &factor| product.saturating_mul(factor.into()));
    let available = machine();
    if needed > available.into() {
        return Err(Error::Memory { what: what(), needed, available });
    }
    Ok(())
}

/// Memory and swap of this machine, or what its container is limited to.
pub(crate) fn machine() -> u64 {
    let told = |file| fs::read_to_string(file).ok();
    let limit = told("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    [told("/proc/meminfo").and_then(|text| total(&text)), limit].into_iter().flatten().min().unwrap_or(MOST)
}

/// Memory and swap in the words of Linux.
fn total(told: &str) -> Option<u64> {
    let line = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(1024 * (line("MemTotal:")? + line("SwapTotal:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_refused_without_overflow() {
        check_memory(|| unreachable!(), &[1000, 1000]).unwrap();
        for bytes in [&[5_000_000_000, 32 * 32 * 3, 4][..], &[u64::MAX; 4]] {
            let error = check_memory(|| "so many images".into(), bytes).unwrap_err().to_string();
            assert!(error.starts_with("so many images would take ") && error.contains("ask for fewer"), "{error}");
        }
        let error = check_memory(|| "they".into(), &[5_000_000_000, 12_288]).unwrap_err().to_string();
        assert!(error.contains("61.44 TB"), "{error}");
    }

    #[test]
    fn memory_is_what_linux_tells() {
        let told = "MemTotal:       16384000 kB\nMemFree:         1000 kB\nSwapTotal:       1024 kB\n";
        assert_eq!(total(told), Some(1024 * (16_384_000 + 1024)));
        assert_eq!(total("MemTotal: 2 kB\n"), Some(2048));
        assert_eq!(total(""), None);
        assert!(memory(&Device::flex()) > 1 << 26);
        assert_eq!(known_memory(&Device::flex()), Some(memory(&Device::flex())));
    }
}
