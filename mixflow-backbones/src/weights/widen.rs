//! Values of half precision in full precision.

use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// `data` in `f32` if it is in half precision, exactly; otherwise as it is. Billions of values go through here.
pub(super) fn widened(data: TensorData) -> TensorData {
    match data.dtype() {
        DType::F16 => each(&data, from_f16),
        DType::BF16 => each(&data, |bits| f32::from_bits(u32::from(bits) << 16)),
        _ => data,
    }
}

fn each(data: &TensorData, widen: impl Fn(u16) -> f32 + Sync) -> TensorData {
    /// Values that a thread takes at a time.
    const PART: usize = 1 << 16;
    let bytes = data.bytes();
    let mut values = vec![0.0; bytes.len() / 2];
    values.par_chunks_mut(PART).zip(bytes.par_chunks(2 * PART)).for_each(|(values, bytes)| {
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(2)) {
            *value = widen(u16::from_ne_bytes([bytes[0], bytes[1]]));
        }
    });
    TensorData::new(values, data.shape().clone())
}

/// Without branches, so that the compiler takes many at a time.
fn from_f16(bits: u16) -> f32 {
    const INFINITE: u16 = 0x7c00;
    let [sign, rest] = [bits & 0x8000, bits & 0x7fff].map(u32::from);
    // Exponents are counted from 2⁻¹⁵ here and from 2⁻¹²⁷ there; the smallest numbers come out right as well.
    let value = f32::from_bits(rest << 13) * 2.0f32.powi(112);
    let not_finite = if bits & INFINITE == INFINITE { f32::INFINITY.to_bits() } else { 0 };
    f32::from_bits(value.to_bits() | not_finite | sign << 16)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Bytes;

    use super::*;

    #[test]
    fn every_number_of_half_precision_is_exact() {
        for dtype in [DType::F16, DType::BF16] {
            let bytes = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
            let half = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), vec![256, 256], dtype);
            let found = widened(half.clone());
            assert_eq!((found.dtype(), found.shape()), (DType::F32, half.shape()));
            for (index, (found, expected)) in found.iter::<f32>().zip(half.iter::<f32>()).enumerate() {
                let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(same, "{dtype:?} {index:#06x}: found {found}, expected {expected}");
            }
        }
    }
}
