//! Numbers from a device.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Tensor};

/// The numbers of these tensors, `[1]` each, which are on one device: from a GPU by a single read, which waits for all that
/// was asked of it. There they come as `f32`, from the CPU as they are.
pub fn read(numbers: Vec<Tensor<1>>) -> Vec<f64> {
    match numbers.first().map(|first| first.device().inner().as_dispatch().clone()) {
        None => vec![],
        Some(DispatchDevice::Flex(_)) => numbers.into_iter().map(Tensor::into_scalar::<f64>).collect(),
        Some(_) => together(numbers),
    }
}

fn together(numbers: Vec<Tensor<1>>) -> Vec<f64> {
    let numbers = numbers.into_iter().map(|number| number.cast(DType::F32)).collect();
    Tensor::cat(numbers, 0).into_data().iter::<f64>().collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn numbers_are_the_same_one_by_one_and_together() {
        let number = |value: f64, dtype| Tensor::<1>::from_data([value], (&Device::default(), dtype));
        let numbers = vec![number(0.1, DType::F64), number(-2.5, DType::F32), number(f64::INFINITY, DType::F32)];
        assert_eq!(read(numbers.clone()), [0.1, -2.5, f64::INFINITY]);
        assert_eq!(together(numbers), [f64::from(0.1f32), -2.5, f64::INFINITY]);
        assert!(read(vec![]).is_empty());
    }
}
