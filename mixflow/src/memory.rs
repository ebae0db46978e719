//! Memory that a request would take, worked out before any is allocated.

use std::fs;

use crate::Error;

/// What no request may exceed where the system does not say how much memory it has: 1 TiB.
const MOST: u64 = 1 << 40;

/// Refuses what takes more memory than this machine has: `what` in words, its bytes as a product.
///
/// # Errors
/// [`Error::Memory`].
pub fn check_memory(what: impl FnOnce() -> String, bytes: &[u64]) -> Result<(), Error> {
    let needed = bytes.iter().fold(1u128, |product, &factor| product.saturating_mul(factor.into()));
    let available = [total(), limit()].into_iter().flatten().min().unwrap_or(MOST);
    if needed > available.into() {
        return Err(Error::Memory { what: what(), needed, available });
    }
    Ok(())
}

/// Of the machine; only Linux says it in a file.
fn total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

/// Of the container, if there is one.
fn limit() -> Option<u64> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
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
        assert!(error.contains("61,440 GB"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_says_how_much_it_has() {
        let total = total().unwrap();
        assert!((1 << 28..1 << 44).contains(&total), "{total} bytes");
    }
}
