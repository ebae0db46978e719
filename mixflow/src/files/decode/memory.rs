//! The memory that decoding may take, shared by all threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that all images being decoded at a time may take together, and so each of them: 1 GiB.
pub(crate) const MEMORY: u64 = 1 << 30;

/// Bytes for each pixel of an image that is turned, halved or cut after it was decoded: it and another one.
const AFTERWARDS: u64 = 6;

static TAKEN: Mutex<u64> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

/// A part of [`MEMORY`], returned when dropped.
#[derive(Debug)]
pub(super) struct Share(u64);

impl Share {
    /// Waits until there is room for an image that takes `each` bytes a pixel to decode.
    ///
    /// # Errors
    /// If it has no pixels, or too many for all of the memory.
    pub(super) fn take([width, height]: [u32; 2], each: u64) -> Result<Self, String> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(format!("it has {width} x {height} pixels (width, height)"));
        }
        let bytes = pixels.saturating_mul(each.max(AFTERWARDS));
        if bytes > MEMORY {
            let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(format!(
                "its {width} x {height} pixels (width, height) would take {} MiB to decode, at most {} MiB are used; \
                 shrink it",
                mebibytes(bytes),
                mebibytes(MEMORY)
            ));
        }
        let mut taken = lock();
        while *taken + bytes > MEMORY {
            taken = RETURNED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Ok(Self(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *lock() -= self.0;
        RETURNED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, u64> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn threads_together_stay_within_the_memory() {
        // Nearly all of it: nobody else gets half before it is given back.
        let side = |part: u64| ((MEMORY / part / 8) as f64).sqrt() as u32;
        let all = Share::take([side(1); 2], 8).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let share = Share::take([side(2); 2], 8).unwrap();
                tell.send(*lock()).unwrap();
                drop(share);
            });
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
            drop(all);
            let taken = told.recv().unwrap();
            assert!(taken <= MEMORY, "{taken}");
        });
    }

    #[test]
    fn what_never_fits_is_refused_with_both_numbers() {
        let message = Share::take([40_000, 30_000], 8).unwrap_err();
        assert!(["40000 x 30000", "9156 MiB", "1024 MiB"].iter().all(|word| message.contains(word)), "{message}");
        assert!(Share::take([u32::MAX, u32::MAX], 14).is_err());
        assert!(Share::take([0, 3], 3).unwrap_err().contains("0 x 3"));
    }
}
