//! One step of a solver.

/// An interval of a grid of times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 0.
    pub index: usize,
    /// Where it begins, in paper time.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Whether none follows.
    pub last: bool,
}
