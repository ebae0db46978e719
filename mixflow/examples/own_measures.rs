//! Features and a measure of one's own: both post-trainings compared by what a network sees of their images.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::sync::atomic::AtomicBool;

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::Convolution;
use mixflow::backbones::init::Initializer;
use mixflow::evaluation::metric::Features;
use mixflow::evaluation::{Best, ImageFeatures, Measure, Measures};
use mixflow::launch::{Finish, Launch};
use mixflow::recipe::Recipe;
use mixflow::sampling::Images;
use mixflow::train::RunFolder;

/// Edges of an image: a layer of random convolutions, averaged over four quarters. A trained encoder would stand here.
#[derive(Debug)]
struct Edges {
    layer: Convolution,
    device: Device,
}

impl ImageFeatures for Edges {
    fn name(&self) -> &str {
        "random edges"
    }

    fn features(&self, images: &Images) -> Result<Features, mixflow::Error> {
        let pixels = TensorData::new(images.pixels.clone(), images.shape);
        let [count, _, height, width] = images.shape;
        let maps = relu(self.layer.forward(Tensor::<4>::from_data(pixels, &self.device)));
        let channels = maps.dims()[1];
        let quarters = maps.reshape([count, channels * 2, height / 2, 2, width / 2]);
        let means = quarters.mean_dim(4).mean_dim(2).reshape([count as i32, -1]);
        let columns = means.dims()[1];
        Ok(Features::from_f32(count, columns, &means.into_data().iter::<f32>().collect::<Vec<_>>())?)
    }
}

/// How far the mean features are apart.
fn shift(generated: &Features, real: &Features) -> f64 {
    let mean = |set: &Features, column: usize| set.iter().map(|row| row[column]).sum::<f64>() / set.rows() as f64;
    (0..real.columns()).map(|column| (mean(generated, column) - mean(real, column)).powi(2)).sum::<f64>().sqrt()
}

/// Small, so that it takes seconds: what comes out decides nothing.
const SMALL: [&str; 14] = [
    "data.size=8",
    "network.input_size=8",
    "network.patch=4",
    "network.width=24",
    "network.depth=1",
    "sampling.grid.steps=2",
    "training.steps=5",
    "training.batch=16",
    "post_training.steps=2",
    "post_training.seeds=1",
    "post_training.images=40",
    "post_training.solver_steps=[]",
    "post_training.lambdas=[1]",
    "post_training.slow_flow=false",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (recipe, stop) = (Recipe::read("digits", &SMALL.map(String::from))?, AtomicBool::new(false));
    let device = Device::default();
    let edges = Edges { layer: Convolution::new(1, 8, 3, &Initializer::new(0, &device)), device };
    let more = vec![Measure::new("shift", Best::Low, |generated, real| Ok(shift(generated, real)))];
    let folder = tempfile::tempdir()?;
    let run = RunFolder::begin(&folder.path().join("run"), recipe.to_value())?;
    let launch = Launch { measures: Measures { features: &edges, more }, ..Launch::new(&recipe, &edges.device, &stop) };
    let Some(Finish::Compared(report, page)) = launch.check(run, &mut |_| {})?.run(&mut |_| {})? else {
        return Err("nobody stops it".into());
    };
    println!("{}", report.table);

    let (text, page) = (report.table.to_string(), std::fs::read_to_string(page)?);
    assert!(text.contains("shift ↓") && text.contains("All metrics on random edges."));
    assert!(
        page.contains("shift") && page.contains("Fréchet distance of random edges") && !page.contains("pixel Fréchet")
    );
    let results: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("run/results.json"))?)?;
    let first = &results["results"]["table"][0];
    assert_eq!((&first["more"][0]["name"], &first["measurement"]["columns"]), (&"shift".into(), &32.into()));
    assert!(
        first["more"][0]["floor"].as_f64() < first["more"][0]["generated"].as_f64(),
        "an untrained network is far off"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
