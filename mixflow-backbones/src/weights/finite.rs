//! Values that no network can use.

use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// How many of the values are no finite numbers, or are none once they are in the precision `dtype`. Billions of values go
/// through here.
pub(super) fn not_finite(data: &TensorData, dtype: DType) -> usize {
    /// Values that a thread takes at a time.
    const PART: usize = 1 << 16;
    let most = largest(dtype);
    if let Ok(values) = data.as_slice::<f32>()
        && most >= f64::from(f32::MAX)
    {
        return values.par_chunks(PART).map(|part| part.iter().filter(|value| !value.is_finite()).count()).sum();
    }
    data.iter::<f64>().filter(|value| value.is_nan() || value.abs() > most).count()
}

/// The largest number that is not rounded to infinity.
fn largest(dtype: DType) -> f64 {
    match dtype {
        // Half a step above 65504, the largest one; that itself is rounded to infinity.
        DType::F16 => 65_519.99,
        DType::F64 => f64::MAX,
        _ => f64::from(f32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overflows_or_is_no_number_is_counted() {
        let data = |values: Vec<f64>| {
            let len = values.len();
            TensorData::new(values, [len])
        };
        let values = || data(vec![1.0, f64::NAN, f64::NEG_INFINITY, 1e39, 7e4, -65_504.0]);
        for (dtype, lost) in [(DType::F64, 2), (DType::F32, 3), (DType::BF16, 3), (DType::F16, 4)] {
            assert_eq!(not_finite(&values(), dtype), lost, "{dtype:?}");
        }
        let single = data(vec![1.0, 2.0, 3e38, -0.0]).convert::<f32>();
        assert_eq!(not_finite(&single, DType::F32), 0);
        let single = TensorData::new(vec![f32::NAN, 1.0, f32::INFINITY], [3]);
        assert_eq!(not_finite(&single, DType::F32), 2);
        assert_eq!(not_finite(&TensorData::new(vec![7e4f32], [1]), DType::F16), 1);
    }
}
