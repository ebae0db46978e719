//! The resolution shift.

use crate::{Error, TimeLaw};

/// A law moved towards noise to suit a larger image: `t ← t / (s − (s − 1) t)`.
///
/// In the noise-ward time of the source this reads `t ← s t / (1 + (s − 1) t)`. RAE takes `s = √(D/4096)` for `D` latent
/// numbers per image, 6.93 at 256 px.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), eq. 23; RAE (`bytetriper/RAE`, src/stage2/transport/transport.py, a4d18c4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shifted<L> {
    shift: f64,
    base: L,
}

impl<L: TimeLaw> Shifted<L> {
    /// `base` shifted by `shift`; 1 changes nothing, above 1 moves towards noise.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless the shift is finite and above 0.
    pub fn new(shift: f64, base: L) -> Result<Self, Error> {
        Ok(Self { shift: Error::positive("shift", shift)?, base })
    }
}

impl<L> Shifted<L> {
    /// The shift and the law that it moves.
    pub fn parts(&self) -> (f64, &L) {
        (self.shift, &self.base)
    }
}

impl<L: TimeLaw> TimeLaw for Shifted<L> {
    fn quantile(&self, u: f64) -> f64 {
        shift_time(self.shift, self.base.quantile(u))
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
}
