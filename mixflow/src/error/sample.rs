//! Why sampling stopped.

/// Why sampling stopped, or was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A setting out of its range.
    #[error("{0}")]
    Config(String),
    /// A recipe names a solver of a program's own, which this program has not put into it.
    #[error("the solver {name} is another program's own: put it into the recipe, or choose one that comes along")]
    NoSolver {
        /// Its name.
        name: String,
    },
    /// A number that is not finite in the state.
    #[error(
        "the samples are no longer finite after the step to t = {}: in it the network's output is not finite, or the path is \
         singular (keep the sampling grid away from its ends)",
        rounded(*t)
    )]
    NonFinite {
        /// Paper time of the first state that is not finite.
        t: f64,
    },
    /// The adaptive step no longer advances time.
    #[error(
        "the adaptive step fell to {step:e} at t = {t}: the velocity is too rough for these tolerances, raise them"
    )]
    StepUnderflow {
        /// Paper time reached.
        t: f64,
        /// Step size, in paper time.
        step: f64,
    },
    /// The adaptive solver used up its steps.
    #[error("{limit} adaptive steps reached only t = {t}: raise the tolerances or `max_steps`")]
    StepLimit {
        /// Paper time reached.
        t: f64,
        /// Steps allowed.
        limit: usize,
    },
}

/// Without the rounding of its last digits.
fn rounded(t: f64) -> f64 {
    (t * 1e6).round() / 1e6
}
