//! The numbers that a step tells.

use std::collections::BTreeMap;

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

/// Loss, terms and gradient norm of a step, over all of its parts.
#[derive(Clone)]
pub(super) struct Numbers {
    /// Mean of the losses.
    pub(super) loss: f64,
    /// Means of their terms, by name; one that a part lacks is 0 there.
    pub(super) terms: Vec<(&'static str, f64)>,
    /// Norm of the mean gradient.
    pub(super) gradient_norm: f64,
    /// Number of parts.
    pub(super) parts: f64,
}

impl Numbers {
    /// The numbers of a step from the shares of all devices, each with the squared norms of sums of gradients that it has, by
    /// the places of their parameters: one read from each.
    pub(super) fn read(shares: Vec<(Scalars, Vec<(usize, Tensor<1>)>)>) -> Self {
        let (mut losses, mut sums, mut squared) = (vec![], Vec::<(&'static str, f64)>::new(), BTreeMap::new());
        for (Scalars { losses: own, names, terms }, squares) in shares {
            let count = own.len();
            let (places, squares): (Vec<_>, Vec<_>) = squares.into_iter().unzip();
            let numbers = read([own, terms, squares].concat());
            let (own, numbers) = numbers.split_at(count);
            let (terms, squares) = numbers.split_at(names.len());
            losses.extend_from_slice(own);
            squared.extend(places.into_iter().zip(squares.iter().copied()));
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
            // In the order of the network, whoever had them.
            gradient_norm: squared.values().sum::<f64>().sqrt() / parts,
            parts,
        }
    }
}
