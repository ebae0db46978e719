//! A network of one's own, and the check that it can be trained and sampled.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::silu};
use mixflow_backbones::{Backbone, testing};

#[derive(Module, Debug)]
struct Mlp {
    hidden: Linear,
    middle: Linear,
    output: Linear,
}

impl Mlp {
    fn new(values: usize, width: usize, device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(values + 1, width).init(device),
            middle: LinearConfig::new(width, width).init(device),
            output: LinearConfig::new(width, values).init(device),
        }
    }
}

impl Backbone for Mlp {
    type Condition = ();

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, _: ()) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let x = x.reshape([batch, channels * height * width]);
        let x = Tensor::cat(vec![x, time.reshape([batch, 1])], 1);
        let x = silu(self.hidden.forward(x));
        let x = silu(self.middle.forward(x));
        self.output.forward(x).reshape([batch, channels, height, width])
    }
}

fn main() {
    let network = Mlp::new(2, 32, &Device::default().autodiff());
    testing::check(&network, [4, 2, 1, 1], ());
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main();
    }
}
