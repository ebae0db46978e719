//! Numbers that may be missing.

use serde::{Deserialize, Serialize};

/// One quantity, measured once per seed. Values that are not finite count as missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Measurement(#[serde(deserialize_with = "nulls_as_nan")] pub Vec<f64>);

impl Measurement {
    /// The values that are numbers.
    pub fn finite(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().copied().filter(|value| value.is_finite())
    }

    /// Number of finite values.
    pub fn count(&self) -> usize {
        self.finite().count()
    }

    /// Mean over seeds; `None` without a finite value.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.finite().sum::<f64>() / count as f64)
    }

    /// Standard deviation over seeds (`n − 1` in the denominator); `None` below two values.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        let count = self.count();
        (count > 1).then(|| {
            let squares: f64 = self.finite().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1) as f64).sqrt()
        })
    }

    /// Smallest and largest value over seeds.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.finite().fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
    }

    /// `mean ± deviation`, a bare mean for a single seed, `–` for none.
    pub(super) fn text(&self, decimals: usize) -> String {
        match (self.mean(), self.deviation()) {
            (Some(mean), Some(deviation)) => format!("{mean:.decimals$} ± {deviation:.decimals$}"),
            (Some(mean), None) => format!("{mean:.decimals$}"),
            _ => "–".to_owned(),
        }
    }
}

impl<const N: usize> From<[f64; N]> for Measurement {
    fn from(values: [f64; N]) -> Self {
        Self(values.to_vec())
    }
}

impl FromIterator<f64> for Measurement {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A point of a curve, `(x, y)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(Option<f64>, Option<f64>)")]
pub struct Point(pub f64, pub f64);

impl From<(Option<f64>, Option<f64>)> for Point {
    fn from((x, y): (Option<f64>, Option<f64>)) -> Self {
        Self(x.unwrap_or(f64::NAN), y.unwrap_or(f64::NAN))
    }
}

/// JSON has no NaN: it is written as `null` and read back as NaN.
fn nulls_as_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Decimals that show `value` with three significant digits, at most six.
pub(super) fn decimals(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 2;
    }
    (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize
}

/// `1234567` as `1,234,567`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_missing() {
        let measurement = Measurement::from([1.0, f64::NAN, 3.0, f64::INFINITY]);
        assert_eq!(measurement.mean(), Some(2.0));
        assert_eq!(measurement.deviation(), Some(2.0_f64.sqrt()));
        assert_eq!(measurement.range(), Some((1.0, 3.0)));
        assert_eq!(Measurement::default().text(2), "–");
        assert_eq!(Measurement::from([0.5]).text(2), "0.50");
    }

    #[test]
    fn nan_survives_json() {
        let json = serde_json::to_string(&(Measurement::from([1.0, f64::NAN]), Point(3.0, f64::NAN))).unwrap();
        assert_eq!(json, "[[1.0,null],[3.0,null]]");
        let (measurement, point): (Measurement, Point) = serde_json::from_str(&json).unwrap();
        assert_eq!(measurement.count(), 1);
        assert!(point.0 == 3.0 && point.1.is_nan());
    }

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!([0, 999, 1_000, 675_129_632].map(thousands), ["0", "999", "1,000", "675,129,632"]);
        assert_eq!([123.0, 12.3, 0.0123, 1e-9, 0.0].map(decimals), [0, 1, 4, 6, 2]);
    }
}
