//! Numbers that may be missing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::numbers::{plus_minus, rounded};

/// One quantity, measured once per seed. Values that are not finite count as missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerSeed(#[serde(deserialize_with = "nulls_as_nan")] pub Vec<f64>);

impl PerSeed {
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
        // Rounding moves it away from equal values.
        let (low, high) = self.range()?;
        Some((self.finite().sum::<f64>() / self.count() as f64).clamp(low, high))
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

    /// Mean and deviation with the digits that the deviation supports; none of a deviation where there is one value, which
    /// has four digits, and at most `decimals` decimals. `–` without a value.
    pub(super) fn rounded(&self, decimals: usize) -> (String, Option<String>) {
        self.mean().map_or_else(|| ("–".to_owned(), None), |mean| rounded(mean, self.deviation(), decimals))
    }
}

/// As [`plus_minus`]; `–` without a value.
impl fmt::Display for PerSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.mean().map_or_else(|| "–".to_owned(), |mean| plus_minus(mean, self.deviation())))
    }
}

impl From<f64> for PerSeed {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

impl<const N: usize> From<[f64; N]> for PerSeed {
    fn from(values: [f64; N]) -> Self {
        Self(values.to_vec())
    }
}

impl FromIterator<f64> for PerSeed {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_missing() {
        let measurement = PerSeed::from([1.0, f64::NAN, 3.0, f64::INFINITY]);
        assert_eq!(measurement.mean(), Some(2.0));
        assert_eq!(measurement.deviation(), Some(2.0_f64.sqrt()));
        assert_eq!(measurement.range(), Some((1.0, 3.0)));
        assert_eq!(PerSeed::default().to_string(), "–");
        assert_eq!(PerSeed::from([0.5]).to_string(), "0.5000");
    }

    /// Three values around a mean, with this sample deviation.
    fn around(mean: f64, deviation: f64) -> String {
        PerSeed::from([mean - deviation, mean, mean + deviation]).to_string()
    }

    #[test]
    fn the_uncertainty_decides_the_digits() {
        // By hand, from the rule of the Particle Data Group.
        for (mean, deviation, shown) in [
            (-0.000454, 0.000421, "-0.0005 ± 0.0004"),
            (0.827, 0.119, "0.83 ± 0.12"),
            (0.827, 0.367, "0.8 ± 0.4"),
            (83.9042, 0.0964, "83.90 ± 0.10"),
            (214.3, 23.7, "214 ± 24"),
            (4871.0, 340.0, "4870 ± 340"),
            (4871.0, 620.0, "4900 ± 600"),
            (-0.00004, 0.0006, "0.0000 ± 0.0006"),
            (0.5, 1e-9, "0.500000 ± <0.000001"),
        ] {
            assert_eq!(around(mean, deviation), shown, "{mean} and {deviation}");
        }
    }

    #[test]
    fn a_number_alone_has_four_digits() {
        for (value, shown) in
            [(1079.709284832, "1080"), (148.23, "148.2"), (2.27, "2.270"), (-0.000454, "-0.000454"), (0.0, "0.00")]
        {
            assert_eq!(PerSeed::from(value).to_string(), shown);
        }
        // No spread over seeds is no knowledge of the next digit.
        assert_eq!(PerSeed::from([0.25; 3]).to_string(), "0.2500 ± 0.0000");
        assert_eq!(PerSeed::from([0.025; 3]).to_string(), "0.02500 ± 0.00000");
        assert_eq!(PerSeed::from([0.25; 3]).rounded(3), ("0.250".into(), Some("0.000".into())));
        assert_eq!(format!("{:>8}", PerSeed::from(0.25)), "  0.2500");
    }

    #[test]
    fn nan_survives_json() {
        let json = serde_json::to_string(&(PerSeed::from([1.0, f64::NAN]), Point(3.0, f64::NAN))).unwrap();
        assert_eq!(json, "[[1.0,null],[3.0,null]]");
        let (measurement, point): (PerSeed, Point) = serde_json::from_str(&json).unwrap();
        assert_eq!(measurement.count(), 1);
        assert!(point.0 == 3.0 && point.1.is_nan());
    }
}
