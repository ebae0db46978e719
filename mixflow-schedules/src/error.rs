//! What can be wrong with a schedule, a timestep law or a grid.

/// A value that a schedule, a timestep law or a sampling grid cannot have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number lies outside its range.
    #[error("`{name}` must be {expected}, found {found}")]
    OutOfRange {
        /// The parameter, as it is spelled in a recipe.
        name: &'static str,
        /// The range it must lie in.
        expected: &'static str,
        /// The value that was given.
        found: f64,
    },
    /// The interval `[start, end]` has no width, the wrong direction, or no probability.
    #[error("the interval from {start} to {end} {problem}")]
    Interval {
        /// Where it starts, paper time.
        start: f64,
        /// Where it ends, paper time.
        end: f64,
        /// What is wrong with it and what to do.
        problem: &'static str,
    },
    /// A shift for images of another size.
    #[error("`shift.tokens` must be {expected}, those of the network's latents, found {found}")]
    Tokens {
        /// Tokens that the latents have.
        expected: usize,
        /// Tokens that the shift is for.
        found: usize,
    },
    /// Times of input and label inside another law, where slowing would be applied twice or thrown away.
    #[error(
        "`{kind}` must be the outermost timestep law: its input has a time beside that which its `base` draws, so put the \
         other laws inside that `base`, once"
    )]
    InnerTimes {
        /// Which law, in a recipe.
        kind: &'static str,
    },
    /// Times that are drawn by a law of their own, where Beta(2, 1) would be.
    #[error(
        "the times are {law}, and `MixFlow`'s label follows Beta(2, 1) in the place of uniform ones: two laws cannot both \
         draw it"
    )]
    CompetingLaw {
        /// The law, in words.
        law: String,
    },
}

impl Error {
    /// `Ok(found)` when `holds`, else [`Error::OutOfRange`].
    pub(crate) fn check(holds: bool, name: &'static str, expected: &'static str, found: f64) -> Result<f64, Self> {
        if holds { Ok(found) } else { Err(Self::OutOfRange { name, expected, found }) }
    }

    /// A finite number above 0.
    pub(crate) fn positive(name: &'static str, found: f64) -> Result<f64, Self> {
        Self::check(found > 0.0 && found.is_finite(), name, "a finite number above 0", found)
    }

    /// A number in [0, 1].
    pub(crate) fn unit(name: &'static str, found: f64) -> Result<f64, Self> {
        Self::check((0.0..=1.0).contains(&found), name, "in [0, 1]", found)
    }
}
