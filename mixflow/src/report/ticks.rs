//! Axes: where numbers land and which of them are written out.

/// How an axis maps numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// An axis fitted to data: a range that ends on ticks, and the ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ticks {
    scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Position and text.
    pub(super) labels: Vec<(f64, String)>,
}

impl Ticks {
    /// Fits about `count` ticks to the finite `values`; on a log axis to the positive ones.
    pub(super) fn fit(scale: Scale, values: impl Iterator<Item = f64>, count: usize) -> Self {
        let usable = |value: &f64| {
            value.is_finite() && value.abs() < 1e100 && (scale == Scale::Linear || *value > 1e-100)
        };
        let (low, high) = values
            .filter(usable)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (value.min(low), value.max(high))
            });
        match scale {
            Scale::Linear => Self::linear(low, high, count),
            Scale::Log => Self::log(low, high, count),
        }
    }

    /// Exactly the range `low..=high`, ticks inside it.
    pub(super) fn fixed(low: f64, high: f64, count: usize) -> Self {
        let mut ticks = Self::linear(low, high, count);
        ticks
            .labels
            .retain(|(value, _)| (low..=high).contains(value));
        Self { low, high, ..ticks }
    }

    /// Ticks at `values` themselves, for axes on which only they occur.
    pub(super) fn at(values: &[f64]) -> Self {
        let positive = values
            .iter()
            .copied()
            .filter(|value| value.is_finite() && *value > 0.0);
        let mut ticks = Self::fit(Scale::Log, positive.clone(), 4);
        let (low, high) = positive
            .clone()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (value.min(low), value.max(high))
            });
        if low < high {
            (ticks.low, ticks.high) = (low, high);
            ticks.labels = positive.map(|value| (value, text(value, 0))).collect();
        }
        ticks
    }

    /// Position of `value` in 0..=1 along the axis; `None` where the axis has no place for it.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        let position = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        position.is_finite().then_some(position)
    }

    fn linear(low: f64, high: f64, count: usize) -> Self {
        let (low, high) = spread(low, high);
        let step = step((high - low) / count.max(1) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let labels = (0..=(last - first) as usize).map(|index| (first + index as f64) * step);
        Self {
            scale: Scale::Linear,
            low: first * step,
            high: last * step,
            labels: labels.map(|value| (value, text(value, decimals))).collect(),
        }
    }

    /// Ticks at 1, 2 and 5 times powers of ten, or at powers alone where those are many.
    fn log(low: f64, high: f64, count: usize) -> Self {
        let (low, high) = if low < high {
            (low, high)
        } else if low.is_finite() {
            (low / 2.0, low * 2.0)
        } else {
            (1.0, 10.0)
        };
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let every = (decades.clone().count() / count.max(1)).max(1);
        let digits: &[f64] = if (high / low).log10() <= count as f64 / 2.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let all: Vec<f64> = decades
            .step_by(every)
            .flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)))
            .collect();
        // The range is cut to the ticks next to the data.
        let first = all
            .iter()
            .rposition(|tick| *tick <= low * (1.0 + 1e-9))
            .unwrap_or(0);
        let last = all
            .iter()
            .position(|tick| *tick >= high * (1.0 - 1e-9))
            .unwrap_or(all.len() - 1);
        let labels = all[first..=last]
            .iter()
            .map(|&tick| (tick, text(tick, (-tick.log10().floor()).max(0.0) as usize)));
        Self {
            scale: Scale::Log,
            low: all[first].min(low),
            high: all[last].max(high),
            labels: labels.collect(),
        }
    }
}

/// A range with room in it, also for constant and missing data.
fn spread(low: f64, high: f64) -> (f64, f64) {
    if low > high {
        (0.0, 1.0)
    } else if high - low > 1e-9 * low.abs().max(high.abs()) {
        (low, high)
    } else {
        let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        (low - room, high + room)
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
fn step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|digit| digit * power >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0);
    digit * power
}

/// A tick's number: plain where that is short, scientific elsewhere.
fn text(value: f64, decimals: usize) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-4..1e4).contains(&value.abs()) {
        format!("{value:.decimals$}").replace('-', "−")
    } else if (1e4..1e7).contains(&value.abs()) && decimals == 0 {
        format!("{}k", format!("{:.1}", value / 1e3).trim_end_matches(".0")).replace('-', "−")
    } else {
        format!("{value:.1e}").replace(".0e", "e").replace('-', "−")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &Ticks) -> Vec<&str> {
        ticks.labels.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(
            labels(&Ticks::fit(Scale::Linear, [0.13, 0.88].into_iter(), 5)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|text| if text == "0.0" {
                "0"
            } else {
                text
            })
        );
        assert_eq!(
            labels(&Ticks::fit(Scale::Linear, [0.0, 24_000.0].into_iter(), 5)),
            ["0", "5000", "10k", "15k", "20k", "25k"]
        );
        assert_eq!(
            labels(&Ticks::fit(Scale::Linear, [-1.0, 1.0].into_iter(), 4)),
            ["−1.0", "−0.5", "0", "0.5", "1.0"]
        );
    }

    #[test]
    fn log_ticks_enclose_the_data() {
        let ticks = Ticks::fit(Scale::Log, [3.0, 47.0].into_iter(), 5);
        assert_eq!(labels(&ticks), ["2", "5", "10", "20", "50"]);
        assert_eq!(ticks.position(2.0), Some(0.0));
        assert!(
            ticks.position(0.0).is_none()
                && ticks.position(-1.0).is_none()
                && ticks.position(f64::NAN).is_none()
        );
        assert_eq!(
            labels(&Ticks::fit(Scale::Log, [1e-3, 1e3].into_iter(), 5)),
            ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]
        );
    }

    #[test]
    fn every_input_gives_a_usable_axis() {
        let cases: [&[f64]; 9] = [
            &[],
            &[0.0],
            &[5.0],
            &[-3.0, -3.0],
            &[f64::NAN, f64::INFINITY],
            &[f64::MIN, f64::MAX],
            &[1e-300, 1e-299],
            &[1e9, 1e9 + 1e-7],
            &[1e-12, 1e12],
        ];
        for values in cases {
            for scale in [Scale::Linear, Scale::Log] {
                let ticks = Ticks::fit(scale, values.iter().copied(), 5);
                assert!(ticks.low < ticks.high, "{values:?} {scale:?}: {ticks:?}");
                assert!(
                    (1..40).contains(&ticks.labels.len()),
                    "{values:?} {scale:?}: {ticks:?}"
                );
            }
        }
    }

    #[test]
    fn a_fixed_range_stays() {
        let ticks = Ticks::fixed(0.0, 1.0, 5);
        assert_eq!((ticks.low, ticks.high, ticks.labels.len()), (0.0, 1.0, 6));
        assert_eq!(
            labels(&Ticks::at(&[10.0, 20.0, 250.0])),
            ["10", "20", "250"]
        );
        assert_eq!(labels(&Ticks::at(&[])).len(), 4);
    }
}
