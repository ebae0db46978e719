//! An objective of a network whose adapters drop some of what they are given.

use mixflow_backbones::Backbone;
use rand::RngExt;

use crate::objective::{Batch, Loss, Objective};
use crate::random::{self, Stream};

/// An objective whose network drops a share of what its adapters are given: see [`Backbone::dropping`]. It is the same however a
/// step is cut into batches, and in all runs of the network in one loss.
#[derive(Debug)]
pub struct AdapterDropout<'a, O> {
    /// The objective.
    pub objective: &'a O,
    /// The share, in [0, 1).
    pub rate: f64,
}

impl<B: Backbone, O: Objective<B>> Objective<B> for AdapterDropout<'_, O> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        if self.rate == 0.0 {
            return self.objective.loss(backbone, batch, seed);
        }
        let key = random::rng(seed, Stream::AdapterDropout, 0).random();
        self.objective.loss(&backbone.dropping(self.rate, key, batch.first), batch, seed)
    }

    fn weighs(&self) -> bool {
        self.objective.weighs()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::{Device, Tensor};
    use mixflow_backbones::ClassLabels;
    use mixflow_backbones::dit_dh::{DitDhConfig, Stack};
    use mixflow_backbones::lora::LoraConfig;
    use mixflow_backbones::sit::{SitConfig, official_key};
    use mixflow_schedules::Linear;

    use super::*;
    use crate::objective::FlowMatching;
    use crate::train::{LearningRate, OptimizerConfig, TrainState};

    /// With an adapter at these layers, or at attention, of which both factors do something.
    fn adapted<M: Module>(network: M, targets: &[&str]) -> M {
        struct Waves;
        impl ModuleMapper for Waves {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|value| {
                    let (device, trained) = (value.device().inner(), value.is_require_grad());
                    let wave = Tensor::arange(0..value.shape().num_elements() as i64, &device).float().sin();
                    let wave = wave.reshape(value.dims()).mul_scalar(0.3);
                    Tensor::from_inner(value.inner() + wave).set_require_grad(trained)
                })
            }
        }
        let targets = targets.iter().map(|target| (*target).into()).collect();
        LoraConfig { rank: 2, targets, ..LoraConfig::default() }
            .attach(network, official_key, 0)
            .expect("it has these layers")
            .map(&mut Waves)
    }

    /// Examples of class 1, of four channels.
    fn batch(rows: Range<usize>, device: &Device) -> Batch<ClassLabels> {
        let values: Vec<f32> = (rows.start * 64..rows.end * 64).map(|i| (i as f32 * 0.7).sin()).collect();
        let images = Tensor::<1>::from_data(values.as_slice(), device).reshape([rows.len(), 4, 4, 4]);
        Batch::new(images, ClassLabels::new(&vec![1; rows.len()], 10, device), rows.start as u64)
    }

    fn check<B: Backbone<Condition = ClassLabels>>(network: &B, device: &Device) {
        let plain = FlowMatching::new(Linear);
        let dropping = |rate| AdapterDropout { objective: &plain, rate };
        let loss = |rate: f64, rows: Range<usize>| {
            dropping(rate).loss(network, batch(rows, device), 3).total.into_scalar::<f64>()
        };
        let whole = loss(0.5, 0..8);
        let each: f64 = (0..8).map(|i| loss(0.5, i..i + 1)).sum();
        // The mean of eight losses of order 1 in f32.
        assert!((each / 8.0 / whole - 1.0).abs() < 1e-6, "{each} and {whole}");
        assert!((loss(0.0, 0..8) / whole - 1.0).abs() > 1e-4, "nothing is dropped");

        // With a large epsilon an update is as continuous as its gradient.
        let rate = LearningRate::Constant { rate: 0.1, warmup: 0 };
        let config = OptimizerConfig { learning_rate: rate, epsilon: 1.0, ..OptimizerConfig::default() };
        let step = |parts: usize, rate: f64| -> Vec<f32> {
            let rows = 8 / parts;
            let batches = (0..parts).map(|part| batch(part * rows..(part + 1) * rows, device));
            let (state, _) = TrainState::new(network.clone()).step(&dropping(rate), batches, 3, &config);
            state.snapshot().weights.values().flat_map(|tensor| tensor.iter::<f32>().collect::<Vec<_>>()).collect()
        };
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (one, halves) = (step(1, 0.5), step(2, 0.5));
        // Updates of 0.1 at most, of gradients in f32.
        assert!(apart(&one, &halves) < 1e-6, "{}", apart(&one, &halves));
        assert!(apart(&one, &step(1, 0.0)) > 1e-4, "nothing is dropped");

        // An example has other masks in the next row.
        let outputs = |first: u64| {
            let Batch { images, condition, .. } = batch(0..1, device);
            let output = network.dropping(0.5, 7, first).forward(images, Tensor::from_floats([0.3], device), condition);
            output.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert!(apart(&outputs(0), &outputs(1)) > 1e-4, "two examples share their masks");
    }

    #[test]
    fn what_is_dropped_does_not_depend_on_the_batch() {
        let device = &Device::flex().autodiff();
        let sit = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        let stack = |width| Stack { width, depth: 1, heads: 2, hidden: 32 };
        let dit_dh =
            DitDhConfig { input_size: 4, channels: 4, encoder: stack(16), head: stack(24), ..DitDhConfig::small() };
        check(&adapted(SitConfig { classes: 10, ..sit }.init(3, device), &[]), device);
        check(
            &adapted(
                DitDhConfig { classes: 10, ..dit_dh }.init(3, device),
                &["mlp.w12", "mlp.w3", "adaLN_modulation.1"],
            ),
            device,
        );
    }
}
