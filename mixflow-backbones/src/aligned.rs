//! Networks whose inner tokens can be compared with the features of another network.

use burn::tensor::Tensor;

use crate::Backbone;

/// A [`Backbone`] that also says what its inner tokens look like in the feature spaces of other encoders.
///
/// # Example
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use mixflow_backbones::{Aligned, AlignedBackbone, Backbone};
///
/// #[derive(Module, Debug)]
/// struct Rows { linear: Linear, projector: Linear }
///
/// impl Backbone for Rows {
///     type Condition = ();
///     fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: ()) -> Tensor<4> { self.linear.forward(x) }
/// }
///
/// impl AlignedBackbone for Rows {
///     fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, _: ()) -> Aligned {
///         let tokens: Tensor<3> = x.clone().flatten(1, 2);
///         Aligned { output: self.forward(x, time, ()), projections: vec![self.projector.forward(tokens)] }
///     }
/// }
///
/// let device = Device::default();
/// let [linear, projector] = [8, 5].map(|width| LinearConfig::new(8, width).init(&device));
/// let y = Rows { linear, projector }.forward_aligned(Tensor::zeros([2, 3, 8, 8], &device), Tensor::zeros([2], &device), ());
/// assert_eq!(y.projections[0].dims(), [2, 24, 5]);
/// ```
pub trait AlignedBackbone: Backbone {
    /// Predicts as [`forward`](Backbone::forward) does and projects the inner tokens, in one evaluation.
    fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, condition: Self::Condition) -> Aligned;
}

/// What an [`AlignedBackbone`] says about a noisy image.
#[derive(Clone, Debug)]
pub struct Aligned {
    /// The output of [`forward`](Backbone::forward): `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// `[batch, tokens, width]` with the width of the encoder's features, one tensor an encoder.
    pub projections: Vec<Tensor<3>>,
}
