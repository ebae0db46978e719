//! Trains a small SiT on digits with MixFlow and draws four sevens: ten steps, so that nothing can be read yet.

use std::sync::Arc;

use burn::tensor::Device;
use mixflow::backbones::sit::SitConfig;
use mixflow::data::{Channels, Classes, Conditioner, Digits, Loader, LoaderConfig};
use mixflow::sampling::solver::Heun;
use mixflow::schedules::{Linear, MixFlow, TimeGrid};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{FlowMatching, Sampler};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default().autodiff();
    let network = SitConfig { input_size: 32, channels: 1, classes: 10, depth: 2, ..SitConfig::small(8) };
    let mut state = TrainState::new(network.init(0, &device));
    let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.8));
    let digits = Arc::new(Digits::new(32, Channels::One)?);
    let order = LoaderConfig { batch: 16, ..Default::default() };
    for batch in Loader::batches(digits, order, Classes(10), &device)?.take(10) {
        state = state.step(&objective, [batch?], 0, &OptimizerConfig::default()).0;
    }
    let (network, device) = (state.average(), device.inner());
    let flow = objective.flow(&network, Classes(10).conditions(&[7; 4], &device)?);
    let samples = Sampler { solver: Heun, grid: TimeGrid::new(10)? }.draw(&flow, [4, 1, 32, 32], 0, &device)?;
    assert_eq!((samples.x.dims(), samples.evaluations), ([4, 1, 32, 32], 20));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }

    /// The programs in the README are these files' text, word for word.
    #[test]
    fn the_readme_quotes_the_examples() {
        let readme = include_str!("../../README.md");
        let custom = include_str!("../../mixflow-backbones/examples/custom_backbone.rs");
        for (source, from, to) in
            [(include_str!("quick_start.rs"), "use std::", "\n\n#[cfg(test)]"), (custom, "#[derive", "\n\nfn main")]
        {
            let program = &source[source.find(from).unwrap()..source.find(to).unwrap()];
            assert!(readme.contains(&format!("```rust\n{program}\n```")), "README.md does not quote:\n{program}");
        }
    }
}
