//! Numbers as they are stored.

use half::{bf16, f16};

use super::manifest::Precision;

/// Appends numbers as bytes. Returns the first that is not finite, or not in that precision.
#[must_use]
pub(super) fn narrow(numbers: &[f32], precision: Precision, bytes: &mut Vec<u8>) -> Option<f32> {
    let finite = |number: f32| match precision {
        Precision::F32 => number.is_finite(),
        Precision::F16 => f16::from_f32(number).is_finite(),
        Precision::Bf16 => bf16::from_f32(number).is_finite(),
    };
    match precision {
        Precision::F32 => bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
        Precision::F16 => bytes.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes())),
        Precision::Bf16 => bytes.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes())),
    }
    numbers.iter().copied().find(|&number| !finite(number))
}

/// Numbers from bytes.
pub(super) fn widen(bytes: &[u8], precision: Precision) -> Vec<f32> {
    let halves = bytes.as_chunks::<2>().0.iter();
    match precision {
        Precision::F32 => bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect(),
        Precision::F16 => halves.map(|number| f16::from_le_bytes(*number).to_f32()).collect(),
        Precision::Bf16 => halves.map(|number| bf16::from_le_bytes(*number).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_in_every_precision_that_holds_them() {
        let numbers = [0.0, -0.0, 1.0, -2.5, 0.15625, 65_504.0, 1.0 + f32::EPSILON];
        for (precision, exact) in [(Precision::F32, 7), (Precision::F16, 6), (Precision::Bf16, 5)] {
            let mut bytes = Vec::new();
            assert_eq!(narrow(&numbers, precision, &mut bytes), None);
            assert_eq!(bytes.len(), numbers.len() * precision.bytes());
            let found = widen(&bytes, precision);
            assert_eq!(found[..exact], numbers[..exact], "{precision:?}");
            assert!(found[exact..].iter().zip(&numbers[exact..]).all(|(found, number)| found != number), "{found:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_noticed() {
        for (number, fits) in [(f32::NAN, [false; 3]), (f32::INFINITY, [false; 3]), (70_000.0, [true, false, true])] {
            let found =
                [Precision::F32, Precision::F16, Precision::Bf16].map(|p| narrow(&[number], p, &mut vec![]).is_none());
            assert_eq!(found, fits, "{number}");
        }
    }
}
