//! The numbers that a step tells.

use burn::tensor::Tensor;
use mixflow_backbones::ops::read;

/// Losses of some parts of a step and their terms, on the device until all is asked of it.
#[derive(Default)]
pub(super) struct Scalars {
    pub(super) losses: Vec<Tensor<1>>,
    /// Names of the terms of all parts, one part after the other.
    pub(super) names: Vec<&'static str>,
    pub(super) terms: Vec<Tensor<1>>,
}

/// What a step found, over all of its parts.
#[derive(Clone)]
pub(super) struct Numbers {
    /// Mean of the losses.
    pub(super) loss: f64,
    /// Means of their terms, by name; one that a part lacks is 0 there.
    pub(super) terms: Vec<(&'static str, f64)>,
    /// Norm of the mean gradient.
    pub(super) gradient_norm: f64,
    /// How many parts.
    pub(super) parts: f64,
}

impl Numbers {
    /// Those of the shares of all devices, and the squared norms of the gradients that they add up to, which are on the
    /// first: one read from each.
    pub(super) fn read(shares: Vec<Scalars>, mut squares: Vec<Tensor<1>>) -> Self {
        let (mut losses, mut sums, mut squared) = (vec![], Vec::<(&'static str, f64)>::new(), 0.0);
        for Scalars { losses: own, names, terms } in shares {
            let (count, squares) = (own.len(), std::mem::take(&mut squares));
            let numbers = read([own, terms, squares].concat());
            let (own, numbers) = numbers.split_at(count);
            let (terms, squares) = numbers.split_at(names.len());
            losses.extend_from_slice(own);
            squared += squares.iter().sum::<f64>();
            for (name, &value) in names.into_iter().zip(terms) {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name, value)),
                }
            }
        }
        let parts = losses.len() as f64;
        Self {
            loss: losses.iter().sum::<f64>() / parts,
            terms: sums.into_iter().map(|(name, sum)| (name, sum / parts)).collect(),
            gradient_norm: squared.sqrt() / parts,
            parts,
        }
    }
}
