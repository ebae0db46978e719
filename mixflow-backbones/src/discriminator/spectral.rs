//! A convolution that cannot stretch its input.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops::{Window, conv2d};

/// A convolution along a ring of tokens whose kernel is divided by its largest singular value.
///
/// The value is estimated by power iteration: `u` and `v` are kept and improved a little at a time.
///
/// # Source
/// Miyato et al. 2018 (arXiv 1802.05957), algorithm 1, as PyTorch's `torch.nn.utils.spectral_norm` has it with one
/// iteration; RAE `src/disc/dinodisc.py` at a4d18c4, `SpectralConv1d`, padded circularly.
#[derive(Module, Debug)]
pub struct SpectralConv {
    /// Before the division, `[outputs, inputs, kernel]`.
    pub weight: Param<Tensor<3>>,
    /// `[outputs]`
    pub bias: Param<Tensor<1>>,
    /// Left singular vector, `[outputs]`; not trained.
    pub u: Param<Tensor<1>>,
    /// Right singular vector, `[inputs * kernel]`; not trained.
    pub v: Param<Tensor<1>>,
}

/// The least length that a vector is divided by.
const EPSILON: f64 = 1e-12;

impl SpectralConv {
    pub(super) fn new([inputs, outputs]: [usize; 2], kernel: usize, init: &Initializer) -> Self {
        let bound = ((inputs * kernel) as f64).powf(-0.5);
        let vector = |len: usize| {
            let start = unit(init.normal([len], 1.0).val()).detach();
            Param::from_tensor(start).set_require_grad(false)
        };
        Self {
            weight: init.uniform([outputs, inputs, kernel], bound),
            bias: init.uniform([outputs], bound),
            u: vector(outputs),
            v: vector(inputs * kernel),
        }
    }

    /// # Shapes
    /// - x: `[batch, inputs, tokens]`
    /// - output: `[batch, outputs, tokens]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.weight.val();
        let [_, _, kernel] = weight.dims();
        let [_, _, tokens] = x.dims();
        let beside = kernel / 2;
        let ring = if beside == 0 {
            x
        } else {
            let (end, start) = (x.clone().slice_dim(2, tokens - beside..), x.clone().slice_dim(2, ..beside));
            Tensor::cat(vec![end, x, start], 2)
        };
        let weight = weight.clone() / self.largest(weight).reshape([1, 1, 1]);
        let y = conv2d(ring.unsqueeze_dim(2), weight.unsqueeze_dim(2), Some(self.bias.val()), Window::default());
        y.squeeze_dim(2)
    }

    /// `uᵀ W v`, the estimate of the largest singular value: `[1]`, differentiable in `W`.
    fn largest(&self, weight: Tensor<3>) -> Tensor<1> {
        let product = weight.flatten::<2>(1, 2) * self.v.val().unsqueeze_dim(0); // [outputs, inputs * kernel]
        (product.sum_dim(1).squeeze_dim(1) * self.u.val()).sum()
    }

    pub(super) fn power_iteration(self) -> Self {
        let weight = self.weight.val();
        let weight = if weight.is_autodiff() { weight.inner() } else { weight };
        let weight = weight.flatten::<2>(1, 2);
        let u = self.u.val();
        let tracked = u.is_autodiff();
        let u = if tracked { u.inner() } else { u };
        let v = unit((weight.clone() * u.unsqueeze_dim(1)).sum_dim(0).squeeze_dim(0));
        let u = unit((weight * v.clone().unsqueeze_dim(0)).sum_dim(1).squeeze_dim(1));
        let replace = |vector: Param<Tensor<1>>, new: Tensor<1>| {
            vector.map(|_| if tracked { Tensor::from_inner(new) } else { new })
        };
        Self { u: replace(self.u, u), v: replace(self.v, v), ..self }
    }
}

fn unit(vector: Tensor<1>) -> Tensor<1> {
    let length = vector.clone().square().sum().sqrt().clamp_min(EPSILON);
    vector / length
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn power_iteration_finds_the_largest_singular_value() {
        let init = Initializer::new(3, &Device::default());
        let mut conv = SpectralConv::new([3, 4], 3, &init);
        for _ in 0..200 {
            conv = conv.power_iteration();
        }
        // No unit vector is stretched more: the norm of W x over many directions comes close to it and stays below.
        let largest = conv.largest(conv.weight.val()).into_scalar::<f64>();
        let weight = conv.weight.val().flatten::<2>(1, 2);
        let stretch = |x: Tensor<1>| {
            let image = (weight.clone() * unit(x).unsqueeze_dim(0)).sum_dim(1);
            image.square().sum().sqrt().into_scalar::<f64>()
        };
        for _ in 0..500 {
            assert!(stretch(init.normal([9], 1.0).val().detach()) <= largest * (1.0 + 1e-5));
        }
        assert!((stretch(conv.v.val()) / largest - 1.0).abs() < 1e-5);
    }
}
