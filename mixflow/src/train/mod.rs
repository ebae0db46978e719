//! Training: state, checkpoints and the loop.

mod change;
pub mod checkpoint;
mod class_rows;
pub(crate) mod difference;
mod fault;
mod frozen;
mod log;
mod optimizer;
mod replicas;
mod run;
mod run_folder;
mod scalars;
mod snapshot;
mod start;
mod state;
mod step_loop;
mod stored;

pub use change::{Change, change_optimizer, changes};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use class_rows::{ClassRow, ClassRows};
pub(crate) use difference::Difference;
pub use frozen::check_same_frozen;
pub use log::MetricsLog;
pub(crate) use optimizer::positive;
pub use optimizer::{LearningRate, OptimizerConfig};
pub use run::{Run, TrainConfig, check_same_run};
pub(crate) use run::{check_positions, check_steps};
pub use run_folder::RunFolder;
pub(crate) use run_folder::has_begun;
pub use snapshot::{Snapshot, Tensors};
pub use start::{Start, check_same_start};
pub use state::{StepReport, TrainState};
pub use step_loop::{Event, Outcome};
pub(crate) use step_loop::{StepLoop, Stepped, Trainee};
pub use stored::StoredNetwork;
