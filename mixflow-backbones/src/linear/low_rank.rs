//! The adapter of one layer.

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{DType, Tensor};

use crate::init::Initializer;
use crate::ops::{self, Dropped, Recomputed};

/// `scale · B A`, added to the weight of a layer that is frozen.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `A`, `[rank, inputs]`.
    pub a: Param<Tensor<2>>,
    /// `B`, `[outputs, rank]`.
    pub b: Param<Tensor<2>>,
    scale: f64,
    /// Whether it is never trained.
    frozen: bool,
}

impl LowRank {
    /// `A` from `U(−1/√inputs, 1/√inputs)`, which is what `kaiming_uniform(a=√5)` means, `B` of zeros.
    pub(crate) fn new(init: &Initializer, [outputs, inputs]: [usize; 2], rank: usize, scale: f64) -> Self {
        let bound = (inputs as f64).powf(-0.5);
        Self { a: init.uniform([rank, inputs], bound), b: init.zeros([outputs, rank]), scale, frozen: false }
    }

    /// One that is never trained, with its scale in `B`.
    pub(crate) fn frozen(factors: [Tensor<2>; 2]) -> Self {
        let [a, b] = factors.map(|factor| Param::from_tensor(factor).set_require_grad(false));
        Self { a, b, scale: 1.0, frozen: true }
    }

    /// Whether it is never trained. One that is may have no gradients where a block is run to be run again.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// `[x, A x]` and `[W, scale · B]`, in the type of `W`: their product is the layer's output with the adapter in it.
    pub(crate) fn beside(&self, x: Tensor<3>, weight: Tensor<2>) -> (Tensor<3>, Tensor<2>) {
        let low = weight.dtype();
        let narrow = ops::linear(x.clone().cast(DType::F32), self.a.val(), None).cast(low);
        let columns = self.b.val().mul_scalar(self.scale).cast(low);
        (Tensor::cat(vec![x.cast(low), narrow], 2), Tensor::cat(vec![weight, columns], 1))
    }

    /// What the adapter adds to the layer's output, by two narrow products.
    ///
    /// # Shapes
    /// - x: `[.., inputs]`
    /// - output: `[.., outputs]`
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let x = match self.dropped() {
            Some(dropped) => ops::dropout(x, dropped),
            None => x,
        };
        ops::linear(ops::linear(x, self.a.val(), None), self.b.val(), None).mul_scalar(self.scale)
    }

    /// [`forward`](Self::forward) of what is computed again for the backward pass.
    pub(crate) fn forward_of(&self, x: Recomputed) -> Tensor<3> {
        let x = match self.dropped() {
            Some(dropped) => x.map(move |x| ops::dropout(x, dropped)),
            None => x,
        };
        ops::linear_of(ops::linear_of(x, self.a.val(), None), self.b.val(), None).value().mul_scalar(self.scale)
    }

    /// What of the input is dropped, in a training step.
    fn dropped(&self) -> Option<Dropped> {
        self.a.reparameterization().copied()
    }
}

impl Reparameterization for LowRank {
    const NAME: &'static str = "lora";

    fn apply<const D: usize>(&self, weight: Tensor<D>) -> Tensor<D> {
        let (shape, change) = (weight.shape(), self.b.val().matmul(self.a.val()).mul_scalar(self.scale));
        // A weight that is stored rounded becomes what it is with the adapter.
        weight.cast(change.dtype()) + change.reshape(shape)
    }
}

/// What `A` remembers in a training step that drops some of its input. The factor itself stays as it is.
impl Reparameterization for Dropped {
    const NAME: &'static str = "dropout";

    fn apply<const D: usize>(&self, factor: Tensor<D>) -> Tensor<D> {
        factor
    }
}
