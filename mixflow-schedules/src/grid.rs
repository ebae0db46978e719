//! The times that a sampler visits.

use serde::{Deserialize, Serialize};

use crate::{Ddpm, Error, Interval, Shift, shifted::shift_time};

/// The times that a sampler visits: `steps` equal steps from `start` to `end`, shifted, and perhaps a `last` point.
///
/// All in paper time, so that sampling runs from 0 to 1 whatever the network's convention; `start > end` runs from data
/// to noise. What the published codes call `num_steps`:
///
/// | code | grid |
/// |---|---|
/// | SiT, ODE, N | `steps: N − 1` on their [`interval`](crate::interval) |
/// | SiT, SDE, N | `steps: N − 1, end: 0.96, last: 1` |
/// | REPA, ODE, N | `steps: N` |
/// | REPA, SDE, N | `steps: N − 1, end: 0.96, last: 1` |
/// | RAE, ODE, N | `steps: N − 1, end: 0.999, shift: 6.93`; the remaining 0.007 is never sampled |
/// | RAE, SDE, N | `steps: N − 1, end: 0.96, shift: 6.93, last: 1`, but RAE takes the last step as from 0.96 unshifted |
/// | ADM and DiT, `ddimN` | [`ddim`](Self::ddim) |
/// | SD3 and diffusers' flow matching, N | [`stable_diffusion_3`](Self::stable_diffusion_3) |
/// | FLUX.1-dev, N | `steps: N, shift: {"tokens": 4096}` for 1024 px, see [`Shift`]; FLUX.1-schnell: `steps: N` |
///
/// ```
/// use mixflow_schedules::TimeGrid;
///
/// let grid: TimeGrid = serde_json::from_str(r#"{"steps": 2, "end": 0.96, "last": 1.0}"#)?;
/// assert_eq!(grid.times(), [0.0, 0.48, 0.96, 1.0]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct TimeGrid {
    steps: usize,
    shift: Shift,
    start: f64,
    end: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<f64>,
}

impl TimeGrid {
    /// `steps` equal steps, 1 to 100,000, from noise to data.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for another number of steps.
    pub fn new(steps: usize) -> Result<Self, Error> {
        Self { steps, shift: Shift::Factor(1.0), start: 0.0, end: 1.0, last: None }.checked()
    }

    /// The `steps` steps of Stable Diffusion 3 and of `FlowMatchEulerDiscreteScheduler`, with their `shift`: 3 as published.
    ///
    /// The last step but one ends at the smallest noise of the training's thousand, shifted, and the grid is shifted as a
    /// whole, so that this end is shifted twice: `1 − t = 0.0089` for 3, from where one step leads to data.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`shift`](Self::shift).
    ///
    /// # Source
    /// `FlowMatchEulerDiscreteScheduler` of `diffusers` 0.42.1; `get_sigmas` of `Stability-AI/sd3.5` at fbf8f48,
    /// `sd3_infer.py`.
    pub fn stable_diffusion_3(steps: usize, shift: f64) -> Result<Self, Error> {
        if steps < 2 {
            return Self::new(steps)?.shift(shift);
        }
        let least = 1.0 - shift_time(Error::positive("shift", shift)?, 1.0 - 1e-3);
        Self::new(steps - 1)?.shift(shift)?.interval(Interval { start: 0.0, end: 1.0 - least })?.last(1.0)
    }

    /// The steps of DDIM on [`Ddpm`]: every `k`-th of the thousand from the first on, with the least `k` that gives `steps` of
    /// them, and from there to data. ADM and DiT call it `ddim50`; it starts below the last step, `t = 1 − 981/1000` for 50.
    ///
    /// Their ancestral sampling spreads the steps from the first to the last instead, and rounds them:
    /// `{"steps": 249, "end": 0.999, "last": 1}` is the same 250 without the rounding.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if no `k` gives that many, or for a single step.
    ///
    /// # Source
    /// Song et al. 2020 (arXiv 2010.02502), appendix D.2; `space_timesteps` of `openai/guided-diffusion`.
    pub fn ddim(steps: usize) -> Result<Self, Error> {
        let stride = (1..Ddpm::STEPS).find(|&stride| Ddpm::STEPS.div_ceil(stride) == steps).filter(|_| steps > 1);
        let expected = "2 or more, and the number of every k-th of a thousand steps, such as 50, 100 or 250";
        let stride = stride.ok_or(Error::OutOfRange { name: "steps", expected, found: steps as f64 })?;
        let [start, end] = [Ddpm::time((steps - 1) * stride), Ddpm::time(0)];
        Self::new(steps - 1)?.interval(Interval { start, end })?.last(1.0)
    }

    /// The same with another number of steps, that to the last point included: shift, ends and last point stay.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for a single step where there is a last point, which `end` comes before.
    pub fn with_steps(self, steps: usize) -> Result<Self, Error> {
        if self.last.is_none() {
            return Self { steps, ..self }.checked();
        }
        let expected = "from 2 to 100001, the step to `last` included";
        Error::check((2..=100_001).contains(&steps), "steps", expected, steps as f64)?;
        Self { steps: steps - 1, ..self }.checked()
    }

    /// Moves the times towards noise, as [`Shifted`](crate::Shifted) does for training.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless the shift is finite and above 0.
    pub fn shift(self, shift: impl Into<Shift>) -> Result<Self, Error> {
        Self { shift: shift.into(), ..self }.checked()
    }

    /// The same for latents of this height and width, where its [`Shift`] goes by their tokens.
    ///
    /// # Errors
    /// As [`shift`](Self::shift), and where that makes steps without width.
    pub fn for_latents(self, size: [usize; 2]) -> Result<Self, Error> {
        Self { shift: self.shift.for_latents(size), ..self }.checked()
    }

    /// Refuses a shift for other latents than those of this size, as [`Shift::check_latents`].
    ///
    /// # Errors
    /// As there.
    pub fn check_latents(&self, size: [usize; 2]) -> Result<(), Error> {
        self.shift.check_latents(size)
    }

    /// The interval to divide, before the shift.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for times outside [0, 1], [`Error::Interval`] for an interval without width.
    pub fn interval(self, interval: Interval) -> Result<Self, Error> {
        Self { start: interval.start, end: interval.end, ..self }.checked()
    }

    /// One more time beyond `end`, not shifted: the end of a step that stochastic samplers take without noise.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a time outside [0, 1], [`Error::Interval`] for one that is not beyond `end`.
    pub fn last(self, last: f64) -> Result<Self, Error> {
        Self { last: Some(last), ..self }.checked()
    }

    /// The number of steps, the last point's included: one less than the number of times.
    pub fn steps(&self) -> usize {
        self.steps + usize::from(self.last.is_some())
    }

    /// The times in the order of sampling, strictly monotone.
    pub fn times(&self) -> Vec<f64> {
        let (steps, width) = (self.steps as f64, self.end - self.start);
        let inner = (0..self.steps).map(|step| self.start + width * (step as f64 / steps));
        let shift = self.shift.factor();
        inner.chain([self.end]).map(|t| shift_time(shift, t)).chain(self.last).collect()
    }

    fn checked(self) -> Result<Self, Error> {
        let (start, end) = (Error::unit("start", self.start)?, Error::unit("end", self.end)?);
        self.shift.checked()?;
        Error::check((1..=100_000).contains(&self.steps), "steps", "from 1 to 100000", self.steps as f64)?;
        let refuse = |start, end, problem| Err(Error::Interval { start, end, problem });
        if (end - start).abs() < 1e-9 {
            return refuse(start, end, "has no width to divide into steps");
        }
        if let Some(last) = self.last {
            let (last, shifted) = (Error::unit("last", last)?, shift_time(self.shift.factor(), end));
            if (last - shifted) * (end - start) <= 0.0 {
                return refuse(shifted, last, "turns back: `last` must lie beyond the (shifted) `end` of the grid");
            }
        }
        if self.times().windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse(start, end, "has steps without width: take fewer, or a `shift` nearer to 1");
        }
        Ok(self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    steps: usize,
    #[serde(default = "unshifted")]
    shift: Shift,
    #[serde(default)]
    start: f64,
    #[serde(default = "one")]
    end: f64,
    #[serde(default)]
    last: Option<f64>,
}

impl TryFrom<Raw> for TimeGrid {
    type Error = Error;

    fn try_from(Raw { steps, shift, start, end, last }: Raw) -> Result<Self, Error> {
        Self { steps, shift, start, end, last }.checked()
    }
}

fn unshifted() -> Shift {
    Shift::Factor(1.0)
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn times_are_monotone_and_reach_their_ends(
            steps in 1..300_usize, shift in 0.2..20.0_f64, start in 0.0..=1.0_f64, end in 0.0..=1.0_f64,
        ) {
            prop_assume!((start - end).abs() > 1e-3);
            let grid = TimeGrid::new(steps).unwrap().shift(shift).unwrap().interval(Interval { start, end }).unwrap();
            let times = grid.times();
            prop_assert_eq!(times.len(), grid.steps() + 1);
            prop_assert_eq!(times[0], shift_time(shift, start));
            prop_assert_eq!(times[steps], shift_time(shift, end));
            prop_assert!(times.windows(2).all(|pair| (pair[1] - pair[0]) * (end - start) > 0.0));
            let back: TimeGrid = serde_json::from_str(&serde_json::to_string(&grid).unwrap()).unwrap();
            // `serde_json` reads numbers to the last digit but one.
            prop_assert!(times.iter().zip(back.times()).all(|(a, b)| (a - b).abs() < 1e-14));
        }
    }

    /// Each against the expression of the published code, mapped to paper time.
    #[test]
    fn published_grids_are_reproduced() {
        let read = |json| serde_json::from_str::<TimeGrid>(json).unwrap().times();
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?} {expected:?}");
        };
        // SiT, num_steps 6: linspace(0, 1, 6); for noise networks linspace(0.001, 0.999, 3).
        close(read(r#"{"steps": 5}"#), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        close(read(r#"{"steps": 2, "start": 0.001, "end": 0.999}"#), &[0.001, 0.5, 0.999]);
        // SiT, likelihood and reverse: from data to noise.
        close(read(r#"{"steps": 2, "start": 1, "end": 0}"#), &[1.0, 0.5, 0.0]);
        // REPA, SDE, num_steps 5: linspace(1, 0.04, 5) and 0.
        close(read(r#"{"steps": 4, "end": 0.96, "last": 1}"#), &[0.0, 0.24, 0.48, 0.72, 0.96, 1.0]);
        // RAE, num_steps 2: linspace(0, 0.999, 2), then the shift of 1 − t.
        let left = 4.0 * 0.001 / (1.0 + 3.0 * 0.001);
        close(read(r#"{"steps": 1, "end": 0.999, "shift": 4}"#), &[0.0, 1.0 - left]);
        // Stable Diffusion 3, shift 2, three steps: linspace(1, s(0.001), 3), then s of each, and 0; s(σ) = 2σ / (1 + σ).
        let s = |sigma: f64| 2.0 * sigma / (1.0 + sigma);
        let (middle, least) = (s(0.5 + 0.5 * s(0.001)), s(s(0.001)));
        let grid = TimeGrid::stable_diffusion_3(3, 2.0).unwrap();
        close(grid.times(), &[0.0, 1.0 - middle, 1.0 - least, 1.0]);
        close(TimeGrid::stable_diffusion_3(1, 2.0).unwrap().times(), &[0.0, 1.0]);
        assert_eq!(grid.with_steps(9).unwrap(), TimeGrid::stable_diffusion_3(9, 2.0).unwrap());
        let alone = grid.with_steps(1).unwrap_err().to_string();
        assert!(alone.contains("`steps` must be from 2 to 100001, the step to `last` included, found 1"), "{alone}");
        assert!(TimeGrid::stable_diffusion_3(0, 3.0).is_err() && TimeGrid::stable_diffusion_3(9, 0.0).is_err());
    }

    #[test]
    fn ddim_takes_every_kth_step() {
        for (steps, stride) in [(8, 125), (50, 20), (250, 4), (7, 143), (1000, 1)] {
            let times = TimeGrid::ddim(steps).unwrap().times();
            let expected = (0..steps).rev().map(|step| 1.0 - (step * stride + 1) as f64 / 1000.0).chain([1.0]);
            assert_eq!(times.len(), steps + 1);
            assert!(times.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{times:?}");
        }
        for steps in [0, 1, 600, 1001] {
            let error = TimeGrid::ddim(steps).unwrap_err().to_string();
            assert!(error.contains("every k-th of a thousand steps"), "{error}");
        }
    }

    #[test]
    fn another_number_of_steps_keeps_everything_else() {
        for json in [
            r#"{"steps": 4}"#,
            r#"{"steps": 4, "shift": 6.93, "end": 0.999}"#,
            r#"{"steps": 4, "shift": 2, "start": 0.001, "end": 0.96, "last": 1}"#,
            r#"{"steps": 4, "start": 1, "end": 0}"#,
        ] {
            let grid: TimeGrid = serde_json::from_str(json).unwrap();
            for steps in [2, 3, 50] {
                let other = grid.with_steps(steps).unwrap();
                assert_eq!((other.steps(), other.times().len()), (steps, steps + 1), "{json}");
                assert_eq!(TimeGrid { steps: grid.steps, ..other }, grid, "{json}");
            }
        }
    }

    #[test]
    fn grids_that_make_no_sense_are_refused_in_words() {
        let refused = |json, words: &str| {
            let error = serde_json::from_str::<TimeGrid>(json).unwrap_err().to_string();
            assert!(error.contains(words), "{json}: {error}");
        };
        refused(r#"{"steps": 0}"#, "`steps` must be from 1 to 100000, found 0");
        refused(r#"{"steps": 9000000000}"#, "`steps` must be from 1 to 100000, found 9000000000");
        refused(r#"{"steps": 5, "shift": 0}"#, "`shift` must be a finite number above 0");
        refused(r#"{"steps": 5, "start": 0.5, "end": 0.5}"#, "the interval from 0.5 to 0.5 has no width");
        refused(r#"{"steps": 5, "end": 0.9, "last": 0.8}"#, "the interval from 0.9 to 0.8 turns back");
        refused(r#"{"steps": 9, "shift": 1e-17}"#, "the interval from 0 to 1 has steps without width");
        refused(r#"{"steps": 5, "end": 1.5}"#, "`end` must be in [0, 1], found 1.5");
        refused(r#"{"steps": 5, "stop": 0.5}"#, "unknown field `stop`");
    }
}
