//! A path that begins with noise of another size.

use crate::{Coefficients, Schedule};

/// The same path from noise of standard deviation `noise`: `x_t = α x + noise σ ε`.
///
/// In pixels, where neighbours are alike, noise of deviation 1 leaves a large image visible for long: JiT and MiniT2I take 2.
///
/// # Source
/// Li and He 2025 (arXiv 2511.13720), section 4; `Hope7Happiness/minit2i-torch` at e54e15d, `mini_t2i/diffusion.py`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled<S> {
    /// The path with noise of deviation 1.
    pub path: S,
    /// Standard deviation of the noise, above 0.
    pub noise: f64,
}

impl<S: Schedule> Schedule for Scaled<S> {
    fn at(&self, t: f64) -> Coefficients {
        let at = self.path.at(t);
        Coefficients { sigma: self.noise * at.sigma, d_sigma: self.noise * at.d_sigma, ..at }
    }
}

/// Standard deviation of what a path begins with, for data of deviation 1: what sampling starts from.
///
/// 1 on every path but those of [`Scaled`] noise, up to rounding where a path starts with some of the data.
pub fn noise_scale(schedule: &dyn Schedule) -> f64 {
    let at = schedule.at(0.0);
    at.alpha.hypot(at.sigma)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ddpm, Linear, Prediction, Reversed, same_path, schedule::tests::all};

    #[test]
    fn paths_begin_with_their_noise() {
        for path in all().into_iter().chain([Box::new(Ddpm) as Box<dyn Schedule>]) {
            // As `f32`, in which noise is multiplied by it.
            assert_eq!(noise_scale(&path) as f32, 1.0, "{path:?}");
        }
        assert_eq!(noise_scale(&Reversed(Scaled { path: Linear, noise: 2.0 })), 2.0);
    }

    /// Noise of deviation `s` is the path of data that are `s` times smaller, `s` times larger.
    #[test]
    fn scaled_noise_is_data_scaled_the_other_way() {
        for path in all() {
            let (scaled, (data, noise)) = (Scaled { path: &path, noise: 2.0 }, (0.3, -1.7));
            assert!(!same_path(&path, &scaled));
            for t in [0.1, 0.5, 0.9] {
                let (at, plain) = (scaled.at(t), path.at(t));
                let x_t = at.alpha * data + at.sigma * noise;
                assert!((x_t - 2.0 * (plain.alpha * data / 2.0 + plain.sigma * noise)).abs() < 1e-14);
                // What the data say of the velocity is what the velocity is.
                let [a, b] = Prediction::Velocity.coordinates(&at);
                let read = Prediction::Data.convert(Prediction::Velocity, &at).apply(x_t, data);
                assert!((read - (a * data + b * noise)).abs() < 1e-12, "{path:?} {t}");
            }
        }
    }
}
