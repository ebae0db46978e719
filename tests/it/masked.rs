//! Losses that count a part of each image.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use image::{GrayImage, Luma, Rgb, RgbImage};
use mixflow::data::Classes;
use mixflow::launch::train;
use mixflow::objective::{Defar, Hybrid, Loss, Noised};
use mixflow::recipe::Recipe;
use mixflow::schedules::{Linear, MixFlow, Prediction, Timestep, Weighting};
use mixflow::train::{OptimizerConfig, Run, TrainState};
use mixflow::{Batch, FlowMatching, Objective};
use mixflow_backbones::Backbone;
use serde_json::json;

/// Says what it has learned at each place, whatever it sees.
#[derive(Module, Debug)]
struct Places {
    says: Param<Tensor<4>>,
}

impl Backbone for Places {
    type Condition = ();

    fn forward(&self, x: Tensor<4>, _: Tensor<1>, (): ()) -> Tensor<4> {
        self.says.val().expand(x.shape())
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::default().autodiff())
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Two channels of one row of two places. On the linear path the target is data less noise, (1, 1 | 4, 2); the network says 0.
/// With the mask (1, ¼) the loss is (1·1² + ¼·1² + 1·4² + ¼·2²)/4 = 18.25/4 and its gradient 2·mask·(0 − target)/4.
#[test]
fn loss_and_gradient_are_those_of_the_formula() {
    let data = tensor(&[1.0, 2.0, 3.0, 4.0], [1, 2, 1, 2]);
    let noise = tensor(&[0.0, 1.0, -1.0, 2.0], [1, 2, 1, 2]);
    let says = tensor(&[0.0; 4], [1, 2, 1, 2]).require_grad();
    let mask = tensor(&[1.0, 0.25], [1, 1, 1, 2]);
    for (t, m) in [(0.5, 0.5), (0.75, 0.25)] {
        let noised = FlowMatching::new(Linear).noised(data.clone(), noise.clone(), &[Timestep { t, m }]);
        let masked = Noised { mask: Some(mask.clone()), ..noised.clone() };
        let loss = masked.losses(says.clone());
        assert_eq!(numbers(loss.clone()), [4.5625]);
        let gradient = says.grad(&loss.sum().backward()).expect("it requires one");
        assert_eq!(numbers(gradient), [-0.5, -0.125, -2.0, -0.25]);
        // Without it all counts: (1 + 1 + 16 + 4)/4.
        assert_eq!(numbers(noised.losses(says.clone())), [5.5]);
    }
    // The weight of an example multiplies besides: of noise predictions by their velocity's, (α/σ... )² at t = ½ it is 4.
    let objective =
        FlowMatching { prediction: Prediction::Data, weighting: Weighting::Velocity, ..FlowMatching::new(Linear) };
    let noised = objective.noised(data, noise, &[Timestep { t: 0.5, m: 0.5 }]);
    let weight = numbers(noised.weight.clone().expect("it is weighted"))[0];
    let masked = Noised { mask: Some(mask), ..noised };
    // The target is the data: (1·1² + ¼·2² + 1·3² + ¼·4²)/4.
    let found = numbers(masked.losses(says))[0];
    assert!((found / (weight * 3.75) - 1.0).abs() < 1e-6, "{found}, {weight}");
}

/// Of a network that says one place by what it sees there alone, no bit of a gradient depends on what is masked.
#[test]
fn what_is_masked_has_no_influence_on_gradients() {
    /// A weight for what is seen at each place.
    #[derive(Module, Debug)]
    struct Pointwise {
        weight: Param<Tensor<1>>,
        places: Param<Tensor<4>>,
    }
    impl Backbone for Pointwise {
        type Condition = ();
        fn forward(&self, x: Tensor<4>, time: Tensor<1>, (): ()) -> Tensor<4> {
            x * self.weight.val().reshape([1, -1, 1, 1]) + time.reshape([-1, 1, 1, 1]) + self.places.val()
        }
    }
    let network = || Pointwise {
        weight: Param::from_tensor(tensor(&[0.5, -0.25], [2])),
        places: Param::from_tensor(tensor(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [1, 2, 2, 2])),
    };
    let mask = tensor(&[1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 1.0, 0.0], [2, 1, 2, 2]);
    let state = |masked_value: f32| {
        let images = (0..16).map(|place| {
            let [example, at] = [place / 8, place % 4];
            let black = [[1, 3, 3], [0, 3, 3]][example].contains(&at);
            if black { masked_value } else { place as f32 / 8.0 - 1.0 }
        });
        let images = images.collect::<Vec<_>>();
        let batch = Batch::new(tensor(&images, [2, 2, 2, 2]), (), 7).with_mask(mask.clone());
        let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.8));
        let (state, report) = TrainState::new(network()).step(&objective, [batch], 3, &OptimizerConfig::default());
        assert!(report.finite && report.gradient_norm > 0.0);
        (state.snapshot(), report.loss, report.gradient_norm)
    };
    assert!(state(0.0) == state(1.0) && state(0.0) == state(-31.5));
    // Where the network is asked about a place that is masked in both, it does not learn.
    let places = network().places.val();
    let before = numbers(places)[3];
    let after = &state(0.0).0.weights["places"];
    assert_eq!(after.iter::<f32>().nth(3), Some(before));
    assert_ne!(after.iter::<f32>().next(), Some(0.1));
}

#[test]
fn a_mask_of_ones_is_none_and_one_of_zeros_teaches_nothing() {
    let network = || Places { says: Param::from_tensor(tensor(&[0.3; 8], [1, 2, 2, 2])) };
    let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.5));
    let step = |mask: Option<f32>| {
        let batch = Batch::new(tensor(&[0.7; 24], [3, 2, 2, 2]), (), 0);
        let batch = match mask {
            Some(value) => batch.with_mask(tensor(&[value; 12], [3, 1, 2, 2])),
            None => batch,
        };
        TrainState::new(network()).step(&objective, [batch], 0, &OptimizerConfig::default()).1
    };
    assert_eq!(step(Some(1.0)), step(None));
    let nothing = step(Some(0.0));
    assert!(nothing.finite && nothing.loss == 0.0 && nothing.gradient_norm == 0.0);
}

#[test]
#[should_panic(expected = "the hybrid loss compares whole images")]
fn the_hybrid_loss_has_no_masks() {
    let network = Places { says: Param::from_tensor(tensor(&[0.0; 4], [1, 1, 2, 2])) };
    let batch = Batch::new(tensor(&[0.0; 4], [1, 1, 2, 2]), (), 0).with_mask(tensor(&[1.0; 4], [1, 1, 2, 2]));
    let _ = Hybrid::default().loss(&network, batch, 0);
}

#[test]
#[should_panic(expected = "DEFAR compares whole images")]
fn defar_has_no_masks() {
    let network = Places { says: Param::from_tensor(tensor(&[0.0; 4], [1, 1, 2, 2])) };
    let batch = Batch::new(tensor(&[0.0; 4], [1, 1, 2, 2]), (), 0).with_mask(tensor(&[1.0; 4], [1, 1, 2, 2]));
    let _ = Defar { objective: FlowMatching::new(Linear), beta: 0.5 }.loss(&network, batch, 0);
}

/// An objective that says nothing of masks.
#[derive(Debug)]
struct Alike<O>(O);

impl<B: Backbone, O: Objective<B>> Objective<B> for Alike<O> {
    fn loss(&self, network: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        self.0.loss(network, batch, seed)
    }
}

/// A comparison on photographs of two classes with masks in a folder, and what it is refused for.
#[test]
fn a_comparison_learns_by_masks() {
    let root = tempfile::tempdir().expect("a folder");
    for number in 0..24u32 {
        let name = format!("{}/{number:02}.png", ["a", "b"][number as usize % 2]);
        for part in ["photographs", "masks"] {
            fs::create_dir_all(root.path().join(part).join(&name[..1])).expect("a folder");
        }
        let image = RgbImage::from_fn(18, 16, |x, y| Rgb([x * 12, y * 13, number * 9].map(|value| value as u8)));
        image.save(root.path().join("photographs").join(&name)).expect("a file");
        let mask = GrayImage::from_fn(18, 16, |x, _| Luma([if x < 9 { 255 } else { 0 }]));
        mask.save(root.path().join("masks").join(&name)).expect("a file");
    }
    let data = json!({
        "kind": "folder", "path": root.path().join("photographs"), "size": 16, "flip": true,
        "mask": { "folder": root.path().join("masks") },
    });
    let read = |more: &[&str]| {
        let network = json!({ "kind": "sit", "input_size": 16, "patch": 4, "channels": 3, "width": 24, "depth": 1, "heads": 2,
            "hidden": 32, "classes": 2 });
        let set = [format!("data={data}"), format!("network={network}")];
        let small = [
            "training.steps=2",
            "training.batch=4",
            "post_training.steps=2",
            "post_training.images=8",
            "post_training.seeds=1",
            "post_training.solver_steps=[2]",
            "post_training.slow_flow=false",
        ];
        let more = small.iter().chain(more).map(ToString::to_string);
        Recipe::read("shapes", &set.into_iter().chain(more).collect::<Vec<_>>())
    };
    let run = |name: &str, more: &[&str]| {
        let recipe = read(more).expect("a recipe");
        train(&recipe, &root.path().join(name), &Device::default(), &mut |_| {}).expect("a whole run");
        let log = fs::read_to_string(root.path().join(name).join("mixflow-0/metrics.jsonl")).expect("a log");
        let first: serde_json::Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
        first["loss"].as_f64().expect("a loss")
    };
    let (with, without) = (run("with", &[]), run("without", &["data.mask=null"]));
    // Half of each image counts.
    assert!((0.3..0.7).contains(&(with / without)), "{with}, {without}");

    // Of an objective that counts all places alike it is not known what it makes of them.
    let recipe = read(&["post_training=null"]).expect("a recipe");
    let plain = Run {
        folder: root.path().join("plain"),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: 0,
        data: recipe.open().expect("data"),
        conditioner: Arc::new(Classes(2)),
        flip: false,
        encoder: None,
        beside: &[],
        stop: &AtomicBool::new(false),
    };
    let network = recipe.network.init(0, &Device::default());
    let objective = recipe.objective.flow_matching();
    let refused =
        plain.train(network.clone(), &Alike(objective.clone()), |_| {}).expect_err("it has masks").to_string();
    assert!(refused.contains("this objective counts all places and images alike: see Objective::weighs"), "{refused}");
    plain.train(network, &objective, |_| {}).expect("flow matching counts places");

    let repa = json!({ "kind": "repa", "input_size": 16, "patch": 4, "channels": 3, "width": 24, "depth": 1, "heads": 2,
        "hidden": 32, "classes": 2, "encoder_depth": 1, "projectors": [8], "projector_hidden": 8 });
    let target = json!({ "kind": "file", "weights": "none", "encoder": { "architecture": "dinov2", "channels": 3,
        "input_size": 16, "table_size": 16, "patch": 4, "width": 8, "depth": 1, "heads": 2, "hidden": 16,
        "normalisation": "symmetric" } });
    for (more, words) in [
        (
            &[r#"objective.defar={"beta":0.5}"#.to_string()][..],
            "data.mask weights a loss place by place, and objective.defar",
        ),
        (
            &[
                format!("network={repa}"),
                format!("target_encoder={target}"),
                r#"objective.alignment={"weight":0.5}"#.into(),
            ],
            "data.mask weights a loss place by place, and objective.alignment",
        ),
        (&[r#"data.mask="beta""#.into()], "data.mask"),
        (&[r#"data.mask={"folder":3}"#.into()], "data.mask"),
        (
            &[r#"post_training.arms=[{"name":"standard"},{"name":"defar","objective":{"defar":{"beta":0.5}}}]"#.into()],
            "objective.defar compares directions",
        ),
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let error = read(&more).map(|_| ()).expect_err("it is refused").to_string();
        assert!(error.contains(words), "{more:?}: {error}");
    }
}
