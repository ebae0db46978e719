//! The comparison that MixFlow has to stand: plain and MixFlow post-training from one start, for equal steps.

mod arms;
mod lag;
mod measured;
mod outcome;
mod parts;
mod phases;
mod seen;
mod study;

pub use lag::{Lag, lag, lag_labels};
pub use outcome::{ArmScores, Results, slow_flow};
pub(crate) use parts::check_sampling;
pub use parts::parts;
pub use seen::seen_by_start;
pub use study::{Progress, Study, StudyOutcome};
