//! The distance of tensors.

use crate::train::Tensors;

/// The largest difference of two sets of tensors and where it is, as
/// [`Finding::difference`](super::Finding::difference) defines it.
pub(super) fn apart(expected: &Tensors, found: &Tensors) -> (f64, String) {
    let other = found.keys().find(|name| !expected.contains_key(*name));
    if let Some(name) = other.or_else(|| expected.keys().find(|name| !found.contains_key(*name))) {
        return (f64::INFINITY, format!("{name}, which one of both lacks"));
    }
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let count: usize = expected.values().map(|tensor| tensor.num_elements()).sum();
    let typical = expected.values().map(|tensor| square(&mut tensor.iter())).sum::<f64>() / count as f64;
    if typical == 0.0 {
        return (f64::INFINITY, "all are zero, which compares nothing".into());
    }
    let mut largest = (0.0, String::new());
    for (name, expected) in expected {
        let found = &found[name];
        let norm = square(&mut expected.iter()).max(typical * expected.num_elements() as f64);
        let difference = square(&mut expected.iter::<f64>().zip(found.iter::<f64>()).map(|(a, b)| a - b));
        let apart = match (difference / norm).sqrt() {
            apart if apart.is_finite() && expected.shape() == found.shape() => apart,
            _ => f64::INFINITY,
        };
        if apart > largest.0 || largest.1.is_empty() {
            largest = (apart, name.clone());
        }
    }
    largest
}
