//! Methods that choose their own steps.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::pair::Weights;
use super::tableau::combine;
use super::{Deterministic, NoiseSource, Pair, SampleError, Solver, check_times, finite};
use crate::sampling::Flow;

/// A Runge–Kutta method that chooses its own steps; two evaluations to start.
///
/// A step is accepted when the root mean square of `error / (atol + rtol · |x|)` over the whole batch is at most 1: the
/// batch takes its steps together, so samples depend, within the tolerances, on what else is in their batch, and each
/// counts the evaluations of all. States between two steps are interpolated by a quartic.
///
/// # Source
/// Step control, starting step and interpolation as in torchdiffeq 0.2.5. As there, the last step may pass the last time
/// and is interpolated back. Where the flow does not exist beyond it (VP at data), that step is tried again up to the
/// last time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Adaptive {
    pair: Pair,
    atol: f64,
    rtol: f64,
    max_steps: usize,
}

impl Adaptive {
    /// Absolute and relative tolerance of a step, and at most 1,000 steps. SiT uses [`Pair::DormandPrince5`] with 1e-6
    /// and 1e-3.
    ///
    /// # Errors
    /// [`SampleError::Config`] unless both are finite and above 0.
    pub fn new(pair: Pair, atol: f64, rtol: f64) -> Result<Self, SampleError> {
        Self { pair, atol, rtol, max_steps: MAX_STEPS }.validated()
    }

    /// The pair of methods.
    #[must_use]
    pub fn pair(&self) -> Pair {
        self.pair
    }

    /// Stops with an error after `max_steps` steps, the rejected ones included.
    ///
    /// # Errors
    /// [`SampleError::Config`] for no steps at all.
    pub fn max_steps(self, max_steps: usize) -> Result<Self, SampleError> {
        Self { max_steps, ..self }.validated()
    }

    fn validated(self) -> Result<Self, SampleError> {
        for (name, value) in [("atol", self.atol), ("rtol", self.rtol)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(SampleError::Config(format!("`{name}` must be a finite number above 0, found {value}")));
            }
        }
        if self.max_steps == 0 {
            return Err(SampleError::Config("`max_steps` must be at least 1, found 0".into()));
        }
        Ok(self)
    }

    /// Root mean square of `error`, in units of the tolerance at `size`: of the state or of what it carries along,
    /// whichever is larger, as torchdiffeq judges tuples.
    fn ratio(&self, field: &Field<'_>, error: Tensor<4>, size: Tensor<4>) -> f64 {
        let square = (error / (size * self.rtol + self.atol)).square();
        let (channels, carried) = (square.dims()[1], field.flow.carried());
        let root = |start, length| square.clone().narrow(1, start, length).mean().into_scalar::<f64>().sqrt();
        let state = root(0, channels - carried);
        // `f64::max` would drop a NaN.
        if carried == 0 || state.is_nan() { state } else { root(channels - carried, carried).max(state) }
    }

    /// The starting step of Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", section II.4.
    fn first_step(&self, field: &Field<'_>, x: &Tensor<4>, slope: &Tensor<4>) -> f64 {
        let size = x.clone().abs();
        let d0 = self.ratio(field, x.clone(), size.clone());
        let d1 = self.ratio(field, slope.clone(), size.clone());
        let probe = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
        let ahead = field.slope(x.clone() + slope.clone() * probe, probe);
        let d2 = self.ratio(field, ahead - slope.clone(), size) / probe;
        let step = if d1 <= 1e-15 && d2 <= 1e-15 {
            f64::max(1e-6, probe * 1e-3)
        } else {
            (0.01 / d1.max(d2)).powf(1.0 / self.pair.weights().order)
        };
        step.min(100.0 * probe)
    }
}

impl Solver for Adaptive {
    fn solve(
        &self,
        flow: &Flow<'_>,
        mut x: Tensor<4>,
        times: &[f64],
        _: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        let [start, .., end] = *times else {
            times.iter().for_each(|&t| visit(t, &x));
            return Ok(x);
        };
        check_times(times)?;
        let field = Field::new(flow, start, end);
        let length = field.length;
        visit(start, &x);
        let mut wanted = times[1..].iter().copied().peekable();

        let mut slope = finite(field.slope(x.clone(), 0.0), start)?;
        let mut step = self.first_step(&field, &x, &slope);
        let mut at = 0.0;
        for _ in 0..self.max_steps {
            if step <= length * f64::EPSILON {
                let step = field.time(at + step) - field.time(at);
                return Err(SampleError::StepUnderflow { t: field.time(at), step });
            }
            let tried = Step::take(&field, self.pair, x.clone(), slope.clone(), at, step);
            let ratio = self.ratio(&field, tried.error(), x.clone().abs().max_pair(tried.end.clone().abs()));
            if ratio.is_nan() && at + step > length {
                step = length - at;
                continue;
            }
            if ratio.is_nan() {
                return Err(SampleError::NonFinite { t: field.time(at) });
            }
            if ratio <= 1.0 {
                let reached = at + step;
                while let Some(t) = wanted.next_if(|&t| field.at(t) <= reached) {
                    let state = finite(tried.interpolate((field.at(t) - at) / step), t)?;
                    visit(t, &state);
                    if wanted.peek().is_none() {
                        return Ok(state);
                    }
                }
                (x, slope, at) = (tried.end.clone(), tried.after(), reached);
            }
            step *= factor(ratio, self.pair.weights().order);
        }
        Err(SampleError::StepLimit { t: field.time(at), limit: self.max_steps })
    }
}

impl Deterministic for Adaptive {}

/// How much larger the next step is: between a fifth and ten times, and never smaller after an accepted step.
fn factor(ratio: f64, order: f64) -> f64 {
    let least = if ratio < 1.0 { 1.0 } else { 0.2 };
    (0.9 / ratio.powf(1.0 / order)).max(least).min(10.0)
}

/// The flow with its native time counted from 0 at the start, upwards.
struct Field<'f> {
    flow: &'f Flow<'f>,
    start: f64,
    end: f64,
    /// From start to end.
    length: f64,
}

impl<'f> Field<'f> {
    fn new(flow: &'f Flow<'f>, start: f64, end: f64) -> Self {
        Self { flow, start, end, length: flow.elapsed(start, end).abs() }
    }

    fn at(&self, t: f64) -> f64 {
        self.flow.elapsed(self.start, t).abs()
    }

    fn time(&self, at: f64) -> f64 {
        self.flow.between(self.start, self.end, at / self.length)
    }

    fn slope(&self, x: Tensor<4>, at: f64) -> Tensor<4> {
        self.flow.velocity(x, self.time(at)) * self.flow.elapsed(self.start, self.end).signum()
    }
}

/// One step that was tried.
struct Step {
    weights: &'static Weights,
    size: f64,
    start: Tensor<4>,
    end: Tensor<4>,
    slopes: Vec<Tensor<4>>,
}

impl Step {
    fn take(field: &Field<'_>, pair: Pair, start: Tensor<4>, slope: Tensor<4>, at: f64, size: f64) -> Self {
        let weights = pair.weights();
        let (slopes, end) = weights.tableau.step(&start, slope, size, |x, share| field.slope(x, at + share * size));
        Self { weights, size, start, end, slopes }
    }

    /// The difference to the embedded solution.
    fn error(&self) -> Tensor<4> {
        combine(&self.slopes, self.weights.error) * self.size
    }

    /// The last slope, with which the next step starts.
    fn after(&self) -> Tensor<4> {
        self.slopes.last().expect("a step has slopes").clone()
    }

    /// The state at `start + share · size`, from the quartic through both ends, their slopes and the middle.
    fn interpolate(&self, share: f64) -> Tensor<4> {
        let (x0, x1) = (self.start.clone(), self.end.clone());
        let middle = x0.clone() + combine(&self.slopes, self.weights.middle) * self.size;
        let (s, s2, s3, s4) = (share, share.powi(2), share.powi(3), share.powi(4));
        let slopes =
            self.slopes[0].clone() * (s - 4.0 * s2 + 5.0 * s3 - 2.0 * s4) + self.after() * (s2 - 3.0 * s3 + 2.0 * s4);
        slopes * self.size
            + x0 * (1.0 - 11.0 * s2 + 18.0 * s3 - 8.0 * s4)
            + x1 * (-5.0 * s2 + 14.0 * s3 - 8.0 * s4)
            + middle * (16.0 * s2 - 32.0 * s3 + 16.0 * s4)
    }
}

const MAX_STEPS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    pair: Pair,
    atol: f64,
    rtol: f64,
    #[serde(default = "default_max_steps")]
    max_steps: usize,
}

fn default_max_steps() -> usize {
    MAX_STEPS
}

impl TryFrom<Fields> for Adaptive {
    type Error = SampleError;

    fn try_from(Fields { pair, atol, rtol, max_steps }: Fields) -> Result<Self, SampleError> {
        Self { pair, atol, rtol, max_steps }.validated()
    }
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::{Linear, Prediction};

    use super::super::testing::{Gaussian, numbers, order, point, schedules, silent};
    use super::*;

    /// With the step held fixed: the largest error at the ends of steps, and between them, where one step of a
    /// fourth-order interpolant has an error of fifth order.
    #[test]
    fn steps_are_fifth_order_and_interpolation_fourth() {
        for schedule in schedules() {
            for (start, end) in [(0.3, 0.8), (0.8, 0.3)] {
                let gaussian = Gaussian(&schedule);
                let flow = gaussian.flow();
                let field = Field::new(&flow, start, end);
                let errors = |steps: usize| {
                    let size = field.length / steps as f64;
                    let (mut x, mut worst) = (point(1.3), [0.0_f64; 2]);
                    for at in (0..steps).map(|index| index as f64 * size) {
                        let step = Step::take(&field, Pair::DormandPrince5, x.clone(), field.slope(x, at), at, size);
                        for (worst, (share, state)) in
                            worst.iter_mut().zip([(1.0, step.end.clone()), (0.3, step.interpolate(0.3))])
                        {
                            let exact = gaussian.carry(1.3, start, field.time(at + share * size));
                            *worst = worst.max((numbers(&state)[0] - exact).abs());
                        }
                        x = step.end;
                    }
                    worst
                };
                for (place, what) in ["at the ends", "between"].iter().enumerate() {
                    let found = order(|steps| errors(steps)[place], 16);
                    assert!((found - 5.0).abs() < 0.7, "{schedule:?} from {start}: order {found} {what}");
                }
            }
        }
    }

    #[test]
    fn errors_follow_the_tolerance() {
        for schedule in schedules() {
            let gaussian = Gaussian(&schedule);
            for tolerance in [1e-4, 1e-7, 1e-10] {
                let solver = Adaptive::new(Pair::DormandPrince5, tolerance, tolerance).unwrap();
                let x = solver.solve(&gaussian.flow(), point(1.3), &[0.01, 0.99], &mut silent, &mut |_, _| {}).unwrap();
                let error = (numbers(&x)[0] - gaussian.carry(1.3, 0.01, 0.99)).abs();
                assert!(error < 30.0 * tolerance, "{schedule:?}: error {error:e} at tolerance {tolerance:e}");
            }
        }
    }

    #[test]
    fn the_step_limit_and_a_velocity_without_bound_are_errors() {
        let solver = Adaptive::new(Pair::DormandPrince5, 1e-9, 1e-9).unwrap();
        let run = |solver: Adaptive, flow: &Flow<'_>| {
            solver.solve(flow, point(1.0), &[0.0, 1.0], &mut silent, &mut |_, _| {}).unwrap_err()
        };
        let smooth = Flow::new(&Linear, Prediction::Velocity, |x, t| x * (9.0 * t).sin());
        let limited = run(solver.max_steps(3).unwrap(), &smooth);
        assert!(matches!(limited, SampleError::StepLimit { limit: 3, .. }), "{limited}");
        // No step that crosses t = ½ is accepted: even the smallest is off by 1e14.
        let cliff = Flow::new(&Linear, Prediction::Velocity, |x, t| x * if t > 0.5 { 1e30 } else { 1.0 });
        let stuck = run(solver, &cliff);
        assert!(matches!(stuck, SampleError::StepUnderflow { t, .. } if (t - 0.5).abs() < 1e-9), "{stuck}");
    }

    #[test]
    fn the_last_step_stays_inside_where_there_is_nothing_beyond() {
        let solver = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).unwrap();
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, t| x * if t > 1.0 { f64::NAN } else { 1.0 });
        let x = solver.solve(&flow, point(1.0), &[0.0, 1.0], &mut silent, &mut |_, _| {}).unwrap();
        assert!((numbers(&x)[0] - 1.0_f64.exp()).abs() < 1e-3);
    }

    #[test]
    fn tolerances_are_checked() {
        let parse = serde_json::from_str::<Adaptive>;
        assert_eq!(
            parse(r#"{"pair": "dormand-prince-5", "atol": 1e-6, "rtol": 1e-3}"#).unwrap(),
            Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).unwrap()
        );
        for (json, complaint) in [
            (
                r#"{"pair": "dormand-prince-5", "atol": 0, "rtol": 1e-3}"#,
                "`atol` must be a finite number above 0, found 0",
            ),
            (r#"{"pair": "dormand-prince-5", "atol": 1e-6, "rtol": -1}"#, "`rtol`"),
            (r#"{"pair": "dormand-prince-5", "atol": 1e-6, "rtol": 1e-3, "max_steps": 0}"#, "`max_steps`"),
            (r#"{"pair": "dormand-prince-5", "atol": 1e-6, "rtol": 1e-3, "order": 5}"#, "unknown field"),
            (r#"{"pair": "dopri5", "atol": 1e-6, "rtol": 1e-3}"#, "unknown variant `dopri5`"),
            (r#"{"atol": 1e-6, "rtol": 1e-3}"#, "missing field `pair`"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(complaint), "{json}: {error}");
        }
    }
}
