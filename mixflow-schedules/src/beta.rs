//! The Beta law.

use crate::{Error, TimeLaw};

/// The Beta law, density proportional to `t^(alpha−1) (1−t)^(beta−1)`.
///
/// MixFlow Training labels its examples by Beta(2, 1), density `2t`, which makes `(m, t)` uniform on its triangle.
/// `alpha = 1` or `beta = 1` has a closed form (`√u` for Beta(2, 1)); any other law is inverted numerically to about
/// 1e-14, some microseconds a draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beta {
    alpha: f64,
    beta: f64,
}

impl Beta {
    /// MixFlow Training's law of the label, Beta(2, 1) (arXiv 2512.19311).
    pub const MIXFLOW: Self = Self { alpha: 2.0, beta: 1.0 };

    /// The law with the given shapes, both in [0.01, 1000].
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for shapes beyond that; their draws would be the ends or one point of the interval.
    pub fn new(alpha: f64, beta: f64) -> Result<Self, Error> {
        let shape = |name, found| Error::check((0.01..=1000.0).contains(&found), name, "in [0.01, 1000]", found);
        Ok(Self { alpha: shape("alpha", alpha)?, beta: shape("beta", beta)? })
    }

    /// `alpha` and `beta`.
    pub fn shapes(&self) -> [f64; 2] {
        [self.alpha, self.beta]
    }
}

impl TimeLaw for Beta {
    fn quantile(&self, u: f64) -> f64 {
        match (self.alpha, self.beta) {
            (1.0, 1.0) => u,
            (2.0, 1.0) => u.sqrt(),
            (alpha, 1.0) => u.powf(1.0 / alpha),
            (1.0, beta) => -((-u).ln_1p() / beta).exp_m1(),
            (alpha, beta) => inverse(alpha, beta, u),
        }
    }
}

/// Solves `I_t(a, b) = u` by Newton's method, falling back on bisection wherever a step leaves the bracket.
fn inverse(a: f64, b: f64, u: f64) -> f64 {
    let log_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    let (mut low, mut high, mut t) = (0.0, 1.0, a / (a + b));
    for _ in 0..200 {
        let excess = cumulative(a, b, log_beta, t) - u;
        if excess > 0.0 {
            high = t
        } else {
            low = t
        }
        let density = ((a - 1.0) * t.ln() + (b - 1.0) * (-t).ln_1p() - log_beta).exp();
        let newton = t - excess / density;
        let next = if low < newton && newton < high { newton } else { 0.5 * (low + high) };
        if (next - t).abs() <= 1e-15 * t {
            return next;
        }
        t = next;
    }
    t
}

/// The regularised incomplete beta function `I_t(a, b)` by its continued fraction (DLMF 8.17.22), evaluated on the
/// side of the mean where it converges fast.
fn cumulative(a: f64, b: f64, log_beta: f64, t: f64) -> f64 {
    let front = |a: f64, t: f64, b: f64| (a * t.ln() + b * (-t).ln_1p() - log_beta).exp() / a;
    if t <= 0.0 || t >= 1.0 {
        t.clamp(0.0, 1.0)
    } else if t < (a + 1.0) / (a + b + 2.0) {
        front(a, t, b) / continued_fraction(a, b, t)
    } else {
        1.0 - front(b, 1.0 - t, a) / continued_fraction(b, a, 1.0 - t)
    }
}

/// `1 + d₁/(1 + d₂/(1 + …))`, by the modified Lentz method.
fn continued_fraction(a: f64, b: f64, t: f64) -> f64 {
    let (mut value, mut c, mut d) = (1.0, 1.0, 0.0);
    for i in 1..500 {
        let m = f64::from(i / 2);
        let numerator = if i % 2 == 0 {
            m * (b - m) * t / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * t / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / (1.0 + numerator * d);
        c = 1.0 + numerator / c;
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// `ln Γ(x)` for `x > 0`: Stirling's series (DLMF 5.11.1) after raising the argument above 10, error below 1e-15.
fn ln_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y * (1.0 / 1188.0 - y * 691.0 / 360_360.0)))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beta(a: f64, b: f64) -> Beta {
        Beta::new(a, b).unwrap()
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn quantiles_match_closed_forms(u in 0.0..1.0_f64) {
            prop_assert_eq!(beta(2.0, 1.0).quantile(u), u.sqrt());
            prop_assert!((beta(3.0, 1.0).quantile(u) - u.cbrt()).abs() < 1e-15);
            prop_assert!((beta(1.0, 2.0).quantile(u) - (1.0 - (1.0 - u).sqrt())).abs() < 1e-15);
            // The arcsine law.
            let arcsine = (std::f64::consts::FRAC_PI_2 * u).sin().powi(2);
            prop_assert!((beta(0.5, 0.5).quantile(u) - arcsine).abs() < 1e-13);
            // Beta(2, 2) has the distribution function 3t² − 2t³.
            let t = beta(2.0, 2.0).quantile(u);
            prop_assert!((t * t * (3.0 - 2.0 * t) - u).abs() < 1e-13);
        }

        /// The numeric inversion also reproduces the closed forms it is not used for.
        #[test]
        fn inversion_matches_closed_forms(u in 1e-6..1.0_f64, a in 0.05..50.0_f64) {
            prop_assert!((inverse(a, 1.0, u) - u.powf(1.0 / a)).abs() < 1e-13);
        }

        #[test]
        fn exchanging_the_shapes_mirrors_the_law(u in 0.01..0.99_f64, a in 0.1..40.0_f64, b in 0.1..40.0_f64) {
            let (left, right) = (beta(a, b).quantile(u), 1.0 - beta(b, a).quantile(1.0 - u));
            prop_assert!((left - right).abs() < 1e-12, "{left} {right}");
        }
    }

    #[test]
    fn log_gamma_matches_factorials() {
        let mut factorial = 1.0_f64;
        for n in 1..20 {
            assert!((ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-14 * (1.0 + factorial.ln()));
            factorial *= f64::from(n);
        }
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-14);
    }

    #[test]
    fn extreme_shapes_stay_in_the_interval() {
        for [a, b] in [[0.01, 0.01], [0.01, 1000.0], [1000.0, 0.01], [1000.0, 1000.0]] {
            for u in [0.0, 1e-12, 0.3, 0.999_999] {
                let t = beta(a, b).quantile(u);
                assert!((0.0..=1.0).contains(&t), "Beta({a}, {b}) at {u}: {t}");
            }
        }
        assert!(Beta::new(f64::NAN, 1.0).is_err() && Beta::new(2.0, 0.0).is_err());
    }
}
