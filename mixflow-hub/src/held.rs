//! What threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a lock keeps, though a thread that held it may have panicked.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
