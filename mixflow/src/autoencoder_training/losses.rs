//! The three losses together.

use burn::tensor::Tensor;
use mixflow_backbones::discriminator::Heads;
use mixflow_backbones::encoder::Normalisation;
use mixflow_backbones::rae::Decoder;

use crate::objective::Loss;

use super::{AdversarialConfig, DiffAugment, Discriminator, Perceptual, adaptive_weight, reconstruction};

/// An adversary of one step.
#[derive(Clone, Copy, Debug)]
pub struct Opponent<'a> {
    /// The frozen part.
    pub discriminator: &'a Discriminator,
    /// The trained part.
    pub heads: &'a Heads,
    /// What the images are changed by before it sees them.
    pub augment: &'a DiffAugment,
    /// How much it counts.
    pub config: &'a AdversarialConfig,
}

/// What a step's decoder is judged by, beside the mean absolute difference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses<'a> {
    /// A perceptual network and its factor.
    pub perceptual: Option<(&'a Perceptual, f64)>,
    /// An adversary.
    pub opponent: Option<Opponent<'a>>,
}

/// Where a decoder's tokens become images.
#[derive(Clone, Copy, Debug)]
pub struct LastLayer<'a> {
    /// The decoder.
    pub decoder: &'a Decoder,
    /// The scale of its pixels.
    pub normalisation: Normalisation,
}

impl LastLayer<'_> {
    /// Images in [-1, 1] of the tokens that [`Decoder::hidden`] gives.
    pub fn images(&self, hidden: Tensor<3>) -> Tensor<4> {
        let patches = self.decoder.pred.forward(hidden);
        self.normalisation.undo(self.decoder.images(patches))
    }

    /// The norm of a gradient at this layer's weights, given that at the images.
    fn gradient_norm(&self, hidden: &Tensor<3>, gradient: Tensor<4>) -> f64 {
        let product = self.images(hidden.clone().detach()) * Tensor::from_inner(gradient);
        let gradients = product.sum().backward();
        let weight = self.decoder.pred.weight.val().grad(&gradients).expect("the last layer makes the images");
        weight.square().sum().sqrt().into_scalar::<f64>()
    }
}

impl Losses<'_> {
    /// The loss of a reconstruction, `L1 + w LPIPS + w' λ GAN`, λ being the [`adaptive_weight`]. Its terms are `l1`, `lpips`,
    /// `gan` and `adaptive_weight`, each where it takes part.
    ///
    /// # Shapes
    /// - hidden: `[batch, grid * grid, width]`, the tokens before `last`
    /// - images: `[batch, channels, height, width]`, in [-1, 1], what is to be found
    pub fn of(&self, last: LastLayer<'_>, hidden: Tensor<3>, images: &Tensor<4>) -> Loss {
        let found = last.images(hidden.clone());
        let Some(opponent) = self.opponent else { return self.likeness(found, images) };
        // Each loss is differentiated down to the image once; from there on one pass through the decoder serves both.
        let mut terms = vec![];
        let (likeness, of_likeness) = differentiate(&found, |found| {
            let loss = self.likeness(found, images);
            terms = loss.terms;
            loss.total
        });
        let Opponent { discriminator, heads, augment, config } = opponent;
        let (gan, of_gan) = differentiate(&found, |found| discriminator.against(found, heads, augment));
        let norms = [&of_likeness, &of_gan].map(|gradient| last.gradient_norm(&hidden, gradient.clone()));
        let adaptive = adaptive_weight(norms[0], norms[1], config.limit);
        let number = |value: f64| Tensor::from_floats([value as f32], &hidden.device().inner());
        terms.extend([("gan", number(gan)), ("adaptive_weight", number(adaptive))]);

        let factor = config.weight * adaptive;
        let gradient = Tensor::from_inner(of_likeness + of_gan * factor);
        let loss = (found * gradient).sum();
        // The gradient is that of the product, the value that of the losses.
        Loss { total: loss.clone() - loss.detach() + likeness + factor * gan, terms }
    }

    /// The losses that compare two images.
    fn likeness(&self, found: Tensor<4>, images: &Tensor<4>) -> Loss {
        let difference = reconstruction(found.clone(), images.clone());
        let loss = Loss::from(difference.clone()).with("l1", difference);
        let Some((perceptual, weight)) = self.perceptual else { return loss };
        let distance = perceptual.loss(found, images.clone());
        Loss { total: loss.total.clone() + distance.clone() * weight, ..loss }.with("lpips", distance)
    }
}

/// A loss of images and its gradient there.
fn differentiate(images: &Tensor<4>, loss: impl FnOnce(Tensor<4>) -> Tensor<1>) -> (f64, Tensor<4>) {
    let leaf = images.clone().detach().require_grad();
    let loss = loss(leaf.clone());
    let gradient = leaf.grad(&loss.backward()).expect("a loss of images depends on them");
    (value(&loss), gradient)
}

fn value(loss: &Tensor<1>) -> f64 {
    loss.clone().inner().into_scalar::<f64>()
}
