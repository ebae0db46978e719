//! An objective of one's own: flow matching that also leads away from the velocities of other images.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Backbone;
use mixflow::backbones::sit::SitConfig;
use mixflow::data::{Channels, Classes, Digits, Loader, LoaderConfig};
use mixflow::objective::Noised;
use mixflow::schedules::{Linear, MixFlow, Schedule, TimestepSampler};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching, Loss, Objective};

/// Contrastive flow matching: `‖v − u‖² − weight · ‖v − u'‖²`, where `u` is the target of the network's own image and `u'`
/// that of the next image of the batch.
///
/// # Source
/// Stoica et al. 2025, *Contrastive Flow Matching* (arXiv 2506.05350).
#[derive(Clone, Copy, Debug)]
struct Contrastive<S, T> {
    /// What is drawn: times, noise, dropped labels. So any path and any law of times will do, MixFlow's too.
    matching: FlowMatching<S, T>,
    /// Of what is subtracted; 0 is flow matching, and from 1 on the loss has no minimum.
    weight: f64,
}

impl<B: Backbone, S: Schedule, T: TimestepSampler> Objective<B> for Contrastive<S, T> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let (noised, condition) = self.matching.draw(batch.images, batch.condition, batch.first, seed);
        let output = backbone.forward(noised.x.clone(), noised.time.clone(), condition);
        let [count, ..] = output.dims();
        let next = noised.target.clone().narrow(0, 1, count - 1);
        let target = Tensor::cat(vec![next, noised.target.clone().narrow(0, 0, 1)], 0);
        let others = Noised { target, ..noised.clone() }.losses(output.clone());
        let [own, others] = [noised.losses(output), others].map(Tensor::mean);
        // The terms are logged, drawn and tracked.
        Loss::from(own.clone() - others.clone() * self.weight).with("own", own).with("others", others)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default().autodiff();
    let network = SitConfig {
        input_size: 16,
        channels: 1,
        classes: 10,
        width: 64,
        depth: 2,
        heads: 2,
        hidden: 128,
        ..SitConfig::small(4)
    };
    let mut state = TrainState::new(network.init(0, &device));
    let matching = FlowMatching { condition_dropout: 0.1, ..FlowMatching::new(Linear).timesteps(MixFlow::new(0.8)) };
    let objective = Contrastive { matching, weight: 0.05 };

    let digits = Arc::new(Digits::new(16, Channels::One)?);
    let order = LoaderConfig { batch: 32, ..Default::default() };
    let mut losses = vec![];
    for batch in Loader::batches(digits, order, Classes(10), &device)?.take(40) {
        let batch = batch?;
        if losses.is_empty() {
            // Without what is subtracted it is flow matching: the same times, noise and dropped labels.
            let loss = |objective: &dyn Objective<_>| {
                objective.loss(state.backbone(), batch.clone(), 0).total.into_scalar::<f64>()
            };
            assert_eq!(loss(&Contrastive { weight: 0.0, ..objective }), loss(&matching));
        }
        let (next, report) = state.step(&objective, [batch], 0, &OptimizerConfig::default());
        state = next;
        losses.push(report.loss);
    }
    let [first, last] = [&losses[..10], &losses[30..]].map(|losses| losses.iter().sum::<f64>() / 10.0);
    println!("mean loss of the first ten steps {first:.3}, of the last {last:.3}");
    assert!(last < first, "the loss falls");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
