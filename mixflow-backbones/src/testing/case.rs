//! What is checked of a network.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Gradients, Int, Tensor, TensorData};

use crate::walk::{Walk, walks};
use crate::weights::Weights;
use crate::{Aligned, AlignedBackbone, Backbone, Condition};

/// How far two ways to compute a value may lie apart: absolute below 1, relative above.
const TOLERANCE: f32 = 1e-5;

/// A network and its input.
pub(super) struct Case<'a, B: Backbone> {
    pub(super) network: &'a B,
    pub(super) x: Tensor<4>,
    pub(super) time: Tensor<1>,
    pub(super) target: Tensor<4>,
    pub(super) condition: B::Condition,
    pub(super) device: Device,
}

impl<B: Backbone> Case<'_, B> {
    pub(super) fn output(&self, condition: B::Condition) -> Tensor<4> {
        self.network.forward(self.x.clone(), self.time.clone(), condition)
    }

    fn batch(&self) -> usize {
        self.x.dims()[0]
    }

    pub(super) fn shape_and_finiteness(&self) {
        let output = self.output(self.condition.clone());
        let (expected, found) = (self.x.dims(), output.dims());
        assert!(expected == found, "output shape: expected that of the input, {expected:?}, found {found:?}");
        assert!(finite(&output.into_data()), "finite output: the output has values that are infinite or not a number");
    }

    pub(super) fn determinism(&self) {
        let [first, second] = [(); 2].map(|()| self.output(self.condition.clone()).into_data());
        assert!(first == second, "determinism: two calls with the same input give different outputs");
    }

    pub(super) fn batch_independence(&self) {
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

    pub(super) fn null_condition(&self) {
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

    pub(super) fn loss(&self, output: Tensor<4>) -> Tensor<1> {
        // The target is tracked so that there is something to differentiate whatever the network does.
        (output - self.target.clone().require_grad()).square().mean()
    }

    pub(super) fn gradients(&self, loss: Tensor<1>) {
        let mut gradients = loss.backward();
        self.network.visit(&mut FiniteGradients { gradients: &mut gradients, walk: Walk::default() });
    }

    pub(super) fn save_and_load(&self, other: B) {
        let weights = Weights::of(self.network, str::to_string);
        let bytes =
            |weights: Weights| weights.to_safetensors(&[]).unwrap_or_else(|error| panic!("save and load: {error}"));
        let saved = bytes(weights);
        let loaded = Weights::from_safetensors(&saved)
            .and_then(|weights| weights.into_module(other, str::to_string))
            .unwrap_or_else(|error| panic!("save and load: {error}"));
        assert!(
            bytes(Weights::of(&loaded, str::to_string)) == saved,
            "save and load: the weights that come back are different"
        );
        let [saved, loaded] = [self.network, &loaded]
            .map(|network| network.forward(self.x.clone(), self.time.clone(), self.condition.clone()).into_data());
        assert!(saved == loaded, "save and load: the output depends on more than the parameters that are saved");
    }
}

impl<B: AlignedBackbone> Case<'_, B> {
    pub(super) fn alignment(&self) -> Aligned {
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
    walk: Walk,
}

impl ModuleVisitor for FiniteGradients<'_> {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let name = self.walk.path();
            let gradient = value.grad_remove(self.gradients);
            let gradient = gradient.unwrap_or_else(|| panic!("gradients: none reaches the parameter {name}"));
            assert!(finite(&gradient.into_data()), "gradients: that of {name} is infinite or not a number");
        }
    }
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
