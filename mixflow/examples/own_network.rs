//! A network of one's own in a recipe: trained so that it survives being stopped, compared with MixFlow, and opened again.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use mixflow::Pipeline;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Backbone, ClassLabels, Convolution, Linear};
use mixflow::compare::Progress;
use mixflow::data::{Classes, Conditioner};
use mixflow::launch::{Finish, Launch};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{Event, RunFolder};
use serde::{Deserialize, Serialize};

/// Three convolutions; time and class are added to every pixel of the first one's output.
#[derive(Module, Debug)]
struct ConvNet {
    input: Convolution,
    time: Linear,
    /// `[classes + 1, width]`; the last row stands for no class.
    table: Param<Tensor<2>>,
    middle: Convolution,
    output: Convolution,
}

impl Backbone for ConvNet {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, classes: ClassLabels) -> Tensor<4> {
        let told = self.time.forward(time.unsqueeze_dim::<2>(1)) + self.table.val().select(0, classes.labels);
        let x = silu(self.input.forward(x) + told.unsqueeze_dims::<4>(&[2, 3]));
        let x = x.clone() + silu(self.middle.forward(x));
        self.output.forward(x)
    }
}

/// What a recipe says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvNetConfig {
    size: usize,
    width: usize,
    classes: usize,
}

impl NetworkSettings for ConvNetConfig {
    type Network = ConvNet;

    fn name(&self) -> &str {
        "ConvNet"
    }

    fn shape(&self) -> [usize; 3] {
        [1, self.size, self.size]
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn init(&self, seed: u64, device: &Device) -> ConvNet {
        let init = Initializer::new(seed, device);
        ConvNet {
            input: Convolution::new(1, self.width, 3, &init),
            time: init.pytorch_linear(1, self.width),
            table: init.normal([self.classes + 1, self.width], 0.02),
            middle: Convolution::new(self.width, self.width, 5, &init),
            output: Convolution::new(self.width, 1, 3, &init),
        }
    }

    fn conditioner(
        &self,
        _labels: &[String],
        _folder: &Path,
        _device: &Device,
        _tell: &mut dyn FnMut(usize) -> Result<(), mixflow::Error>,
    ) -> Result<Arc<dyn Conditioner<ClassLabels>>, mixflow::Error> {
        Ok(Arc::new(Classes(self.classes)))
    }
}

/// As a file that `Recipe::parse` reads; every key but `network`'s is as for the networks that come along. Small, so that it
/// takes seconds: what comes out decides nothing.
const RECIPE: &str = r#"{
    "name": "conv-net", "network": { "size": 8, "width": 16, "classes": 10 }, "data": { "kind": "digits", "size": 8 },
    "objective": { "condition_dropout": 0.1 },
    "training": {
        "steps": 100, "batch": 32, "checkpoint_every": 50,
        "optimizer": { "learning_rate": { "kind": "constant", "rate": 0.005 }, "average": 0.9 }
    },
    "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 5 } },
    "post_training": { "steps": 20, "gamma": 0.8, "seeds": 1, "images": 50, "solver_steps": [] }
}"#;

/// Goes on with the recipe in a folder, or begins; stops after so many steps of a training, if that is asked for.
fn go_on(folder: &Path, stop_after: Option<u64>) -> Result<Option<Finish>, mixflow::Error> {
    let recipe = Recipe::<ConvNetConfig>::parse("conv-net", RECIPE, &["seed=1".into()])?;
    let stop = AtomicBool::new(false);
    let begun = folder.join("recipe.json").exists();
    let taken = match begun {
        true => RunFolder::resume(folder, recipe.to_value(), &[])?,
        false => RunFolder::begin(folder, recipe.to_value())?,
    };
    let device = Device::default();
    let launch = Launch::new(&recipe, &device, &stop);
    launch.check(taken, &mut |_| {})?.run(&mut |progress| match progress {
        Progress::Begin(part, _) => println!("{part}"),
        Progress::Training { event: Event::Started { step }, .. } if step > 0 => println!("  from step {step}"),
        Progress::Training { event: Event::Stepped(report), .. } if Some(report.step + 1) == stop_after => {
            println!("  stopped after step {}", report.step + 1);
            stop.store(true, Ordering::Relaxed);
        }
        _ => {}
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    assert!(go_on(folder.path(), Some(60))?.is_none(), "it was stopped, and has left a checkpoint");
    let Some(Finish::Compared(report, page)) = go_on(folder.path(), None)? else {
        return Err("nobody stops it".into());
    };
    println!("{}", report.summary_text());
    assert!(page.is_file());

    let pipeline = Pipeline::<ConvNetConfig>::of_run(folder.path().join("mixflow-0"), &Device::default())?;
    let images = pipeline.images(&[7, 2], 0)?;
    assert_eq!(images.shape, [2, 1, 8, 8]);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
