//! Training steps against PyTorch's AdamW, clipping and moving averages, and RAE's learning rates.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{Batch, Loss, Objective};
use mixflow_backbones::Backbone;
use mixflow_tests::{Fixture, TinyNet, close};
use serde_json::Value;

/// Squared distance to a given output at given times.
#[derive(Debug)]
struct Fixed {
    target: Tensor<4>,
    times: Tensor<1>,
    scale: f64,
}

impl Objective<TinyNet> for Fixed {
    fn loss(&self, network: &TinyNet, batch: Batch<()>, _: u64) -> Loss {
        let output = network.forward(batch.images, self.times.clone(), ());
        ((output - self.target.clone()).square().mean() * self.scale).into()
    }
}

fn number(config: &Value, key: &str) -> f64 {
    config[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number"))
}

#[test]
fn every_step_is_the_official_one() {
    let device = Device::default().autodiff();
    for case in ["sit", "repa", "rae", "wd"] {
        let fixture = Fixture::read(&format!("optim/adamw_ema_{case}"));
        let tolerance = fixture.tolerance(None);
        let config = &fixture.manifest["config"];
        let optimizer = OptimizerConfig {
            learning_rate: LearningRate::Constant { rate: number(config, "lr"), warmup: 0 },
            betas: [0, 1].map(|i| config["betas"][i].as_f64().expect("betas are numbers")),
            epsilon: number(config, "eps"),
            weight_decay: number(config, "weight_decay"),
            clip: config["grad_clip"].as_f64(),
            average: number(config, "ema_decay"),
        };
        let mut state = TrainState::new(TinyNet::of(&fixture, &device));
        for step in 0..number(config, "steps") as usize {
            let tensor = |name: &str| fixture.tensor(&format!("in.{name}{step}"), &device);
            let objective = Fixed {
                target: tensor("target"),
                times: fixture.tensor(&format!("in.t{step}"), &device),
                scale: number(config, "loss_scale"),
            };
            let batch = Batch::new(tensor("x"), (), 0);
            let (next, report) = state.step(&objective, [batch], 0, &optimizer);
            state = next;
            for (name, found) in [("loss", report.loss), ("grad_norm", report.gradient_norm)] {
                fixture.assert_close(&format!("out.{name}{step}"), TensorData::from([found]), tolerance);
            }
            let snapshot = state.snapshot();
            for (kind, tensors) in [("step", &snapshot.weights), ("ema", &snapshot.average)] {
                assert_eq!(tensors.len(), 4);
                for (name, found) in tensors {
                    fixture.assert_close(&format!("out.{kind}{step}.{name}"), found.clone(), tolerance);
                }
            }
        }
        let snapshot = state.snapshot();
        for (kind, tensors) in [("exp_avg", snapshot.first_moment), ("exp_avg_sq", snapshot.second_moment)] {
            for (name, found) in tensors {
                fixture.assert_close(&format!("out.{kind}.{name}"), found, fixture.tolerance(Some("moments")));
            }
        }
    }
}

#[test]
fn learning_rates_are_the_official_ones() {
    let fixture = Fixture::read("optim/lr_schedules");
    let config = &fixture.manifest["config"];
    let schedules = config["schedules"].as_object().expect("schedules are named");
    assert_eq!(schedules.len(), 3);
    for (name, schedule) in schedules {
        let steps = |key: &str| (number(config, "steps_per_epoch") * number(schedule, key)) as u64;
        let recipe = serde_json::json!({
            "kind": schedule["type"],
            "rate": schedule["base_lr"],
            "last": schedule["final_lr"],
            "start": steps("warmup_epochs"),
            "end": steps("decay_end_epoch"),
            "from_zero": schedule["warmup_from_zero"],
        });
        let rate: LearningRate = serde_json::from_value(recipe).expect("the recipe is valid");
        let found: Vec<f64> = (0..120).map(|step| rate.at(step)).collect();
        close(name, &found, &fixture.values(&format!("out.{name}")), fixture.tolerance(None));
    }
}
