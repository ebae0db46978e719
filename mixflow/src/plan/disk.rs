//! What trainings have on disk.

use super::bytes;

/// Copies of the weights in a checkpoint: weights, average and both moments.
pub(super) const CHECKPOINT: u64 = 4;

/// Bytes on disk of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Disk {
    /// That it leaves: its two newest checkpoints, and the averaged weights.
    pub(super) left: u64,
    /// While it writes a checkpoint, the third where two are there.
    pub(super) writing: u64,
}

impl Disk {
    /// Of so many parameters that are trained, `whole` of which stay as they are beside them, if they are an adapter.
    pub(super) fn of(steps: u64, checkpoint_every: u64, trained: u64, whole: Option<u64>) -> Self {
        let saved = steps.div_ceil(checkpoint_every);
        Self {
            left: bytes(&[CHECKPOINT * saved.min(2) + 1, trained]).saturating_add(bytes(&[whole.unwrap_or(0)])),
            writing: bytes(&[CHECKPOINT * saved.min(3), trained]),
        }
    }

    /// The most that is there of it, and of so many trainings after it that are like `arm`.
    pub(super) fn most(self, arm: Self, arms: u64) -> u64 {
        let last = self.left.saturating_add(arm.left.saturating_mul(arms.saturating_sub(1)));
        let all = if arms > 0 { last.saturating_add(arm.left.max(arm.writing)) } else { self.left };
        all.max(self.writing)
    }
}
