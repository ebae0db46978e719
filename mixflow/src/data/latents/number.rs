//! Numbers as they are stored.

use half::{bf16, f16};

use super::manifest::StoragePrecision;

impl StoragePrecision {
    /// Appends numbers as bytes, rounded to the nearest. Returns the first that is not finite, or not in this precision.
    #[must_use]
    pub fn narrow(self, numbers: &[f32], bytes: &mut Vec<u8>) -> Option<f32> {
        let finite = |number: f32| match self {
            Self::F32 => number.is_finite(),
            Self::F16 => f16::from_f32(number).is_finite(),
            Self::Bf16 => bf16::from_f32(number).is_finite(),
        };
        match self {
            Self::F32 => bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::F16 => bytes.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes())),
            Self::Bf16 => bytes.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes())),
        }
        numbers.iter().copied().find(|&number| !finite(number))
    }

    /// Appends the numbers that bytes hold.
    pub fn widen(self, bytes: &[u8], numbers: &mut Vec<f32>) {
        let halves = bytes.as_chunks::<2>().0.iter();
        match self {
            Self::F32 => numbers.extend(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number))),
            Self::F16 => numbers.extend(halves.map(|number| f16::from_le_bytes(*number).to_f32())),
            Self::Bf16 => numbers.extend(halves.map(|number| bf16::from_le_bytes(*number).to_f32())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_in_every_precision_that_holds_them() {
        let numbers = [0.0, -0.0, 1.0, -2.5, 0.15625, 65_504.0, 1.0 + f32::EPSILON];
        for (precision, exact) in [(StoragePrecision::F32, 7), (StoragePrecision::F16, 6), (StoragePrecision::Bf16, 5)]
        {
            let mut bytes = Vec::new();
            assert_eq!(precision.narrow(&numbers, &mut bytes), None);
            assert_eq!(bytes.len(), numbers.len() * precision.bytes());
            let mut found = Vec::new();
            precision.widen(&bytes, &mut found);
            assert_eq!(found[..exact], numbers[..exact], "{precision:?}");
            assert!(found[exact..].iter().zip(&numbers[exact..]).all(|(found, number)| found != number), "{found:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_noticed() {
        for (number, fits) in [(f32::NAN, [false; 3]), (f32::INFINITY, [false; 3]), (70_000.0, [true, false, true])] {
            let found = [StoragePrecision::F32, StoragePrecision::F16, StoragePrecision::Bf16]
                .map(|p| p.narrow(&[number], &mut vec![]).is_none());
            assert_eq!(found, fits, "{number}");
        }
    }
}
