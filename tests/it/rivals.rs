//! Losses and gradients of other remedies for exposure bias, against recorded ones; what recipes say of them.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::objective::{Defar, Perturbation};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching, Objective};
use mixflow_backbones::{Backbone, ClassLabels};
use mixflow_schedules::{Linear, Reversed, Timestep};
use mixflow_tests::Fixture;

/// `a tanh(b x + c + d t) + (e + h (2 t − 1)) x + f`, a number of each for a channel; `forward` is 1 where time runs to data.
#[derive(Module, Debug)]
struct Analytic {
    weights: Vec<Param<Tensor<1>>>,
    reversed: bool,
}

const WEIGHTS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "h"];

impl Analytic {
    fn of(fixture: &Fixture, reversed: bool, device: &Device) -> Self {
        let weight = |name| Param::from_tensor(fixture.tensor(&format!("weights.{name}"), device));
        Self { weights: WEIGHTS.map(weight).into(), reversed }
    }
}

impl Backbone for Analytic {
    type Condition = ();

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, (): ()) -> Tensor<4> {
        let weights: Vec<Tensor<4>> = self.weights.iter().map(|weight| weight.val().reshape([1, -1, 1, 1])).collect();
        let [a, b, c, d, e, f, h] = weights.try_into().expect("seven weights");
        let t: Tensor<4> = time.reshape([-1, 1, 1, 1]);
        let t = if self.reversed { t.neg() + 1.0 } else { t };
        let bent = (b * x.clone() + c + d * t.clone()).tanh() * a;
        let velocity = bent + (e + h * (t * 2.0 - 1.0)) * x + f;
        if self.reversed { velocity.neg() } else { velocity }
    }
}

/// Both directions of time are one objective.
#[test]
fn losses_and_gradients_are_the_recorded_ones() {
    let fixture = Fixture::read("rivals/losses");
    let device = Device::default().autodiff();
    let [images, noise, xi, z] = ["in.x", "in.e", "in.xi", "in.z"].map(|name| fixture.tensor::<4>(name, &device));
    let times: Vec<Timestep> = fixture.values("in.t").into_iter().map(|t| Timestep { t, m: t }).collect();
    let starts: Vec<f64> = times.iter().map(|times| times.t).collect();
    let ends: Vec<f64> = starts.iter().zip(fixture.values("in.r")).map(|(t, share)| t + (1.0 - t) * share).collect();
    for reversed in [false, true] {
        let network = Analytic::of(&fixture, reversed, &device);
        let check = |name: &str, loss: Tensor<1>| {
            fixture.assert_close(&format!("out.loss.{name}"), loss.clone().into_data(), fixture.tolerance(None));
            let gradients = loss.backward();
            for (weight, letter) in network.weights.iter().zip(WEIGHTS) {
                let found: TensorData = weight.val().grad(&gradients).expect("it is used").into_data();
                let recorded = format!("out.grad.{name}.{letter}");
                fixture.assert_close(&recorded, found, fixture.tolerance(Some("grads")));
            }
        };
        let paths: [Box<dyn Fn([Tensor<4>; 2]) -> mixflow::objective::Noised>; 2] = [
            Box::new(|noise| FlowMatching::new(Linear).noised_apart(images.clone(), noise, &times)),
            Box::new(|noise| FlowMatching::new(Reversed(Linear)).noised_apart(images.clone(), noise, &times)),
        ];
        let matching = |noise: [Tensor<4>; 2]| {
            let noised = paths[usize::from(reversed)](noise);
            let output = network.forward(noised.x.clone(), noised.time.clone(), ());
            noised.losses(output).mean()
        };
        check("fm", matching([noise.clone(), noise.clone()]));
        check("ip", matching(Perturbation::Input { gamma: 0.1 }.of(noise.clone(), xi.clone(), &times)));
        check("off_path", matching(Perturbation::OffPath { strength: 0.3 }.of(noise.clone(), z.clone(), &times)));
        let noised = || (paths[usize::from(reversed)]([noise.clone(), noise.clone()]), images.clone());
        let loss = if reversed {
            Defar { objective: FlowMatching::new(Reversed(Linear)), beta: 0.5 }.losses(
                &network,
                noised(),
                (),
                &starts,
                &ends,
            )
        } else {
            Defar { objective: FlowMatching::new(Linear), beta: 0.5 }.losses(&network, noised(), (), &starts, &ends)
        };
        let terms: Vec<_> = loss.terms.iter().map(|(name, term)| (*name, term.clone().into_data())).collect();
        assert_eq!(terms.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["matching", "direction"]);
        fixture.assert_close("out.loss.adr", terms[1].1.clone(), fixture.tolerance(None));
        check("defar_total", loss.total);
    }
}

/// Each with the network of a recipe, its labels and dropped conditions: a step changes the weights, and is the same again.
#[test]
fn every_rival_trains_from_a_recipe() {
    let device = Device::default().autodiff();
    let beta = r#"{"kind":"beta","alpha":2,"beta":1}"#;
    let mut losses = vec![];
    for change in [
        "objective.condition_dropout=0.1",
        r#"objective.perturbation={"kind":"input","gamma":0.1}"#,
        r#"objective.perturbation={"kind":"off-path","strength":0.3}"#,
        r#"objective.defar={"beta":0.5}"#,
        &format!("objective.timesteps={beta}"),
        r#"objective.timesteps={"kind":"independent","base":{"kind":"uniform"}}"#,
        &format!(r#"objective.timesteps={{"kind":"independent","base":{beta}}}"#),
        r#"objective.timesteps={"kind":"mixflow","gamma":1,"base":{"kind":"uniform"}}"#,
    ] {
        let small = ["network.width=24", "network.depth=1", "post_training=null", change].map(String::from);
        let recipe = Recipe::read("digits", &small).expect("it is a recipe");
        assert_eq!(Recipe::from_value(recipe.to_value()).expect("it is read again"), recipe);
        let objective = NetworkSettings::objective(&recipe.network, &recipe.objective);
        let pixels: Vec<f32> = (0..4 * 1024).map(|pixel| (pixel as f32 * 0.7).sin()).collect();
        let images = Tensor::<1>::from_data(pixels.as_slice(), &device).reshape([4, 1, 32, 32]);
        let batch = || Batch::new(images.clone(), ClassLabels::new(&[1, 7, 3, 0], 10, &device), 5);
        // A network that was never trained says zero, whatever its input.
        let steps = || {
            let first = (TrainState::new(recipe.network.init(0, &device)), f64::NAN);
            let (state, loss) = (0..3).fold(first, |(state, _), step| {
                let config = OptimizerConfig {
                    learning_rate: LearningRate::Constant { rate: 1e-2, warmup: 0 },
                    ..OptimizerConfig::default()
                };
                let (state, report) = state.step(&objective, [batch()], step, &config);
                assert!(report.finite && report.gradient_norm > 0.0, "{change}");
                (state, report.loss)
            });
            (loss, objective.loss(&state.average(), batch(), 9).total.into_scalar::<f64>())
        };
        let once = steps();
        assert_eq!(once, steps(), "{change}");
        losses.push(once.0);
    }
    let plain = losses[0];
    assert!(losses[1..].iter().all(|loss| (loss - plain).abs() > 1e-6), "each is another loss: {losses:?}");
}

#[test]
fn what_their_authors_exclude_is_refused() {
    for (changes, words) in [
        (
            &[r#"objective.perturbation={"kind":"input","gamma":0}"#][..],
            "objective.perturbation.gamma must be a number above 0",
        ),
        (&[r#"objective.perturbation={"kind":"input","strength":1}"#], "unknown key `strength`"),
        (&[r#"objective.defar={"beta":-1}"#], "objective.defar.beta must be a number above 0"),
        (&[r#"objective.defar={"beta":1}"#, r#"objective.schedule={"kind":"cosine"}"#], "on the linear path"),
        (&[r#"objective.defar={"beta":1}"#, "objective.prediction=data"], "for velocities"),
        (
            &[r#"objective.defar={"beta":1}"#, r#"objective.timesteps={"kind":"mixflow","gamma":0.8}"#],
            "a remedy of its own, without mixflow",
        ),
        // What post-training would slow.
        (&[r#"objective.defar={"beta":1}"#], "a remedy of its own, without mixflow"),
        (&[r#"objective.timesteps={"kind":"independent","base":{"kind":"uniform"},"gamma":1}"#], "unknown key `gamma`"),
    ] {
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let error = Recipe::read("digits", &set).expect_err("it is refused").to_string();
        assert!(error.contains(words), "{changes:?}: {error}");
    }
}
