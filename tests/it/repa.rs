//! REPA against the official code, on tiny networks: projections, losses, gradients, times, latents.

use std::cell::RefCell;
use std::collections::BTreeSet;

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Alignment, Batch, FlowMatching, Objective};
use mixflow_backbones::autoencoder::LatentDistribution;
use mixflow_backbones::repa::{Repa, RepaConfig};
use mixflow_backbones::{Aligned, AlignedBackbone, Backbone, ClassLabels, Condition};
use mixflow_schedules::{
    Angular, Cosine, Linear, LogitNormal, MixFlow, Reversed, Schedule, TimeLaw, Timestep, TimestepSampler, Uniform,
};
use mixflow_tests::{Fixture, Tolerance, close};

/// The first with fused attention and two encoders, the second with normalised queries and keys.
const CASES: [&str; 2] = ["repa/repa_sit_2enc", "repa/repa_sit_qknorm"];

/// The network of a recorded case, with its weights, on an autodiff device.
pub(crate) fn recorded_network(case: &str) -> Repa {
    Case::read(case).network()
}

/// A recorded case, and which of its outputs were compared.
struct Case {
    fixture: Fixture,
    device: Device,
    compared: RefCell<BTreeSet<String>>,
}

impl Case {
    fn read(name: &str) -> Self {
        Self { fixture: Fixture::read(name), device: Device::default().autodiff(), compared: RefCell::default() }
    }

    fn number(&self, key: &str) -> usize {
        self.fixture.manifest["config"][key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize
    }

    fn network(&self) -> Repa {
        let config = &self.fixture.manifest["config"];
        let width = self.number("hidden_size");
        let encoders = config["z_dims"].as_array().expect("z_dims").iter();
        let config = RepaConfig {
            input_size: self.number("input_size"),
            patch: self.number("patch_size"),
            channels: self.number("in_channels"),
            width,
            depth: self.number("depth"),
            heads: self.number("num_heads"),
            hidden: (width as f64 * config["mlp_ratio"].as_f64().expect("mlp_ratio")) as usize,
            classes: self.number("num_classes"),
            null_class: config["use_cfg"].as_bool().expect("use_cfg"),
            encoder_depth: self.number("encoder_depth"),
            projectors: encoders.map(|width| width.as_u64().expect("a width") as usize).collect(),
            projector_hidden: self.number("projector_dim"),
            qk_norm: config["qk_norm"].as_bool().expect("qk_norm"),
        };
        config.init(0, &self.device).load(self.fixture.weights("weights.")).expect("the recorded weights fit")
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.fixture.tensor(name, &self.device)
    }

    fn labels(&self) -> ClassLabels {
        ClassLabels { labels: self.fixture.integers("in.y", &self.device), null: self.number("num_classes") }
    }

    fn features(&self) -> Vec<Tensor<3>> {
        (0..self.fixture.names("in.z").len()).map(|encoder| self.tensor(&format!("in.z{encoder}"))).collect()
    }

    fn compare(&self, name: &str, found: TensorData) {
        let group = name.contains(".grad.").then_some("grads");
        self.fixture.assert_close(&format!("out.{name}"), found, self.fixture.tolerance(group));
        self.compared.borrow_mut().insert(name.into());
    }

    fn gradient<const D: usize>(&self, name: &str, of: &Tensor<D>, gradients: &Gradients) {
        let found = of.grad(gradients).unwrap_or_else(|| panic!("{name} has no gradient"));
        self.compare(name, found.into_data());
    }

    fn loss_and_gradients(&self, path: &str, schedule: impl Schedule, lognormal: impl TimeLaw) {
        let network = self.network();
        let objective = Alignment { objective: FlowMatching::new(schedule), weight: 0.5 };
        // REPA's time is 0 at data, so that the law of the mirrored number is the mirrored law.
        let uniform = self.fixture.values("in.u").into_iter().map(|u| Uniform.quantile(1.0 - u));
        let drawn = self.fixture.values("in.rnd_normal").into_iter().map(|z| lognormal.quantile(normal_share(-z)));
        let weightings: [(&str, Vec<f64>); 2] = [("uniform", uniform.collect()), ("lognormal", drawn.collect())];
        for (weighting, times) in weightings {
            let case = format!("{path}_{weighting}");
            let times: Vec<Timestep> = times.into_iter().map(|t| Timestep { t, m: t }).collect();
            let images = self.tensor::<4>("in.images").require_grad();
            let noised = objective.objective.noised(images.clone(), self.tensor("in.noise"), &times);
            self.compare(&format!("{case}.t"), noised.time.to_data());
            self.compare(&format!("{case}.x_t"), noised.x.to_data());
            let losses = objective.losses(&network, noised, self.labels(), &self.features());
            self.compare(&format!("{case}.denoising_loss"), losses.denoising.to_data());
            self.compare(&format!("{case}.proj_loss"), losses.projection.to_data());
            let total = losses.total(objective.weight).total;
            self.compare(&format!("{case}.total_0.5"), total.to_data());
            if weighting == "uniform" {
                self.gradients(&format!("{case}.grad"), &network, &images, &total.backward());
            }
        }
    }

    fn gradients(&self, prefix: &str, network: &Repa, images: &Tensor<4>, gradients: &Gradients) {
        let (sit, projector, attention) = (&network.sit, &network.projectors[0], &network.sit.blocks[0].attn);
        let name = |name: &str| format!("{prefix}.{name}");
        self.gradient(&name("images"), images, gradients);
        self.gradient(&name("x_embedder.proj.weight"), &sit.x_embedder.proj.weight.val(), gradients);
        let scales = [("q_norm.weight", &attention.q_norm), ("k_norm.weight", &attention.k_norm)];
        let norms = scales.into_iter().filter_map(|(name, norm)| Some((name, &norm.as_ref()?.weight)));
        let norms = norms.chain(attention.q_norm.iter().filter_map(|norm| Some(("q_norm.bias", norm.bias.as_ref()?))));
        let norms = norms.map(|(norm, value)| (format!("blocks.0.attn.{norm}"), value));
        let last = projector.fc3.bias.iter().map(|bias| ("projectors.0.4.bias".into(), bias));
        for (parameter, value) in norms.chain(last) {
            self.gradient(&name(&parameter), &value.val(), gradients);
        }
        let matrices: [(&str, &Param<Tensor<2>>); 4] = [
            ("blocks.0.attn.qkv.weight", &attention.qkv.weight),
            ("projectors.0.0.weight", &projector.fc1.weight),
            ("final_layer.linear.weight", &sit.final_layer.linear.weight),
            ("t_embedder.mlp.2.weight", &sit.t_embedder.mlp[1].weight),
        ];
        for (parameter, value) in matrices {
            self.gradient(&name(parameter), &value.val(), gradients);
        }
    }
}

/// The share of the standard normal distribution below `z`, by Simpson's rule.
fn normal_share(z: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let width = z / 200.0;
    let panels = (0..200).map(|k| f64::from(k) * width);
    let integral: f64 = panels.map(|x| density(x) + 4.0 * density(x + width / 2.0) + density(x + width)).sum();
    0.5 + integral * width / 6.0
}

#[test]
fn everything_recorded_is_the_official_one() {
    for name in CASES {
        let case = Case::read(name);
        let network = case.network();
        let input = || (case.tensor::<4>("in.x"), case.tensor::<1>("in.t"), case.labels());
        let (x, time, labels) = input();
        let Aligned { output, projections } = network.forward_aligned(x, time, labels);
        case.compare("forward", output.to_data());
        for (encoder, projection) in projections.into_iter().enumerate() {
            case.compare(&format!("zs{encoder}"), projection.into_data());
        }
        let (x, time, labels) = input();
        assert_eq!(network.forward(x, time, labels).into_data(), output.into_data());

        let law = LogitNormal::new(0.0, 1.0).expect("the law is valid");
        case.loss_and_gradients("linear", Reversed(Linear), law);
        case.loss_and_gradients("cosine", Reversed(Cosine), Angular(law));

        // The record draws, then scales; stored latents are scaled when they are encoded and drawn when they are read.
        let (moments, noise) = (case.tensor::<4>("in.moments"), case.tensor::<4>("in.moments_noise"));
        let half = |start| moments.clone().narrow(1, start, noise.dims()[1]);
        let latents = LatentDistribution { mean: half(0), deviation: Some(half(noise.dims()[1])) };
        case.compare("sample_posterior", latents.normalise(0.0, 0.18215).sample(noise).into_data());

        assert_eq!(case.compared.into_inner().into_iter().collect::<Vec<_>>(), case.fixture.names("out."));
    }
}

fn batch(case: &Case) -> Batch<ClassLabels> {
    Batch::new(case.tensor("in.images"), case.labels(), 40).with_features(case.features())
}

/// At weight 0 what is left is the flow matching loss, with the same times, noise and dropped labels.
#[test]
fn alignment_adds_to_flow_matching_and_draws_nothing() {
    let case = Case::read(CASES[0]);
    let network = case.network();
    fn check(case: &Case, network: &Repa, timesteps: impl TimestepSampler + Copy) {
        let objective =
            FlowMatching { condition_dropout: 0.5, ..FlowMatching::new(Reversed(Linear)).timesteps(timesteps) };
        let plain = objective.loss(network, batch(case), 7).total.into_scalar::<f64>();
        let loss = |weight| Alignment { objective, weight }.loss(network, batch(case), 7).total.into_scalar::<f64>();
        let losses = Alignment { objective, weight: 0.5 }.batch_losses(network, batch(case), 7);
        let projection = losses.projection.into_scalar::<f64>();
        // Sums of a few numbers of order 1 in f32.
        let tolerance = Tolerance { relative: 1e-6, absolute: 1e-6 };
        close("weight 0", &[loss(0.0)], &[plain], tolerance);
        close("weight 2", &[loss(2.0)], &[plain + 2.0 * projection], tolerance);
    }
    check(&case, &network, Uniform);
    check(&case, &network, MixFlow::new(0.8));
}

/// What a step logs: the official parts, of a batch in two halves their means.
#[test]
fn a_step_reports_the_parts_of_its_loss() {
    let case = Case::read(CASES[0]);
    let objective = Alignment { objective: FlowMatching::new(Reversed(Linear)), weight: 0.5 };
    let config = OptimizerConfig::default();
    let tolerance = Tolerance { relative: 1e-6, absolute: 1e-6 };
    let parts = |first: u64| {
        let losses = objective.batch_losses(&case.network(), Batch { first, ..batch(&case) }, 7);
        [losses.denoising.mean(), losses.projection].map(|part| part.into_scalar::<f64>())
    };
    let batches = [40, 80].map(|first| Batch { first, ..batch(&case) });
    let (_, report) = TrainState::new(case.network()).step(&objective, batches, 7, &config);
    let [(denoising, a), (projection, b)] = report.terms[..] else { panic!("{:?}", report.terms) };
    assert_eq!((denoising, projection), ("denoising", "projection"));
    let [one, other] = [parts(40), parts(80)];
    close("terms", &[a, b], &[(one[0] + other[0]) / 2.0, (one[1] + other[1]) / 2.0], tolerance);
    close("loss", &[report.loss], &[a + 0.5 * b], tolerance);
}

#[test]
fn conditions_are_dropped_once() {
    let case = Case::read(CASES[0]);
    let network = case.network();
    let objective = |condition_dropout| Alignment {
        objective: FlowMatching { condition_dropout, ..FlowMatching::new(Reversed(Linear)) },
        weight: 0.5,
    };
    let losses = |dropout, batch| objective(dropout).batch_losses(&network, batch, 7).denoising.into_data();
    let null = Batch { condition: case.labels().null(), ..batch(&case) };
    assert_eq!(losses(1.0, batch(&case)), losses(0.0, null));
    assert_ne!(losses(1.0, batch(&case)), losses(0.0, batch(&case)));
    // At one half, 150 of 300 are dropped, within five deviations of 8.7.
    let (images, labels) = (Tensor::zeros([300, 1, 1, 1], &case.device), ClassLabels::new(&[0; 300], 1, &case.device));
    let (_, labels) = objective(0.5).objective.draw(images, labels, 0, 7);
    assert!((107..=193).contains(&labels.labels.sum().into_scalar::<i64>()));
}

#[test]
#[should_panic(expected = "the batch has features of shapes [], the network projects to [[3, 16, 24], [3, 16, 16]]")]
fn features_that_are_missing_are_an_error() {
    let case = Case::read(CASES[0]);
    let plain = Batch { features: vec![], ..batch(&case) };
    let objective = Alignment { objective: FlowMatching::new(Reversed(Linear)), weight: 0.5 };
    let _ = objective.loss(&case.network(), plain, 0);
}
