//! Conformance checks for any backbone.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Gradients, Int, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::weights::Weights;
use crate::{Aligned, AlignedBackbone, Backbone, Condition};

/// How far two ways to compute a value may lie apart: absolute below 1, relative above.
const TOLERANCE: f32 = 1e-5;

/// Checks everything that training and sampling take for granted about `backbone`.
///
/// - The output has the input's `shape`, `[batch, channels, height, width]`, and is finite.
/// - The same input gives the same output, bit for bit.
/// - A row of a batch does not depend on the others.
/// - Masking every condition is [`null`](Condition::null); masking one leaves the other rows alone.
/// - Every trained parameter receives a finite gradient.
/// - Weights survive a `.safetensors` file, bit for bit.
///
/// All of it is checked for the network as it is and again with its parameters moved a little, since many networks
/// start with layers of zeros, behind which nothing shows.
///
/// `backbone` and `condition`, of `batch` rows, are made on a device with autodiff, such as
/// `Device::default().autodiff()`.
///
/// # Panics
/// If a property does not hold: the message starts with its name. Also if the batch has fewer than two rows or the
/// device has no autodiff. An [`AlignedBackbone`] has parameters that its output does not depend on: see
/// [`check_aligned`].
pub fn check<B: Backbone>(backbone: &B, shape: [usize; 4], condition: B::Condition) {
    each_case(backbone, shape, condition, |case| case.gradients(case.loss(case.output(case.condition.clone()))));
}

/// Checks an [`AlignedBackbone`] as [`check`] does a backbone, and its projections:
///
/// - Output and [`forward`](Backbone::forward) are the same, bit for bit.
/// - There are projections, each `[batch, tokens, width]` and finite.
/// - A row of a projection does not depend on the rest of the batch.
/// - Every trained parameter receives a finite gradient from output and projections together: projectors have none
///   from the output alone.
///
/// # Panics
/// As [`check`].
pub fn check_aligned<B: AlignedBackbone>(backbone: &B, shape: [usize; 4], condition: B::Condition) {
    each_case(backbone, shape, condition, |case| {
        let Aligned { output, projections } = case.alignment();
        let loss = projections.into_iter().fold(case.loss(output), |loss, z| loss + z.square().mean());
        case.gradients(loss);
    });
}

/// Checks what all backbones have in common, and `rest`.
fn each_case<B: Backbone>(backbone: &B, shape: [usize; 4], condition: B::Condition, rest: impl Fn(&Case<'_, B>)) {
    assert!(shape[0] >= 2, "a batch of at least 2 is needed to tell rows apart, found {}", shape[0]);
    let device = backbone.devices().first().cloned().unwrap_or_else(|| Device::default().autodiff());
    assert!(device.is_autodiff(), "the network must be made on `Device::default().autodiff()` to check its gradients");

    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let moved = move_parameters(backbone.clone(), &mut rng);
    for (network, other) in [(backbone, &moved), (&moved, backbone)] {
        let case = Case {
            network,
            x: uniform(shape, &mut rng, &device),
            time: uniform([shape[0]], &mut rng, &device) * 0.5 + 0.5,
            target: uniform(shape, &mut rng, &device),
            condition: condition.clone(),
            device: device.clone(),
        };
        case.shape_and_finiteness();
        case.determinism();
        case.batch_independence();
        case.null_condition();
        rest(&case);
        case.save_and_load(other.clone());
    }
}

/// A network and its input.
struct Case<'a, B: Backbone> {
    network: &'a B,
    x: Tensor<4>,
    time: Tensor<1>,
    target: Tensor<4>,
    condition: B::Condition,
    device: Device,
}

impl<B: Backbone> Case<'_, B> {
    fn output(&self, condition: B::Condition) -> Tensor<4> {
        self.network.forward(self.x.clone(), self.time.clone(), condition)
    }

    fn batch(&self) -> usize {
        self.x.dims()[0]
    }

    fn shape_and_finiteness(&self) {
        let output = self.output(self.condition.clone());
        let (expected, found) = (self.x.dims(), output.dims());
        assert!(expected == found, "output shape: expected that of the input, {expected:?}, found {found:?}");
        assert!(finite(&output.into_data()), "finite output: the output has values that are infinite or not a number");
    }

    fn determinism(&self) {
        let [first, second] = [(); 2].map(|()| self.output(self.condition.clone()).into_data());
        assert!(first == second, "determinism: two calls with the same input give different outputs");
    }

    fn batch_independence(&self) {
        let together = self.output(self.condition.clone());
        for row in 0..self.batch() {
            let (x, time, condition) = self.row(row);
            let alone = self.network.forward(x, time, condition);
            let difference = difference(together.clone().narrow(0, row, 1), alone);
            assert!(
                difference <= TOLERANCE,
                "batch independence: row {row} differs by {difference:e} from what it is alone"
            );
        }
    }

    /// A row of the batch: image, time and condition.
    fn row(&self, row: usize) -> (Tensor<4>, Tensor<1>, B::Condition) {
        let index = Tensor::<1, Int>::from_data([row as i64], &self.device);
        let (x, time) = (self.x.clone().select(0, index.clone()), self.time.clone().select(0, index.clone()));
        (x, time, self.condition.clone().select(index))
    }

    fn null_condition(&self) {
        let batch = self.batch();
        let mask = |masked: &dyn Fn(usize) -> bool| {
            let mask: Vec<bool> = (0..batch).map(masked).collect();
            let mask = Tensor::<1, Bool>::from_data(mask.as_slice(), &self.device);
            self.output(self.condition.clone().mask(mask))
        };
        let given = self.output(self.condition.clone());
        let null = self.output(self.condition.clone().null());
        let apart = difference(mask(&|_| true), null.clone());
        assert!(apart <= TOLERANCE, "null condition: masking every row differs from `null` by {apart:e}");

        let first = mask(&|row| row == 0);
        let apart = difference(first.clone().narrow(0, 0, 1), null.narrow(0, 0, 1));
        assert!(apart <= TOLERANCE, "null condition: a masked row differs from `null` by {apart:e}");
        let apart = difference(first.narrow(0, 1, batch - 1), given.narrow(0, 1, batch - 1));
        assert!(apart <= TOLERANCE, "null condition: masking the first row changes the others by {apart:e}");
    }

    fn loss(&self, output: Tensor<4>) -> Tensor<1> {
        // The target is tracked so that there is something to differentiate whatever the network does.
        (output - self.target.clone().require_grad()).square().mean()
    }

    fn gradients(&self, loss: Tensor<1>) {
        let mut gradients = loss.backward();
        self.network.visit(&mut FiniteGradients { gradients: &mut gradients, path: vec![] });
    }

    fn save_and_load(&self, other: B) {
        let weights = Weights::of(self.network, str::to_string);
        let bytes = weights.to_safetensors(&[]);
        let loaded = Weights::from_safetensors(&bytes)
            .and_then(|weights| weights.into_module(other, str::to_string))
            .unwrap_or_else(|error| panic!("save and load: {error}"));
        let again = Weights::of(&loaded, str::to_string);
        assert!(again.to_safetensors(&[]) == bytes, "save and load: the weights that come back are different");
        let [saved, loaded] = [self.network, &loaded]
            .map(|network| network.forward(self.x.clone(), self.time.clone(), self.condition.clone()).into_data());
        assert!(saved == loaded, "save and load: the output depends on more than the parameters that are saved");
    }
}

impl<B: AlignedBackbone> Case<'_, B> {
    fn alignment(&self) -> Aligned {
        let aligned = self.network.forward_aligned(self.x.clone(), self.time.clone(), self.condition.clone());
        let output = self.output(self.condition.clone()).into_data();
        assert!(aligned.output.to_data() == output, "alignment: the output is not that of `forward`");
        assert!(!aligned.projections.is_empty(), "alignment: there are no projections");
        for (number, projection) in aligned.projections.iter().enumerate() {
            let [rows, ..] = projection.dims();
            assert!(rows == self.batch(), "alignment: projection {number} has {rows} rows, the batch {}", self.batch());
            let values = finite(&projection.to_data());
            assert!(values, "alignment: projection {number} has values that are infinite or not a number");
        }
        for row in 0..self.batch() {
            let (x, time, condition) = self.row(row);
            let alone = self.network.forward_aligned(x, time, condition).projections;
            for (number, (together, alone)) in aligned.projections.iter().zip(alone).enumerate() {
                let difference = difference(together.clone().narrow(0, row, 1), alone);
                assert!(
                    difference <= TOLERANCE,
                    "alignment: row {row} of projection {number} differs by {difference:e} from what it is alone"
                );
            }
        }
        aligned
    }
}

struct FiniteGradients<'a> {
    gradients: &'a mut Gradients,
    path: Vec<String>,
}

impl ModuleVisitor for FiniteGradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let name = self.path.join(".");
            let gradient = value.grad_remove(self.gradients);
            let gradient = gradient.unwrap_or_else(|| panic!("gradients: none reaches the parameter {name}"));
            assert!(finite(&gradient.into_data()), "gradients: that of {name} is infinite or not a number");
        }
    }
}

/// Adds `U(-0.05, 0.05)` to every trained parameter.
fn move_parameters<M: Module>(module: M, rng: &mut ChaCha8Rng) -> M {
    struct Move<'a>(&'a mut ChaCha8Rng);
    impl ModuleMapper for Move<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.val().is_require_grad() {
                return param;
            }
            param.map(|value| {
                let step = uniform(value.dims(), self.0, &value.device()).cast(value.dtype()) * 0.05;
                (value.detach() + step).detach().require_grad()
            })
        }
    }
    module.map(&mut Move(rng))
}

/// `U(-1, 1)`.
fn uniform<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn finite(data: &TensorData) -> bool {
    data.iter::<f32>().all(f32::is_finite)
}

/// The largest difference, in units of `max(1, |b|)`; infinite if the shapes differ or a value is not a number.
fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    if a.dims() != b.dims() {
        return f32::INFINITY;
    }
    let (a, b) = (a.into_data(), b.into_data());
    let apart = a.iter::<f32>().zip(b.iter::<f32>()).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
    apart.fold(0.0, |largest, d| if d.is_nan() { f32::INFINITY } else { d.max(largest) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::dit_dh::{DitDhConfig, Stack};
    use crate::lightning_dit::LightningDitConfig;
    use crate::repa::RepaConfig;
    use crate::sit::SitConfig;
    use crate::{ClassLabels, Linear};

    #[test]
    fn sit_passes() {
        let device = Device::default().autodiff();
        let tiny = SitConfig { width: 16, depth: 2, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        for (learn_sigma, classes) in [(true, 3), (false, 10)] {
            let config = SitConfig { learn_sigma, classes, ..tiny.clone() };
            let labels = ClassLabels::new(&[0, 2, classes, 1], classes, &device);
            check(&config.init(0, &device), [4, 4, 4, 4], labels);
        }
    }

    #[test]
    fn repa_passes() {
        let device = Device::default().autodiff();
        let tiny = RepaConfig {
            input_size: 4,
            width: 16,
            depth: 2,
            heads: 2,
            hidden: 32,
            classes: 3,
            encoder_depth: 1,
            projector_hidden: 8,
            ..RepaConfig::base(2)
        };
        for (qk_norm, projectors) in [(false, vec![6]), (true, vec![6, 5])] {
            let config = RepaConfig { qk_norm, projectors, ..tiny.clone() };
            let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
            check_aligned(&config.init(0, &device), [4, 4, 4, 4], labels);
        }
    }

    #[test]
    fn dit_dh_passes() {
        let device = Device::default().autodiff();
        let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
        for trained_tables in [true, false] {
            let config = DitDhConfig {
                input_size: 4,
                channels: 8,
                encoder: Stack { width: 16, depth: 1, heads: 2, hidden: 24 },
                head: Stack { width: 24, depth: 1, heads: 2, hidden: 32 },
                classes: 3,
                trained_tables,
                ..DitDhConfig::small()
            };
            check(&config.init(0, &device), [4, 8, 4, 4], labels.clone());
        }
    }

    #[test]
    fn lightning_dit_passes() {
        let device = Device::default().autodiff();
        let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
        let tiny = LightningDitConfig {
            input_size: 4,
            channels: 8,
            width: 16,
            depth: 2,
            heads: 2,
            hidden: 24,
            classes: 3,
            ..LightningDitConfig::extra_large()
        };
        for config in [LightningDitConfig { patch: 2, learn_sigma: true, ..tiny.clone() }, tiny] {
            check(&config.init(0, &device), [4, 8, 4, 4], labels.clone());
        }
    }

    /// What is wrong with a [`Broken`] network.
    #[derive(Clone, Copy, Debug)]
    enum Fault {
        None,
        Leak,
        Shape,
        Infinite,
        Gradient,
        Unused,
        AlignedOutput,
        AlignedLeak,
        NoProjection,
    }

    #[derive(Module, Debug)]
    struct Broken {
        linear: Linear,
        #[module(skip)]
        fault: Fault,
    }

    #[derive(Clone, Debug)]
    struct Shift {
        shift: Tensor<1>,
        leaks: bool,
    }

    impl Condition for Shift {
        fn mask(self, mask: Tensor<1, Bool>) -> Self {
            let shift = if self.leaks { self.shift * 0.5 } else { self.shift };
            Self { shift: shift.mask_fill(mask, 0.0), ..self }
        }
        fn null(self) -> Self {
            Self { shift: self.shift.zeros_like(), ..self }
        }
        fn select(self, rows: Tensor<1, Int>) -> Self {
            Self { shift: self.shift.select(0, rows), ..self }
        }
    }

    impl Backbone for Broken {
        type Condition = Shift;

        fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: Shift) -> Tensor<4> {
            let [batch, ..] = x.dims();
            let zero = self.linear.weight.val() - self.linear.weight.val().detach();
            let y = self.linear.forward(x) + (time + condition.shift).reshape([batch, 1, 1, 1]);
            match self.fault {
                Fault::None | Fault::AlignedOutput | Fault::AlignedLeak | Fault::NoProjection => y,
                Fault::Leak => y.clone() + y.mean_dim(0) * 1e-3,
                Fault::Shape => y.repeat_dim(1, 2),
                Fault::Infinite => y / 0.0,
                Fault::Gradient => y + zero.sqrt().sum().reshape([1, 1, 1, 1]),
                Fault::Unused => y.detach(),
            }
        }
    }

    impl AlignedBackbone for Broken {
        fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, condition: Shift) -> Aligned {
            let output = self.forward(x, time, condition);
            let tokens: Tensor<3> = output.clone().flatten(1, 2);
            match self.fault {
                Fault::AlignedOutput => Aligned { output: output * 1.001, projections: vec![tokens] },
                Fault::AlignedLeak => {
                    Aligned { output, projections: vec![tokens.clone(), tokens.clone() + tokens.mean_dim(0)] }
                }
                Fault::NoProjection => Aligned { output, projections: vec![] },
                _ => Aligned { output, projections: vec![tokens] },
            }
        }
    }

    fn complaint(fault: Fault, leaks: bool) -> Option<String> {
        let device = Device::default().autodiff();
        let linear = crate::init::Initializer::new(0, &device).xavier_linear(3, 3);
        let condition = Shift { shift: Tensor::from_data([0.5f32, -1.0, 2.0], &device), leaks };
        let checked =
            catch_unwind(AssertUnwindSafe(|| check_aligned(&Broken { linear, fault }, [3, 1, 2, 3], condition)));
        let panic = checked.err()?;
        Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string()),
        )
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(complaint(Fault::None, false), None);
        for (fault, leaks, expected) in [
            (Fault::Leak, false, "batch independence: row 0 differs by"),
            (Fault::Shape, false, "output shape: expected that of the input, [3, 1, 2, 3], found [3, 2, 2, 3]"),
            (Fault::Infinite, false, "finite output: "),
            (Fault::Gradient, false, "gradients: that of linear.weight is infinite or not a number"),
            (Fault::Unused, false, "gradients: none reaches the parameter linear."),
            (Fault::None, true, "null condition: masking the first row changes the others by"),
            (Fault::AlignedOutput, false, "alignment: the output is not that of `forward`"),
            (Fault::AlignedLeak, false, "alignment: row 0 of projection 1 differs by"),
            (Fault::NoProjection, false, "alignment: there are no projections"),
        ] {
            let found = complaint(fault, leaks).unwrap();
            assert!(found.starts_with(expected), "{fault:?}: {found}");
        }
    }
}
