//! The Slow Flow meter: how far generated states lag behind their sampling time.
//!
//! A network is trained on true interpolations `x_t = α_t x₁ + σ_t x₀` but sampled on its own states. For a generated state
//! at sampling time `t` the meter finds the time `m` of the nearest true interpolation; *Slow Flow* is the finding that `m`
//! lies below `t`, and ever more so as `t` grows (MixFlow Training, arXiv 2512.19311, figure 1).
//!
//! # Whose interpolation
//! `x₀` is the noise that the trajectory started from. The paper does not say which `x₁` it takes, and the numbers depend
//! on it:
//!
//! - the *final sample of the same trajectory*: `m(0) = 0` and `m(1) = 1` by construction, and what is left is how much the
//!   trajectory bends and how unevenly it moves;
//! - a *real image*, of the same class if there is one: `m(1) < 1`, as in figure 1, because no generated image is that
//!   real image.
//!
//! # Why it must be calibrated
//! With a real image the meter reads `m < t` even for states without any error: a second real image under the same noise is
//! not the first one either, and its projection falls short. So the same estimator is applied to true interpolations of
//! held-out real images ([`SlowFlow::record_interpolations`]), whose time is known; what it reads there is its bias, and
//! only what generated states lag behind *that* is Slow Flow. [`calibrate`] puts the two bands side by side.
//!
//! ```
//! use mixflow::evaluation::slow_flow::{SlowFlow, calibrate};
//!
//! let linear = |t: f64| (t, 1.0 - t);
//! let (noise, real, held_out) = ([0.3, -1.0], [1.0, 0.2], [0.9, 0.0]);
//! let mut generated = SlowFlow::new(linear, vec![0.0, 0.5, 1.0]);
//! for (step, state) in [[0.3, -1.0], [0.6, -0.5], [0.7, -0.1]].iter().enumerate() {
//!     generated.record(step, 2, &noise, &real, state)?;
//! }
//! let mut control = SlowFlow::new(linear, vec![0.0, 0.5, 1.0]);
//! control.record_interpolations(2, &noise, &real, &held_out)?;
//! let last = calibrate(&generated.bands(), &control.bands())[2];
//! assert!(last.generated.mean < last.real.mean && last.real.mean < 1.0);
//! # Ok::<(), mixflow::evaluation::metric::Error>(())
//! ```

mod band;

pub use band::{Band, CalibratedBand, calibrate, equivalent_time};

use rayon::prelude::*;

use crate::evaluation::metric::Error;

/// Points of the grid of times that is searched: 0, 0.001, ..., 1.
const GRID: usize = 1001;
const STEP: f64 = 1.0 / (GRID - 1) as f64;

/// Collects the nearest true time of states, for each sampling time.
///
/// The path is `t ↦ (α_t, σ_t)` in paper time, 0 noise and 1 data: `|t| (t, 1.0 - t)` is the linear one.
#[derive(Clone, Debug)]
pub struct SlowFlow<P> {
    path: P,
    grid: Vec<(f64, f64)>,
    times: Vec<f64>,
    found: Vec<Vec<f64>>,
}

/// The true interpolation nearest to a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearest {
    /// Its time, in [0, 1].
    pub m: f64,
    /// `|x − α_m x₁ − σ_m x₀|²`.
    pub squared_distance: f64,
}

impl<P: Fn(f64) -> (f64, f64) + Sync> SlowFlow<P> {
    /// A meter for states at these sampling times, in [0, 1]. Panics when one lies outside.
    pub fn new(path: P, times: Vec<f64>) -> Self {
        for t in &times {
            assert!((0.0..=1.0).contains(t), "expected sampling times in [0, 1], found {t}");
        }
        let grid = (0..GRID).map(|i| path(i as f64 * STEP)).collect();
        let found = vec![Vec::new(); times.len()];
        Self { path, grid, times, found }
    }

    /// The sampling times.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// Records a batch of states of sampling time `times[step]`; returns what it found for each.
    ///
    /// # Shapes
    /// - `noise`, `data`, `states`: `[batch, width]`, row-major, row by row of one trajectory each
    ///
    /// # Errors
    /// [`Error::NonFinite`] for the first example with a NaN or an infinity in any of the three; nothing is recorded.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of `width`, or there is no such step.
    pub fn record<V: Copy + Into<f64> + Sync>(
        &mut self,
        step: usize,
        width: usize,
        noise: &[V],
        data: &[V],
        states: &[V],
    ) -> Result<Vec<Nearest>, Error> {
        assert!(step < self.times.len(), "expected a step below {}, found {step}", self.times.len());
        check_shapes(width, noise, &[data, states]);
        let nearest = noise
            .par_chunks(width)
            .zip(data.par_chunks(width))
            .zip(states.par_chunks(width))
            .enumerate()
            .map(|(row, ((noise, data), state))| Projection::new(row, noise, data, state).map(|p| self.nearest(&p)))
            .collect::<Vec<Result<_, _>>>();
        let nearest = nearest.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.found[step].extend(nearest.iter().map(|nearest| nearest.m));
        Ok(nearest)
    }

    /// Records the control: true interpolations `α_t x + σ_t x₀` of `held_out` images `x` with the same noise, measured
    /// against the same `data`, at every sampling time.
    ///
    /// # Shapes
    /// - `noise`, `data`, `held_out`: `[batch, width]`
    ///
    /// # Errors, panics
    /// As [`SlowFlow::record`].
    pub fn record_interpolations<V: Copy + Into<f64> + Sync>(
        &mut self,
        width: usize,
        noise: &[V],
        data: &[V],
        held_out: &[V],
    ) -> Result<(), Error> {
        check_shapes(width, noise, &[data, held_out]);
        let [noise, data, held_out] = [noise, data, held_out].map(|v| v.iter().map(|&x| x.into()).collect::<Vec<_>>());
        for step in 0..self.times.len() {
            let (alpha, sigma) = (self.path)(self.times[step]);
            let states: Vec<f64> = held_out.iter().zip(&noise).map(|(x, noise)| alpha * x + sigma * noise).collect();
            self.record(step, width, &noise, &data, &states)?;
        }
        Ok(())
    }

    /// What was found, for each sampling time that has states.
    pub fn bands(&self) -> Vec<Band> {
        let recorded = self.times.iter().zip(&self.found).filter(|(_, found)| !found.is_empty());
        // Half a grid step is what the search can tell apart.
        recorded.map(|(&t, found)| Band::of(t, found, STEP / 2.0)).collect()
    }

    /// Least squares over the curve: the best grid point, the first of equals, refined by the parabola through it and its
    /// neighbours. The parabola is exact on linear paths and errs by the square of the grid step on curved ones.
    fn nearest(&self, projection: &Projection) -> Nearest {
        let distance = |i: usize| projection.squared_distance(self.grid[i]);
        let mut best = (0, f64::INFINITY);
        for i in 0..GRID {
            let found = distance(i);
            if found < best.1 {
                best = (i, found);
            }
        }
        let middle = best.0.clamp(1, GRID - 2);
        let [left, centre, right] = [distance(middle - 1), distance(middle), distance(middle + 1)];
        let curvature = left - 2.0 * centre + right;
        let shift = if curvature > 0.0 { 0.5 * (left - right) / curvature } else { best.0 as f64 - middle as f64 };
        let grid = best.0 as f64;
        let m = ((middle as f64 + shift).clamp(grid - 0.5, grid + 0.5) * STEP).clamp(0.0, 1.0);
        Nearest { m, squared_distance: projection.squared_distance((self.path)(m)).max(0.0) }
    }
}

/// The six inner products that hold every distance of one state to its curve.
struct Projection {
    state: f64,
    data: f64,
    noise: f64,
    state_data: f64,
    state_noise: f64,
    data_noise: f64,
}

impl Projection {
    fn new<V: Copy + Into<f64>>(row: usize, noise: &[V], data: &[V], state: &[V]) -> Result<Self, Error> {
        let mut sums = [0.0; 6];
        for (column, ((&n, &d), &s)) in noise.iter().zip(data).zip(state).enumerate() {
            let [n, d, s]: [f64; 3] = [n.into(), d.into(), s.into()];
            if let Some(value) = [n, d, s].into_iter().find(|value| !value.is_finite()) {
                return Err(Error::NonFinite { row, column, value });
            }
            for (sum, term) in sums.iter_mut().zip([s * s, d * d, n * n, s * d, s * n, d * n]) {
                *sum += term;
            }
        }
        let [state, data, noise, state_data, state_noise, data_noise] = sums;
        Ok(Self { state, data, noise, state_data, state_noise, data_noise })
    }

    /// `|x − α x₁ − σ x₀|²`.
    fn squared_distance(&self, (alpha, sigma): (f64, f64)) -> f64 {
        let curve = alpha * alpha * self.data + sigma * sigma * self.noise + 2.0 * alpha * sigma * self.data_noise;
        self.state + curve - 2.0 * (alpha * self.state_data + sigma * self.state_noise)
    }
}

fn check_shapes<V>(width: usize, noise: &[V], others: &[&[V]]) {
    assert!(
        width > 0 && noise.len().is_multiple_of(width),
        "expected whole rows of width {width}, found {} values",
        noise.len()
    );
    for other in others {
        assert_eq!(other.len(), noise.len(), "noise, data and states must have one shape");
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_PI_2;

    use super::*;
    use crate::evaluation::metric::fixture::{Fixture, noise};

    const WIDTH: usize = 8;

    fn linear(t: f64) -> (f64, f64) {
        (t, 1.0 - t)
    }

    fn cosine(t: f64) -> (f64, f64) {
        ((t * FRAC_PI_2).sin(), (t * FRAC_PI_2).cos())
    }

    fn matches(case: &str, path: fn(f64) -> (f64, f64), exact: bool) {
        let fixture = Fixture::load(&format!("slowflow/{case}"));
        let (start, states) = (fixture.tensor("in.x0"), fixture.tensor("out.trajectory"));
        let batch = start.len();
        let last = &states[states.len() - batch..];
        for (choice, data) in [("A", last.to_vec()), ("B", fixture.tensor("in.x1_data"))] {
            let mut meter = SlowFlow::new(path, (0..51).map(|i| f64::from(i) / 50.0).collect());
            let (mut m, mut distance) = (vec![], vec![]);
            for (step, state) in states.chunks(batch).enumerate() {
                let nearest = meter.record(step, WIDTH, &start, &data, state).unwrap();
                m.extend(nearest.iter().map(|nearest| nearest.m));
                distance.extend(nearest.iter().map(|nearest| nearest.squared_distance));
            }
            let out = |name: &str| fixture.tensor(&format!("out.{choice}.{name}"));
            let within_a_step = |found: &[f64], expected: &[f64]| {
                let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                // The manifest: exact up to one grid step.
                assert!(found.len() == expected.len() && worst <= STEP, "{case} {choice}: {worst}");
            };
            within_a_step(&m, &out("m"));
            fixture.assert_close(&distance, &out("min_sq_distance"));
            if exact {
                fixture.assert_close(&m, &out("m_continuous"));
            }
            let bands = meter.bands();
            let of = |field: fn(&Band) -> f64| bands.iter().map(field).collect::<Vec<_>>();
            within_a_step(&of(|band| band.min), &out("m_min"));
            within_a_step(&of(|band| band.max), &out("m_max"));
            within_a_step(&of(|band| band.mean), &out("m_mean"));
            fixture.assert_close(&of(|band| band.slow), &out("fraction_slow"));
            fixture.assert_close(&of(|band| band.t), &fixture.tensor("out.t"));
        }
    }

    #[test]
    fn linear_trajectories_match_the_reference() {
        matches("slowflow_linear", linear, true);
    }

    #[test]
    fn cosine_trajectories_match_the_reference() {
        matches("slowflow_gvp", cosine, false);
    }

    fn rows(count: usize, seed: u64) -> Vec<f64> {
        noise(count, WIDTH, seed).iter().flatten().map(|x| 4.0 * x - 2.0).collect()
    }

    #[test]
    fn true_interpolations_of_the_same_data_have_no_bias() {
        let (start, data) = (rows(20, 1), rows(20, 2));
        // The parabola errs by the square of the grid step on curved paths.
        for (path, tolerance) in [(linear as fn(f64) -> _, 1e-9), (cosine, STEP * STEP)] {
            let mut meter = SlowFlow::new(path, vec![0.0, 0.1234, 0.5, 0.98765, 1.0]);
            meter.record_interpolations(WIDTH, &start, &data, &data).unwrap();
            for band in meter.bands() {
                assert!((band.min - band.t).abs() < tolerance && (band.max - band.t).abs() < tolerance, "{band:?}");
                assert_eq!(band.slow, 0.0);
            }
        }
    }

    #[test]
    fn held_out_data_reveals_the_bias() {
        // Independent data of the variance of the noise: E m = t / 2, the projection onto (x₁ − x₀) / |x₁ − x₀|² of the
        // noise that is gone.
        let (start, data, held_out) = (rows(4000, 3), rows(4000, 4), rows(4000, 5));
        let mut meter = SlowFlow::new(linear, vec![0.0, 0.5, 1.0]);
        meter.record_interpolations(WIDTH, &start, &data, &held_out).unwrap();
        let bands = meter.bands();
        assert!(bands[0].mean < 1e-9);
        assert!((bands[1].mean - 0.25).abs() < 0.02, "{:?}", bands[1]);
        assert!((bands[2].mean - 0.5).abs() < 0.02, "{:?}", bands[2]);
    }

    #[test]
    fn calibration_recovers_a_known_lag() {
        // "Generated" states at t that are true interpolations of held-out data at 0.8 t: the raw meter says 0.4 t.
        let times: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
        let (start, data, held_out) = (rows(3000, 6), rows(3000, 7), rows(3000, 8));
        let mut control = SlowFlow::new(linear, times.clone());
        control.record_interpolations(WIDTH, &start, &data, &held_out).unwrap();
        let mut generated = SlowFlow::new(linear, times);
        for step in 0..11 {
            let (alpha, sigma) = linear(0.8 * generated.times()[step]);
            let states: Vec<_> = held_out.iter().zip(&start).map(|(x, noise)| alpha * x + sigma * noise).collect();
            generated.record(step, WIDTH, &start, &data, &states).unwrap();
        }
        for band in calibrate(&generated.bands(), &control.bands()) {
            assert!((band.equivalent_time - 0.8 * band.t).abs() < 5e-3, "{band:?}");
            assert!((band.lag - 0.1 * band.t).abs() < 0.02, "{band:?}");
        }
    }

    #[test]
    fn batches_do_not_change_the_bands() {
        let (start, data, states) = (rows(30, 9), rows(30, 10), rows(30, 11));
        let mut whole = SlowFlow::new(cosine, vec![0.5]);
        whole.record(0, WIDTH, &start, &data, &states).unwrap();
        let mut parts = SlowFlow::new(cosine, vec![0.5]);
        for at in (0..240).step_by(7 * WIDTH) {
            let rows = at..240.min(at + 7 * WIDTH);
            parts.record(0, WIDTH, &start[rows.clone()], &data[rows.clone()], &states[rows]).unwrap();
        }
        assert_eq!(whole.bands(), parts.bands());
    }

    #[test]
    fn a_diverged_trajectory_is_an_error() {
        let mut meter = SlowFlow::new(linear, vec![0.5]);
        let states = [0.0_f32, 1.0, 2.0, f32::INFINITY];
        let found = meter.record(0, 2, &[0.0; 4], &[1.0; 4], &states);
        assert!(matches!(found, Err(Error::NonFinite { row: 1, column: 1, .. })));
        assert!(meter.bands().is_empty());
    }
}
