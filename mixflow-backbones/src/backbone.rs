//! The trait that everything else trains and samples.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::lora::dropping;
use crate::{Condition, Invalid, Precision};

/// A network that predicts velocity, noise, data or score from a noisy image.
///
/// # Example
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use mixflow_backbones::Backbone;
///
/// #[derive(Module, Debug)]
/// struct Affine { linear: Linear }
///
/// impl Backbone for Affine {
///     type Condition = ();
///     fn forward(&self, x: Tensor<4>, time: Tensor<1>, _: ()) -> Tensor<4> {
///         let [batch, ..] = x.dims();
///         self.linear.forward(x) + time.reshape([batch, 1, 1, 1])
///     }
/// }
///
/// let device = Device::default();
/// let network = Affine { linear: LinearConfig::new(8, 8).init(&device) };
/// let y = network.forward(Tensor::zeros([2, 3, 8, 8], &device), Tensor::zeros([2], &device), ());
/// assert_eq!(y.dims(), [2, 3, 8, 8]);
/// ```
#[diagnostic::on_unimplemented(note = "derive `Module`, then implement `forward`")]
pub trait Backbone: Module {
    /// What the network is told besides the time: class labels, text, or nothing.
    type Condition: Condition;

    /// Predicts.
    ///
    /// # Shapes
    /// - x: `[batch, channels, height, width]`
    /// - time: `[batch]`, in [0, 1], not scaled, in the direction that the network was trained with: 0 is noise, or data where the
    ///   path is reversed. DDPM's steps are 0.999 at noise to 0, and adaptive steps may look a little beyond the ends.
    /// - output: as x
    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: Self::Condition) -> Tensor<4>;

    /// Predicts, and says the fraction `f` of a denoising step's variance, if the network has learned it:
    /// `log variance = (1 − f) log β̃ + f log β`, between the posterior's `β̃` and `β`. Provided: [`forward`](Self::forward)
    /// and none.
    ///
    /// # Shapes
    /// - x, time: as in [`forward`](Self::forward)
    /// - both outputs: as x
    ///
    /// # Source
    /// Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15.
    fn forward_with_variance(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        condition: Self::Condition,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        (self.forward(x, time, condition), None)
    }

    /// The same network, weights and all, with products in `precision`; none if it cannot. Provided: `f32` alone. Networks of this crate's parts
    /// implement it by [`Precision::of_blocks`].
    #[must_use]
    fn in_precision(&self, precision: Precision) -> Option<Self> {
        precision.is_full().then(|| self.clone())
    }

    /// The same network, weights and all, whose blocks keep their inputs alone for the backward pass and are run again in it;
    /// none if it cannot. Provided: none. Networks of this crate's blocks implement it by
    /// [`AdaLnBlock::recomputing`](crate::block::AdaLnBlock::recomputing), others by [`recompute`](crate::block::recompute).
    #[must_use]
    fn recomputing(&self) -> Option<Self> {
        None
    }

    /// The same network with the blocks of these numbers, from 0, left out: a weaker one to guide away from. Weights are
    /// shared, not copied; blocks are numbered anew, so that it cannot be stored as what it came from. Provided: an error.
    ///
    /// # Errors
    /// If there is no block of a number, or the network has none that can be left out.
    fn without_blocks(&self, _blocks: &[usize]) -> Result<Self, Invalid> {
        Err(Invalid::new("blocks", "cannot be left out of this network"))
    }
    /// The same network, weights and all, that is told this scale of guidance in the place of its own, of networks that were
    /// distilled from a guided one and are told its scale. Provided: none, it is told none.
    #[must_use]
    fn with_guidance(&self, _scale: f64) -> Option<Self> {
        None
    }

    /// The same network as it computes in a training step whose adapters drop some of what they are given: [`dropping`]. Provided:
    /// that, for networks that run the examples of a batch together in their order. Others, and what holds one of these, implement
    /// it, so that what is dropped of an example goes by its position.
    #[must_use]
    fn dropping(&self, rate: f64, seed: u64, first: u64) -> Self {
        dropping(self.clone(), rate, seed, first)
    }
}
