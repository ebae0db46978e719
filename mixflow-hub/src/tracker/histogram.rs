//! How values are distributed.

/// Counts of values in bins of equal width, with their moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Borders of the bins, ascending; one more than bins, the first the smallest value and the last the greatest.
    pub edges: Vec<f64>,
    /// Values in each bin; one on a border belongs to the bin above it, the greatest to the last bin.
    pub counts: Vec<u64>,
    /// Values in all.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// Values that were left out because they are not finite.
    pub not_finite: u64,
}

impl Histogram {
    /// Bins that both `TensorBoard` and Weights & Biases show well.
    pub const BINS: usize = 64;

    /// Counts `values` in [`Self::BINS`] bins from the smallest to the greatest; ½ around them if all are equal, and
    /// none at all if there are no finite values.
    pub fn new(values: &[f32]) -> Self {
        let finite = || values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value));
        let (low, high) =
            finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let count = finite().count() as u64;
        let mut histogram = Self {
            edges: vec![],
            counts: vec![],
            count,
            sum: finite().sum(),
            sum_squares: finite().map(|value| value * value).sum(),
            not_finite: values.len() as u64 - count,
        };
        if count == 0 {
            return histogram;
        }
        let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
        let scale = Self::BINS as f64 / (high - low);
        histogram.edges = (0..Self::BINS).map(|bin| low + bin as f64 / scale).chain([high]).collect();
        histogram.counts = vec![0; Self::BINS];
        for value in finite() {
            histogram.counts[(((value - low) * scale) as usize).min(Self::BINS - 1)] += 1;
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_counted_in_its_bin() {
        let values: Vec<f32> = (0..=128).map(|index| index as f32 / 2.0).chain([f32::NAN, f32::INFINITY]).collect();
        let histogram = Histogram::new(&values);
        assert_eq!(histogram.edges, (0..=64).map(f64::from).collect::<Vec<_>>());
        // Two in each, and the greatest one in the last.
        assert_eq!(histogram.counts, [vec![2; 63], vec![3]].concat());
        assert_eq!((histogram.count, histogram.not_finite), (129, 2));
        // `sum(i / 2 for i in range(129))`, and of its squares.
        assert_eq!((histogram.sum, histogram.sum_squares), (4128.0, 176_816.0));
    }

    #[test]
    fn equal_values_and_no_values_are_no_division_by_zero() {
        let histogram = Histogram::new(&[2.0; 5]);
        assert_eq!((histogram.edges[0], histogram.edges[64], histogram.counts[32]), (1.5, 2.5, 5));
        let histogram = Histogram::new(&[f32::NAN]);
        assert!(histogram.edges.is_empty() && histogram.counts.is_empty() && histogram.not_finite == 1);
        let wide = Histogram::new(&[f32::MIN, f32::MAX]);
        assert_eq!((wide.counts[0], wide.counts[63]), (1, 1));
    }
}
