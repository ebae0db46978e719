//! The little network of the recorded training steps.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::{Backbone, ClassLabels};

use crate::Fixture;

/// A perceptron on pixels and time: `W₂ silu(W₁ [x, t, cos 2πt, sin 2πt] + b₁) + b₂`.
#[derive(Module, Debug)]
pub struct TinyNet {
    /// `[hidden, pixels + 3]`
    pub w1: Param<Tensor<2>>,
    /// `[hidden]`
    pub b1: Param<Tensor<1>>,
    /// `[pixels, hidden]`
    pub w2: Param<Tensor<2>>,
    /// `[pixels]`
    pub b2: Param<Tensor<1>>,
}

impl TinyNet {
    /// The network of a fixture, with its weights.
    pub fn of(fixture: &Fixture, device: &Device) -> Self {
        Self {
            w1: Param::from_tensor(fixture.tensor("weights.w1", device)),
            b1: Param::from_tensor(fixture.tensor("weights.b1", device)),
            w2: Param::from_tensor(fixture.tensor("weights.w2", device)),
            b2: Param::from_tensor(fixture.tensor("weights.b2", device)),
        }
    }
}

impl Backbone for TinyNet {
    type Condition = ();

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, (): ()) -> Tensor<4> {
        let bias = self.b1.val().unsqueeze();
        self.predict(x, time, bias)
    }
}

impl TinyNet {
    /// With `bias` of the hidden layer, `[1 or batch, hidden]`.
    fn predict(&self, x: Tensor<4>, time: Tensor<1>, bias: Tensor<2>) -> Tensor<4> {
        let shape = x.dims();
        let time: Tensor<2> = time.unsqueeze_dim(1);
        let angle = time.clone() * std::f64::consts::TAU;
        let features = Tensor::cat(vec![x.flatten(1, 3), time, angle.clone().cos(), angle.sin()], 1);
        let hidden = silu(features.matmul(self.w1.val().transpose()) + bias);
        (hidden.matmul(self.w2.val().transpose()) + self.b2.val().unsqueeze()).reshape(shape)
    }
}

/// A [`TinyNet`] that adds a vector for the label to its hidden layer.
#[derive(Module, Debug)]
pub struct LabelledTinyNet {
    /// The rest of it.
    pub net: TinyNet,
    /// `[classes + 1, hidden]`
    pub emb: Param<Tensor<2>>,
}

impl LabelledTinyNet {
    /// The network of a fixture, with its weights.
    pub fn of(fixture: &Fixture, device: &Device) -> Self {
        Self { net: TinyNet::of(fixture, device), emb: Param::from_tensor(fixture.tensor("weights.emb", device)) }
    }
}

impl Backbone for LabelledTinyNet {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let bias = self.net.b1.val().unsqueeze::<2>() + self.emb.val().select(0, condition.labels);
        self.net.predict(x, time, bias)
    }
}
