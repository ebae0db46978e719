//! What encoder and decoder are built of.

use burn::module::Module;
use burn::tensor::Tensor;

use super::GroupNorm;
use crate::Convolution;
use crate::block::SplitAttention;
use crate::init::Initializer;

/// Two convolutions beside a shortcut.
///
/// # Source
/// `ResnetBlock` of `CompVis/latent-diffusion`, without its embedding of time.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Of the input.
    pub norm1: GroupNorm,
    /// `inputs` to `outputs`.
    pub conv1: Convolution,
    /// Between the convolutions.
    pub norm2: GroupNorm,
    /// `outputs` to `outputs`.
    pub conv2: Convolution,
    /// One pixel wide, where the numbers of channels differ.
    pub conv_shortcut: Option<Convolution>,
}

impl ResidualBlock {
    /// From `inputs` channels to `outputs`.
    pub fn new(inputs: usize, outputs: usize, groups: usize, init: &Initializer) -> Self {
        Self {
            norm1: GroupNorm::new(inputs, groups, init),
            conv1: Convolution::new(inputs, outputs, 3, init),
            norm2: GroupNorm::new(outputs, groups, init),
            conv2: Convolution::new(outputs, outputs, 3, init),
            conv_shortcut: (inputs != outputs).then(|| Convolution::new(inputs, outputs, 1, init)),
        }
    }

    /// `[batch, channels, height, width]`, in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.conv1.forward(self.norm1.silu(x.clone()));
        let y = self.conv2.forward(self.norm2.silu(y));
        match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x) + y,
            None => x + y,
        }
    }
}

/// Attention of all pixels to all, with one head, beside a shortcut.
///
/// # Source
/// `AttnBlock` of `CompVis/latent-diffusion`; names of `diffusers`.
#[derive(Module, Debug)]
pub struct MidAttention {
    /// Of the input.
    pub group_norm: GroupNorm,
    /// Of the pixels.
    pub attn: SplitAttention,
}

impl MidAttention {
    /// Of images with `channels` channels.
    pub fn new(channels: usize, groups: usize, init: &Initializer) -> Self {
        let attn = SplitAttention::new(channels, 1, |inputs, outputs| init.pytorch_linear(inputs, outputs));
        Self { group_norm: GroupNorm::new(channels, groups, init), attn }
    }

    /// `[batch, channels, height, width]`, in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let tokens = self.group_norm.forward(x.clone()).reshape([batch, channels, height * width]).swap_dims(1, 2);
        let y = self.attn.forward(tokens, None).value(); // [batch, pixels, channels]
        x + y.swap_dims(1, 2).reshape([batch, channels, height, width])
    }
}

/// The coarsest level: a residual block on either side of attention.
#[derive(Module, Debug)]
pub struct MidBlock {
    /// Two.
    pub resnets: Vec<ResidualBlock>,
    /// Between them.
    pub attention: MidAttention,
}

impl MidBlock {
    /// Of images with `channels` channels.
    pub fn new(channels: usize, groups: usize, init: &Initializer) -> Self {
        Self {
            resnets: (0..2).map(|_| ResidualBlock::new(channels, channels, groups, init)).collect(),
            attention: MidAttention::new(channels, groups, init),
        }
    }

    /// `[batch, channels, height, width]`, in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attention.forward(self.resnets[0].forward(x));
        self.resnets[1].forward(x)
    }
}
