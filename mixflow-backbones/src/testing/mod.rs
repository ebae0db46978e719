//! Conformance checks for any backbone.

mod case;
mod random;
#[cfg(test)]
mod tests;

use burn::tensor::Device;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use self::case::Case;
use self::random::{move_parameters, uniform};
use crate::{Aligned, AlignedBackbone, Backbone};

/// Checks everything that training and sampling take for granted about `backbone`.
///
/// - The output has the input's `shape`, `[batch, channels, height, width]`, and is finite.
/// - The same input gives the same output, bit for bit.
/// - A row of a batch does not depend on the others.
/// - Masking every condition is [`null`](crate::Condition::null); masking one leaves the other rows alone.
/// - Every trained parameter receives a finite gradient.
/// - Weights survive a `.safetensors` file, bit for bit.
///
/// All of it is checked for the network as it is and again with its parameters moved a little, since many networks
/// start with layers of zeros, behind which nothing shows.
///
/// `backbone` and `condition`, of `batch` rows, are made on a device with autodiff, such as
/// `Device::default().autodiff()`.
///
/// # Panics
/// If a property does not hold: the message starts with its name. Also if the batch has fewer than two rows or the
/// device has no autodiff. An [`AlignedBackbone`] has parameters that its output does not depend on: see
/// [`check_aligned`].
pub fn check<B: Backbone>(backbone: &B, shape: [usize; 4], condition: B::Condition) {
    each_case(backbone, shape, condition, |case| case.gradients(case.loss(case.output(case.condition.clone()))));
}

/// Checks an [`AlignedBackbone`] as [`check`] does a backbone, and its projections:
///
/// - Output and [`forward`](Backbone::forward) are the same, bit for bit.
/// - There are projections, each `[batch, tokens, width]` and finite.
/// - A row of a projection does not depend on the rest of the batch.
/// - Every trained parameter receives a finite gradient from output and projections together: projectors have none
///   from the output alone.
///
/// # Panics
/// As [`check`].
pub fn check_aligned<B: AlignedBackbone>(backbone: &B, shape: [usize; 4], condition: B::Condition) {
    each_case(backbone, shape, condition, |case| {
        let Aligned { output, projections } = case.alignment();
        let loss = projections.into_iter().fold(case.loss(output), |loss, z| loss + z.square().mean());
        case.gradients(loss);
    });
}

/// Checks what all backbones have in common, and `rest`.
fn each_case<B: Backbone>(backbone: &B, shape: [usize; 4], condition: B::Condition, rest: impl Fn(&Case<'_, B>)) {
    assert!(shape[0] >= 2, "a batch of at least 2 is needed to tell rows apart, found {}", shape[0]);
    let device = backbone.devices().first().cloned().unwrap_or_else(|| Device::flex().autodiff());
    assert!(device.is_autodiff(), "the network must be made on a device with `autodiff()` to check its gradients");

    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let moved = move_parameters(backbone.clone(), &mut rng);
    for (network, other) in [(backbone, &moved), (&moved, backbone)] {
        let case = Case {
            network,
            x: uniform(shape, &mut rng, &device),
            time: uniform([shape[0]], &mut rng, &device) * 0.5 + 0.5,
            target: uniform(shape, &mut rng, &device),
            condition: condition.clone(),
            device: device.clone(),
        };
        case.shape_and_finiteness();
        case.determinism();
        case.batch_independence();
        case.null_condition();
        rest(&case);
        case.save_and_load(other.clone());
    }
}
