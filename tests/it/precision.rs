//! Networks in 16 bits against the official code under PyTorch's autocast, and trainings in them and with blocks that are run
//! again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::FlowMatching;
use mixflow::data::{Classes, Unconditional};
use mixflow::evaluation::Generator;
use mixflow::recipe::Recipe;
use mixflow::train::{Checkpoints, Event, Run, Snapshot};
use mixflow_backbones::lora::LoraConfig;
use mixflow_backbones::sit::official_key;
use mixflow_backbones::{Backbone, ClassLabels, Precision};
use mixflow_schedules::Linear;
use mixflow_tests::{Fixture, TinyNet, assert_adapter_errs_like_bf16, assert_errs_like_autocast};

/// Checks a network for class labels; `case` is its name among the recorded ones, `classes` their number.
fn check<B: Backbone<Condition = ClassLabels>>(case: &str, network: &B, classes: usize) {
    let (fixture, device) = (Fixture::read(&format!("bf16/{case}")), Device::default().autodiff());
    let time: Tensor<1> = fixture.tensor("in.ext.t", &device);
    let labels = ClassLabels { labels: fixture.integers("in.ext.y", &device), null: classes };
    assert_errs_like_autocast(case, network, |network, x| network.forward(x, time.clone(), labels.clone()));
}

#[test]
fn sit_errs_as_under_autocast() {
    let fixture = Fixture::read("sit/sit_p2_learnsigma");
    let network = crate::sit::network(&fixture, &Device::default().autodiff());
    check("sit_p2_learnsigma", &network, crate::sit::shape(&fixture).classes);
}

/// Factors of an adapter that are not zero.
struct Waves;

impl ModuleMapper for Waves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let values = |count: usize| (0..count).map(|i| 0.2 * (1.3 * i as f32).sin()).collect::<Vec<_>>();
        match param.base().is_require_grad() {
            true => param.map(|old| {
                let data = TensorData::new(values(old.shape().num_elements()), old.shape());
                Tensor::from_data(data, &old.device()).require_grad()
            }),
            false => param,
        }
    }
}

#[test]
fn an_adapter_of_sit_beside_weights_of_16_bits_learns_as_weights_do() {
    let (fixture, device) = (Fixture::read("sit/sit_p2_learnsigma"), Device::default().autodiff());
    let targets = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"].map(String::from).to_vec();
    let lora = LoraConfig { rank: 2, alpha: Some(3.0), targets, ..LoraConfig::default() };
    let adapted = lora.attach(crate::sit::network(&fixture, &device), official_key, 0).expect("its layers");
    let (inputs, classes) = (Fixture::read("bf16/sit_p2_learnsigma"), crate::sit::shape(&fixture).classes);
    let labels = ClassLabels { labels: inputs.integers("in.ext.y", &device), null: classes };
    assert_adapter_errs_like_bf16(&adapted.map(&mut Waves), &lora, |network| {
        let [x, target] = ["x", "target"].map(|name| inputs.tensor::<4>(&format!("in.ext.{name}"), &device));
        (network.forward(x, inputs.tensor("in.ext.t", &device), labels.clone()) - target).square().mean()
    });
}

#[test]
fn repa_errs_as_under_autocast() {
    let network = crate::repa::recorded_network("repa/repa_sit_2enc");
    check("repa_sit_2enc", &network, network_classes("repa/repa_sit_2enc"));
}

#[test]
fn dit_dh_errs_as_under_autocast() {
    let fixture = Fixture::read("rae_stage2/ddt_default");
    let all = &fixture.manifest["config"];
    let network = crate::dit_dh::network(&fixture, all, all, "weights.", &Device::default().autodiff());
    check("ddt_default", &network, network_classes("rae_stage2/ddt_default"));
}

fn network_classes(case: &str) -> usize {
    Fixture::read(case).manifest["config"]["num_classes"].as_u64().expect("num_classes") as usize
}

/// The losses of a run, and the state that it ends in.
fn train(recipe: &Recipe, folder: &Path) -> (Vec<f64>, Snapshot) {
    let mut losses = vec![];
    let outcome =
        crate::resume::train(recipe, folder, &recipe.objective.flow_matching(), &AtomicBool::new(false), |event| {
            if let Event::Stepped(report) = event {
                losses.push(report.loss);
            }
        });
    outcome.expect("training succeeds");
    let latest = Checkpoints::new(folder.join("checkpoints"), 2).latest().expect("the folder can be listed");
    (losses, latest.checkpoint.expect("a finished run has a checkpoint").snapshot)
}

#[test]
fn a_training_in_bf16_follows_the_one_in_f32_and_resumes_bit_for_bit() {
    let mut recipe = crate::resume::recipe(1000);
    recipe.training.steps = 40;
    let folder = || tempfile::tempdir().expect("a folder");
    let (full, _) = train(&recipe, folder().path());
    recipe.training.precision = Precision::Bf16;
    let (low, whole) = train(&recipe, folder().path());
    // Each step sees the same examples and noise. Products err by 2⁻⁸, the loss is a mean of many of them.
    for (step, (low, full)) in low.iter().zip(&full).enumerate() {
        assert!((low / full - 1.0).abs() < 4e-3, "step {step}: {low} in bf16, {full} in f32");
    }
    assert_ne!(low, full);

    let stopped = folder();
    recipe.training.steps = 15;
    train(&recipe, stopped.path());
    recipe.training.steps = 40;
    assert!(train(&recipe, stopped.path()).1 == whole, "a stopped run in bf16 ends as one that was not stopped");
}

#[test]
fn a_network_without_bf16_is_not_trained_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = crate::resume::recipe(1000);
    recipe.training.precision = Precision::Bf16;
    let run = Run {
        folder: folder.path().into(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: 0,
        data: recipe.data.open().expect("digits"),
        conditioner: Arc::new(Unconditional),
        flip: false,
        encoder: None,
        beside: &[],
        stop: &AtomicBool::new(false),
    };
    let network = TinyNet::of(&Fixture::read("mixflow/mixflow_rae_linear"), &Device::default());
    let error = run.train(network, &FlowMatching::new(Linear), |_| {}).expect_err("it computes in f32").to_string();
    assert!(error.ends_with("this network computes in f32 alone, found training.precision=bf16"), "{error}");
    assert!(!folder.path().join("metrics.jsonl").exists(), "nothing was begun");
}

/// In 16 bits, too: what is run again rounds again.
#[test]
fn blocks_that_are_run_again_change_no_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut recipe = crate::resume::recipe(1000);
        (recipe.training.steps, recipe.training.accumulation, recipe.training.precision) = (6, 2, precision);
        let folder = || tempfile::tempdir().expect("a folder");
        let (losses, state) = train(&recipe, folder().path());
        recipe.training.recompute = true;
        let (again, same) = train(&recipe, folder().path());
        assert_eq!(losses, again);
        assert!(state == same, "weights, average and moments in {precision}");
    }
}

/// The same noise leads to the same images, but for rounding that the whole trajectory gathers.
#[test]
fn images_in_bf16_are_those_in_f32_but_for_rounding() {
    let fixture = Fixture::read("sit/sit_p2_learnsigma");
    let (network, shape) = (crate::sit::network(&fixture, &Device::default()), crate::sit::shape(&fixture));
    let (classes, mut recipe) = (Classes(shape.classes), crate::resume::recipe(1000));
    let shape = [shape.channels, shape.input_size, shape.input_size];
    let mut images = |precision| {
        recipe.sampling.precision = precision;
        let generator = Generator { shape, ..recipe.generator(&network, &classes) };
        generator.images(&[1, 2, 3, 4], 0).expect("images").pixels
    };
    let [full, low] = [Precision::F32, Precision::Bf16].map(&mut images);
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let apart: Vec<f32> = full.iter().zip(&low).map(|(a, b)| a - b).collect();
    let error = norm(&apart) / norm(&full);
    assert!((1e-4..2e-2).contains(&error), "{error}");
    assert!(recipe.sampling.describe().ends_with(", in bf16"), "{}", recipe.sampling.describe());
}
