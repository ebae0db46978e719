//! MixFlow Training: inputs noisier than their label says.

use crate::{Beta, Error, TimeLaw, Timestep, TimestepSampler};

/// MixFlow Training: the label `t` from a law, the input at the slowed time `m ~ U[(1 − γ) t, t]`.
///
/// `γ = 0` is the base law itself, bit for bit: the stream of `t` does not depend on `γ`. There is no default: the paper
/// takes 0.8 for SiT, its authors 0.4 for RAE.
///
/// Only a [`TimeLaw`] can be slowed, so slowing twice, or shifting a time that is already slowed, does not compile:
///
/// ```compile_fail
/// use mixflow_schedules::MixFlow;
/// MixFlow::wrap(0.4, MixFlow::new(0.4));
/// ```
///
/// # Source
/// Li et al., MixFlow Training (arXiv 2512.19311). The authors' noise-ward `t = 1 − √u`, `m = t + γ u′ (1 − t)` are the same draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixFlow<L = Beta> {
    gamma: f64,
    base: L,
}

impl MixFlow {
    /// The paper's law: `t ~ Beta(2, 1)`, slowed by up to `gamma` ∈ [0, 1].
    ///
    /// # Panics
    /// If `gamma` is not in [0, 1]; [`MixFlow::try_wrap`] returns an error instead.
    pub fn new(gamma: f64) -> Self {
        Self::wrap(gamma, Beta::MIXFLOW)
    }
}

impl<L: TimeLaw> MixFlow<L> {
    /// The times of `base`, slowed by up to `gamma` ∈ [0, 1].
    ///
    /// # Panics
    /// If `gamma` is not in [0, 1]; [`MixFlow::try_wrap`] returns an error instead.
    pub fn wrap(gamma: f64, base: L) -> Self {
        Self::try_wrap(gamma, base).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`MixFlow::wrap`], for a `gamma` that somebody typed.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `gamma` is not in [0, 1].
    pub fn try_wrap(gamma: f64, base: L) -> Result<Self, Error> {
        Ok(Self { gamma: Error::unit("gamma", gamma)?, base })
    }
}

impl<L> MixFlow<L> {
    /// The slowing range and the law of the label.
    pub fn parts(&self) -> (f64, &L) {
        (self.gamma, &self.base)
    }
}

impl<L: TimeLaw> TimestepSampler for MixFlow<L> {
    fn timestep(&self, [u, slowing]: [f64; 2]) -> Timestep {
        let t = self.base.quantile(u);
        Timestep { t, m: t * (1.0 - self.gamma * slowing) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

    use super::*;
    use crate::law::tests::all;

    proptest! {
        #![proptest_config(crate::seeded())]

        /// In floating point too, without a tolerance: each rounding is monotone.
        #[test]
        fn the_input_is_slowed_within_its_range(gamma in 0.0..=1.0_f64, u in 0.0..1.0_f64, v in 0.0..1.0_f64) {
            for law in all() {
                let Timestep { t, m } = MixFlow::wrap(gamma, law).timestep([u, v]);
                prop_assert!((1.0 - gamma) * t <= m && m <= t);
            }
        }

        /// Same times, and the generator is left in the same state: what is drawn next (noise) is the same too.
        #[test]
        fn gamma_zero_is_flow_matching(seed: u64) {
            for law in all() {
                let (mut a, mut b) = (ChaCha8Rng::seed_from_u64(seed), ChaCha8Rng::seed_from_u64(seed));
                let mixflow = MixFlow::wrap(0.0, &law);
                for _ in 0..20 {
                    prop_assert_eq!(law.sample(&mut a), mixflow.sample(&mut b));
                }
                prop_assert_eq!(a.next_u64(), b.next_u64());
            }
        }

        #[test]
        fn labels_do_not_depend_on_gamma(seed: u64, gamma in 0.0..=1.0_f64) {
            let (mut a, mut b) = (ChaCha8Rng::seed_from_u64(seed), ChaCha8Rng::seed_from_u64(seed));
            for _ in 0..20 {
                prop_assert_eq!(MixFlow::new(0.0).sample(&mut a).t, MixFlow::new(gamma).sample(&mut b).t);
            }
        }

        /// The authors' noise-ward arithmetic on the same draws is one minus ours.
        #[test]
        fn directions_mirror_each_other(gamma in 0.0..=1.0_f64, u in 0.0..1.0_f64, v in 0.0..1.0_f64) {
            let Timestep { t, m } = MixFlow::new(gamma).timestep([u, v]);
            let t_noiseward = 1.0 - u.sqrt();
            let m_noiseward = t_noiseward + v * gamma * (1.0 - t_noiseward);
            prop_assert!((t + t_noiseward - 1.0).abs() < 1e-15 && (m + m_noiseward - 1.0).abs() < 1e-15);
        }
    }

    /// E t = 2/3, Var t = 1/18, E m = (2/3)(1 − γ/2), E m² = ½ (1 − γ + γ²/3); the means of 100,000 draws lie within
    /// five standard errors, below one chance in a million each.
    #[test]
    fn moments_match_closed_forms() {
        let draws = 100_000;
        for gamma in [0.0, 0.4, 0.8, 1.0] {
            let mut rng = ChaCha8Rng::seed_from_u64(2512_19311);
            let (mut t_mean, mut m_mean) = (0.0, 0.0);
            for _ in 0..draws {
                let Timestep { t, m } = MixFlow::new(gamma).sample(&mut rng);
                t_mean += t / f64::from(draws);
                m_mean += m / f64::from(draws);
            }
            let expected = 2.0 / 3.0 * (1.0 - gamma / 2.0);
            let variance = 0.5 * (1.0 - gamma + gamma * gamma / 3.0) - expected * expected;
            let error = |variance: f64| 5.0 * (variance / f64::from(draws)).sqrt();
            assert!((t_mean - 2.0 / 3.0).abs() < error(1.0 / 18.0), "{gamma}: {t_mean}");
            assert!((m_mean - expected).abs() < error(variance), "{gamma}: {m_mean}");
        }
    }

    #[test]
    #[should_panic(expected = "`gamma` must be in [0, 1], found 1.5")]
    fn a_gamma_above_one_is_refused() {
        MixFlow::new(1.5);
    }

    #[test]
    fn a_boxed_sampler_is_a_sampler() {
        let boxed: Box<dyn TimestepSampler> = Box::new(MixFlow::new(0.4));
        assert_eq!(boxed.timestep([0.3, 0.6]), MixFlow::new(0.4).timestep([0.3, 0.6]));
    }
}
