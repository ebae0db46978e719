//! Numbers as they are shown, and as they are read back.

use serde::{Deserialize, Deserializer};

/// A number and its spread, if that is known: `mean ± deviation` with the digits that the deviation supports, a number alone
/// with four digits.
pub fn plus_minus(mean: f64, deviation: Option<f64>) -> String {
    match rounded(mean, deviation, MOST_DECIMALS) {
        (mean, Some(deviation)) => format!("{mean} ± {deviation}"),
        (mean, None) => mean,
    }
}

/// As [`plus_minus`] in two texts; a number alone with at most `most` decimals.
pub(crate) fn rounded(mean: f64, deviation: Option<f64>, most: usize) -> (String, Option<String>) {
    if let Some(deviation) = deviation.filter(|deviation| *deviation > 0.0) {
        let [mean, deviation] = with_uncertainty(mean, deviation);
        return (mean, Some(deviation));
    }
    let place = -(decimals(mean).min(most) as i32);
    (at(mean, place), deviation.map(|deviation| at(deviation, place)))
}

/// More say nothing of numbers of this size.
pub(crate) const MOST_DECIMALS: usize = 6;

/// A value and its uncertainty, above 0, rounded alike: to one digit of the uncertainty, or two where the first is small.
///
/// # Source
/// Particle Data Group, *Review of Particle Physics* 2024, introduction, section 5.3: from 100 to 354 two digits, from 355
/// to 949 one, from 950 on as 1000 with two.
fn with_uncertainty(value: f64, uncertainty: f64) -> [String; 2] {
    let exponent = uncertainty.log10().floor() as i32;
    let leading = uncertainty / 10.0_f64.powi(exponent - 2);
    let place = match leading.round() as u32 {
        0..355 => exponent - 1,
        _ => exponent,
    };
    let place = place.max(-(MOST_DECIMALS as i32));
    let [value, shown] = [value, uncertainty].map(|number| at(number, place));
    let none = shown.bytes().all(|byte| byte == b'0' || byte == b'.');
    [value, if none { format!("<{}", at(10.0_f64.powi(place), place)) } else { shown }]
}

/// A number rounded at the place of `10^place`; zero has no sign.
fn at(value: f64, place: i32) -> String {
    let decimals = (-place).max(0) as usize;
    let value = if place > 0 { (value / 10.0_f64.powi(place)).round() * 10.0_f64.powi(place) } else { value };
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|byte| byte == b'0' || byte == b'.') => zero.to_owned(),
        _ => text,
    }
}

/// Decimals that show `value`, whose uncertainty nobody knows, with four significant digits, at most six.
pub(crate) fn decimals(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 2;
    }
    (3.0 - value.abs().log10().floor()).clamp(0.0, MOST_DECIMALS as f64) as usize
}

/// `1 image`, `1,234 images`: so many of what one is called.
pub fn counted(count: impl Into<u128>, one: &str) -> String {
    let count = count.into();
    let ending = match one {
        _ if count == 1 => "",
        one if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {one}{ending}", thousands(count))
}

/// `1234567` as `1,234,567`.
pub fn thousands(value: impl Into<u128>) -> String {
    let digits = value.into().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal units.
pub(crate) fn gigabytes(bytes: impl Into<u128>) -> String {
    match bytes.into() as f64 / 1e9 {
        giga if giga < 1.0 => format!("{:.1} MB", giga * 1e3),
        giga if giga >= 1e4 => format!("{:.2} TB", giga / 1e3),
        giga => format!("{giga:.2} GB"),
    }
}

/// JSON has no NaN: it is written as `null`.
pub(crate) fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let of = |count: u64| counted(count, "image");
        assert_eq!([0, 1, 1_234].map(of), ["0 images", "1 image", "1,234 images"]);
        assert_eq!([1_u64, 2].map(|count| counted(count, "class")), ["1 class", "2 classes"]);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0_u64, 999, 1_000, 675_129_632].map(thousands), ["0", "999", "1,000", "675,129,632"]);
        assert_eq!([1234.0, 12.3, 0.0123, 1e-9, 0.0].map(decimals), [0, 2, 5, 6, 2]);
    }
}
