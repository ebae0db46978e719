//! A condition of one's own: the angle of a bar as a number, so that angles between those of the data can be drawn.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::f64::consts::PI;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Backbone, Condition, Linear as Layer};
use mixflow::data::{Conditioner, Dataset, Error, Example, HostCondition, Loader, LoaderConfig, check_labels};
use mixflow::random::{self, Stream, uniform};
use mixflow::sampling::solver::Heun;
use mixflow::schedules::{Linear, TimeGrid};
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{FlowMatching, Guidance, Sampler};

/// The direction of a line, which is the same after half a turn: cosine and sine of twice its angle, `[batch, 2]`. No
/// direction has length zero, which therefore stands for none.
#[derive(Clone, Debug)]
struct Angle(Tensor<2>);

impl Angle {
    /// One angle a row, in degrees.
    fn new(degrees: &[f64], device: &Device) -> Self {
        let parts =
            degrees.iter().flat_map(|angle| [(angle * PI / 90.0).cos() as f32, (angle * PI / 90.0).sin() as f32]);
        Self(Tensor::from_data(TensorData::new(parts.collect(), [degrees.len(), 2]), device))
    }
}

impl Condition for Angle {
    fn mask(self, mask: Tensor<1, Bool>) -> Self {
        let shape = self.0.dims();
        Self(self.0.mask_fill(mask.unsqueeze_dim::<2>(1).expand(shape), 0.0))
    }

    fn null(self) -> Self {
        Self(self.0.zeros_like())
    }

    fn select(self, rows: Tensor<1, Int>) -> Self {
        Self(self.0.select(0, rows))
    }

    fn on(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }
}

/// Tells the angle, in degrees, that a label stands for.
#[derive(Clone, Debug)]
struct Angles(Vec<f64>);

impl Conditioner<Angle> for Angles {
    fn read(&self, labels: &[usize]) -> Result<HostCondition<Angle>, Error> {
        check_labels(labels, self.0.len())?;
        let angles: Vec<f64> = labels.iter().map(|&label| self.0[label]).collect();
        Ok(Box::new(move |device| Angle::new(&angles, device)))
    }
}

/// Side of the images.
const SIDE: usize = 12;

/// A bar that turns about `[x, y]` by so many degrees.
fn bar(degrees: f64, [x, y]: [f64; 2]) -> Vec<f32> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let pixel = |place: usize| {
        // Rows are counted downwards, angles upwards.
        let (x, y) = ((place % SIDE) as f64 - x, y - (place / SIDE) as f64);
        let (along, across) = ((x * cos + y * sin).abs(), (y * cos - x * sin).abs());
        (2.0 * (1.5 - across).clamp(0.0, 1.0) * (5.0 - along).clamp(0.0, 1.0) - 1.0) as f32
    };
    (0..SIDE * SIDE).map(pixel).collect()
}

/// Bars at these angles, each somewhere about the middle: endless.
#[derive(Debug)]
struct Bars(Angles, Vec<String>);

impl Dataset for Bars {
    fn len(&self) -> Option<u64> {
        None
    }

    fn classes(&self) -> &[String] {
        &self.1
    }

    fn shape(&self) -> [usize; 3] {
        [1, SIDE, SIDE]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        let mut rng = random::rng(0, Stream::Scene, index);
        let label = (uniform(&mut rng) * self.1.len() as f64) as usize;
        let centre = std::array::from_fn(|_| 5.0 + uniform(&mut rng));
        Ok(Example::new(bar(self.0.0[label], centre), label))
    }
}

#[derive(Module, Debug)]
struct Mlp {
    input: Layer,
    hidden: Layer,
    output: Layer,
}

impl Backbone for Mlp {
    type Condition = Angle;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, Angle(angle): Angle) -> Tensor<4> {
        let shape = x.dims();
        let x = Tensor::cat(vec![x.flatten::<2>(1, 3), time.unsqueeze_dim::<2>(1), angle], 1);
        let x = silu(self.input.forward(x));
        let x = x.clone() + silu(self.hidden.forward(x));
        self.output.forward(x).reshape(shape)
    }
}

/// The angle in whole degrees whose bar is most like these images.
fn measured(images: &[f32]) -> f64 {
    let likeness = |degrees: &f64| -> f32 {
        let bar = bar(*degrees, [5.5, 5.5]);
        images.chunks(SIDE * SIDE).flat_map(|image| image.iter().zip(&bar)).map(|(a, b)| a * (b + 1.0)).sum()
    };
    (0..180).map(f64::from).max_by(|a, b| likeness(a).total_cmp(&likeness(b))).expect("there are angles")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default().autodiff();
    let angles = Angles((0..12).map(|step| 15.0 * f64::from(step)).collect());
    let bars = Bars(angles.clone(), angles.0.iter().map(|angle| format!("{angle}°")).collect());
    mixflow::testing::check_dataset(&bars);

    let (init, values) = (Initializer::new(0, &device), SIDE * SIDE);
    let network = Mlp {
        input: init.pytorch_linear(values + 3, 256),
        hidden: init.pytorch_linear(256, 256),
        output: init.pytorch_linear(256, values),
    };
    let mut state = TrainState::new(network);
    let objective = FlowMatching { condition_dropout: 0.1, ..FlowMatching::new(Linear) };
    let rate = LearningRate::Constant { rate: 2e-3, warmup: 50 };
    let optimizer = OptimizerConfig { learning_rate: rate, average: 0.98, ..OptimizerConfig::default() };
    let order = LoaderConfig { batch: 64, ..Default::default() };
    for batch in Loader::batches(Arc::new(bars), order, angles, &device)?.take(1000) {
        state = state.step(&objective, [batch?], 0, &optimizer).0;
    }

    let (network, device) = (state.average(), device.inner());
    // The first two are angles of the data, the others are not.
    let wanted = [30.0, 105.0, 52.0, 128.0];
    let asked: Vec<f64> = wanted.iter().flat_map(|&angle| [angle; 16]).collect();
    let condition = Angle::new(&asked, &device);
    let flow = objective
        .flow(&network, condition.clone())
        .guided(objective.flow(&network, condition.null()), Guidance::new(1.5)?);
    let sampler = Sampler { solver: Heun, grid: TimeGrid::new(10)? };
    let samples = sampler.draw(&flow, [asked.len(), 1, SIDE, SIDE], 0, &device)?;
    let pixels: Vec<f32> = samples.x.into_data().iter::<f32>().collect();
    for (wanted, images) in wanted.iter().zip(pixels.chunks(16 * values)) {
        let found = measured(images);
        println!("asked for {wanted}°, drew {found}°");
        assert!((found - wanted).abs() < 10.0, "the network knows what an angle is");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
