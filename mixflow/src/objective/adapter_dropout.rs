//! An objective of a network whose adapters drop some of what they are given.

use mixflow_backbones::Backbone;
use mixflow_backbones::lora::dropping;
use rand::RngExt;

use crate::objective::{Batch, Loss, Objective};
use crate::random::{self, Stream};

/// An objective whose network drops a share of what its adapters are given: see [`dropping`]. It is the same however a step is
/// cut into batches, and in all runs of the network in one loss.
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
        self.objective.loss(&dropping(backbone.clone(), self.rate, key, batch.first), batch, seed)
    }

    fn weighs(&self) -> bool {
        self.objective.weighs()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::{Device, Tensor};
    use mixflow_backbones::ClassLabels;
    use mixflow_backbones::lora::LoraConfig;
    use mixflow_backbones::sit::{Sit, SitConfig, official_key};
    use mixflow_schedules::Linear;

    use super::*;
    use crate::objective::FlowMatching;

    /// With an adapter of which both factors do something.
    fn network(device: &Device) -> Sit {
        struct Waves;
        impl ModuleMapper for Waves {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|value| {
                    let wave = Tensor::arange(0..value.shape().num_elements() as i64, &value.device()).float().sin();
                    wave.reshape(value.dims()).mul_scalar(0.3) + value
                })
            }
        }
        let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        LoraConfig { rank: 2, ..LoraConfig::default() }
            .attach(config.init(3, device), official_key, 0)
            .expect("it has attention")
            .map(&mut Waves)
    }

    #[test]
    fn a_loss_with_dropout_does_not_depend_on_the_batch() {
        let device = Device::flex();
        let network = network(&device);
        let loss = |rate: f64, rows: std::ops::Range<usize>| {
            let values: Vec<f32> = (rows.start * 64..rows.end * 64).map(|i| (i as f32 * 0.7).sin()).collect();
            let images = Tensor::<1>::from_data(values.as_slice(), &device).reshape([rows.len(), 4, 4, 4]);
            let labels = ClassLabels::new(&vec![1; rows.len()], 1000, &device);
            let objective = AdapterDropout { objective: &FlowMatching::new(Linear), rate };
            objective.loss(&network, Batch::new(images, labels, rows.start as u64), 3).total.into_scalar::<f64>()
        };
        let whole = loss(0.5, 0..8);
        let each: f64 = (0..8).map(|i| loss(0.5, i..i + 1)).sum();
        // The mean of eight losses of order 1 in f32.
        assert!((each / 8.0 / whole - 1.0).abs() < 1e-6, "{each} and {whole}");
        assert!((loss(0.0, 0..8) / whole - 1.0).abs() > 1e-4, "nothing is dropped");
    }
}
