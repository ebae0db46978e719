//! The comparison that MixFlow has to stand: trainings from one start for equal steps, ways to sample from them, and what differs.

mod arms;
mod criterion;
mod lag;
mod low_rank;
mod measured;
mod outcome;
mod parts;
mod phases;
mod post_train;
mod progress;
mod run;
mod seen;
mod study;

pub use criterion::{Criterion, bias, criterion};
pub use lag::{Lag, lag, lag_labels};
pub use low_rank::contraction;
pub use outcome::{ArmScores, Results, slow_flow};
pub(crate) use parts::check_sampling;
pub use parts::parts;
pub use progress::Progress;
pub(crate) use progress::encoding;
pub use run::StudyOutcome;
pub use seen::seen_by_start;
pub use study::Study;
