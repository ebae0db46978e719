//! The resolution shift.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, TimeLaw};

/// How far times are moved towards noise: by a factor, or by one that grows with the image.
///
/// ```
/// use mixflow_schedules::{Shift, TimeGrid};
///
/// let grid: TimeGrid = serde_json::from_str(r#"{"steps": 28, "shift": {"tokens": 4096}}"#)?;
/// assert_eq!(grid, TimeGrid::new(28)?.shift(Shift::of_tokens(4096))?);
/// assert!((Shift::of_tokens(4096).factor() - 1.15_f64.exp()).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or {\"tokens\": 4096} with `base` and `max` if need be")]
pub enum Shift {
    /// This one: 3 of Stable Diffusion 3.
    Factor(f64),
    /// One for the number of an image's tokens, as of FLUX.1-dev.
    Tokens(TokenShift),
}

/// The shift `exp(μ)`, where `μ` is on the straight line through `base` at 256 tokens and `max` at 4096, below and above them, too.
///
/// # Source
/// `calculate_shift` of `diffusers` 0.42.1, `pipelines/flux/pipeline_flux.py`; `get_schedule` of `black-forest-labs/flux` at
/// 802fb47, `src/flux/sampling.py`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenShift {
    /// Those of an image: squares of two by two latents.
    pub tokens: usize,
    /// At 256 tokens, images of 256 pixels; 0.5 unless given.
    #[serde(default = "half")]
    pub base: f64,
    /// At 4096 tokens, images of 1024 pixels; 1.15 unless given.
    #[serde(default = "most")]
    pub max: f64,
}

fn half() -> f64 {
    0.5
}

fn most() -> f64 {
    1.15
}

impl Shift {
    /// That of FLUX.1-dev for images of so many tokens.
    pub fn of_tokens(tokens: usize) -> Self {
        Self::Tokens(TokenShift { tokens, base: half(), max: most() })
    }

    /// By how much; 1 changes nothing, above 1 moves towards noise.
    pub fn factor(self) -> f64 {
        match self {
            Self::Factor(factor) => factor,
            Self::Tokens(TokenShift { tokens, base, max }) => {
                let [few, many] = [256.0, 4096.0];
                (base + (max - base) * (tokens as f64 - few) / (many - few)).exp()
            }
        }
    }

    /// The same for latents of this height and width.
    #[must_use]
    pub fn for_latents(self, size: [usize; 2]) -> Self {
        match self {
            Self::Factor(_) => self,
            Self::Tokens(shift) => Self::Tokens(TokenShift { tokens: tokens(size), ..shift }),
        }
    }

    /// Refuses one for another number of tokens than latents of this size have.
    ///
    /// # Errors
    /// [`Error::Tokens`].
    pub fn check_latents(self, size: [usize; 2]) -> Result<(), Error> {
        match self {
            Self::Tokens(shift) if shift.tokens != tokens(size) => {
                Err(Error::Tokens { expected: tokens(size), found: shift.tokens })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn checked(self) -> Result<Self, Error> {
        Error::positive("shift", self.factor())?;
        Ok(self)
    }
}

/// Of two by two latents each.
fn tokens([height, width]: [usize; 2]) -> usize {
    (height / 2) * (width / 2)
}

impl From<f64> for Shift {
    fn from(factor: f64) -> Self {
        Self::Factor(factor)
    }
}

/// The factor, such as "3.16, for 4096 tokens".
impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factor(factor) => write!(f, "{factor}"),
            Self::Tokens(shift) => write!(f, "{:.2}, for {} tokens", self.factor(), shift.tokens),
        }
    }
}

/// A law moved towards noise to suit a larger image: `t ← t / (s − (s − 1) t)`.
///
/// In the noise-ward time of the source this reads `t ← s t / (1 + (s − 1) t)`. RAE takes `s = √(D/4096)` for `D` latent
/// numbers per image, 6.93 at 256 px.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), eq. 23; RAE (`bytetriper/RAE`, src/stage2/transport/transport.py, a4d18c4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shifted<L> {
    shift: Shift,
    base: L,
}

impl<L: TimeLaw> Shifted<L> {
    /// `base` shifted by `shift`; 1 changes nothing, above 1 moves towards noise.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless the shift is finite and above 0.
    pub fn new(shift: impl Into<Shift>, base: L) -> Result<Self, Error> {
        Ok(Self { shift: shift.into().checked()?, base })
    }
}

impl<L> Shifted<L> {
    /// The shift and the law that it moves.
    pub fn parts(&self) -> (Shift, &L) {
        (self.shift, &self.base)
    }
}

impl<L: TimeLaw> TimeLaw for Shifted<L> {
    fn quantile(&self, u: f64) -> f64 {
        shift_time(self.shift.factor(), self.base.quantile(u))
    }
}

/// The shift of one paper time, exact at both ends and for `shift = 1`.
pub(crate) fn shift_time(shift: f64, t: f64) -> f64 {
    t / (t + shift * (1.0 - t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Uniform;

    #[test]
    fn the_shift_keeps_the_ends_and_composes() {
        for shift in [0.5, 1.0, 3.0, 6.93] {
            assert_eq!((shift_time(shift, 0.0), shift_time(shift, 1.0)), (0.0, 1.0));
            let twice = shift_time(shift, shift_time(2.0, 0.3));
            assert!((twice - shift_time(2.0 * shift, 0.3)).abs() < 1e-15);
        }
        assert_eq!(shift_time(3.0, 0.5), 0.25);
    }

    #[test]
    fn a_shift_of_zero_is_refused() {
        let error = Shifted::new(0.0, Uniform).unwrap_err();
        assert_eq!(error.to_string(), "`shift` must be a finite number above 0, found 0");
    }

    #[test]
    fn a_shift_by_tokens_is_the_published_line() {
        let mu = |tokens| Shift::of_tokens(tokens).factor().ln();
        for (tokens, expected) in
            [(256, 0.5), (4096, 1.15), (1024, 0.63), (16, 0.459375), (8192, 1.15 + 0.65 * 16.0 / 15.0)]
        {
            assert!((mu(tokens) - expected).abs() < 1e-12, "{tokens}: {}", mu(tokens));
        }
        let law: Shifted<Uniform> = Shifted::new(Shift::of_tokens(1024), Uniform).unwrap();
        assert!((law.quantile(0.3) - shift_time(0.63f64.exp(), 0.3)).abs() < 1e-15);
        assert_eq!(Shift::of_tokens(1).for_latents([96, 168]), Shift::of_tokens(4032));
        assert_eq!(Shift::from(3.0).for_latents([96, 168]), Shift::Factor(3.0));
        let error = Shift::of_tokens(1024).check_latents([128, 128]).unwrap_err().to_string();
        assert_eq!(error, "`shift.tokens` must be 4096, those of the network's latents, found 1024");
    }

    #[test]
    fn a_shift_is_a_number_or_tokens() {
        let read = |json: &str| serde_json::from_str::<Shift>(json);
        assert_eq!(read("3").unwrap(), Shift::Factor(3.0));
        let own = Shift::Tokens(TokenShift { tokens: 64, base: 0.1, max: 2.0 });
        assert_eq!(read(r#"{"tokens": 64, "base": 0.1, "max": 2}"#).unwrap(), own);
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(read(&text).unwrap(), own);
        for json in [r#""much""#, r#"{"token": 64}"#, r#"{"tokens": 64, "most": 2}"#] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("a number, or {\"tokens\": 4096}"), "{json}: {error}");
        }
        let huge = Shift::Tokens(TokenShift { tokens: usize::MAX, base: 0.0, max: 9.0 });
        assert!(Shifted::new(huge, Uniform).is_err());
    }
}
