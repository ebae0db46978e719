//! The decoder of Qwen3, read as an encoder.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::Precision;
use mixflow::backbones::block::{FeedForward, NormKind, RmsNorm, SplitAttention, SplitProjection, SplitSwiGlu};
use mixflow::backbones::embed::{Axis, Rotation};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::ops::Pairs;
use mixflow::backbones::weights::Weights;

use super::Qwen3Config;
use super::attention_bias::{causal_bias, padding_bias};
use super::stream::{run_blocks, stream_blocks};
use crate::Error;

/// The decoder of a Qwen3 without what would say the next token: tokens see those before them, queries share keys and values in
/// groups, and both are normalised, then turned by their places.
///
/// # Source
/// Qwen Team 2025 (arXiv 2505.09388), section 2; Hugging Face Transformers 5.24.0, `Qwen3Model`.
#[derive(Module, Debug)]
pub struct Qwen3 {
    /// Of tokens, `[vocabulary, width]`.
    pub table: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<Qwen3Block>,
    /// The last normalisation.
    pub norm: RmsNorm,
    head: usize,
    theta: f64,
}

/// Attention and perceptron, each on normalised tokens and added to them. No layer has a bias.
#[derive(Module, Debug)]
pub struct Qwen3Block {
    /// Before attention.
    pub norm1: RmsNorm,
    /// Self-attention.
    pub attn: SplitAttention,
    /// Before the perceptron.
    pub norm2: RmsNorm,
    /// The perceptron.
    pub mlp: SplitSwiGlu,
}

impl Qwen3Config {
    /// The network, frozen; its values are drawn only if none are loaded.
    pub fn init(&self, device: &Device) -> Qwen3 {
        let init = &Initializer::new(0, device);
        Qwen3 {
            table: init.normal([self.vocab_size, self.hidden_size], 0.02),
            blocks: (0..self.num_hidden_layers).map(|_| Qwen3Block::new(self, init)).collect(),
            norm: RmsNorm::new(self.hidden_size, self.rms_norm_eps, init),
            head: self.head_dim,
            theta: self.rope_theta,
        }
        .no_grad()
    }
}

impl Qwen3 {
    /// This network with the weights of a file of Transformers'. What says the next token is left out.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Ok(select_weights(weights)?.into_module(self, official_key)?)
    }

    /// [`load`](Self::load) with the weights of the layers in this precision, rounded block after block.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_in(self, weights: Weights, precision: Precision) -> Result<Self, Error> {
        let (rest, blocks) =
            stream_blocks(self, |network| &mut network.blocks, select_weights(weights)?, official_key, precision)?;
        Ok(Self { blocks: blocks.collect::<Result<_, _>>()?, ..rest })
    }

    /// Whether `weights` are those that [`load`](Self::load) takes. No value is read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(&self, weights: &Weights) -> Result<(), Error> {
        Ok(select_weights(weights.clone())?.check(self, official_key)?)
    }

    /// The state of this number, the `hidden_states` of Transformers: number 0 is what the first block is given, number `n` comes out
    /// of block `n`, and the last one is normalised.
    ///
    /// Places are counted from the first token, padding or not: padding in front of a prompt changes what is said of it. Behind it,
    /// it changes nothing, as tokens do not see those after them.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`, each below the size of the vocabulary
    /// - mask: `[batch, tokens]`, 1 for a token that is seen, 0 for padding; as `attention_mask` of Transformers
    /// - output: `[batch, tokens, width]`
    ///
    /// # Panics
    /// If there are fewer blocks.
    pub fn hidden_state(&self, number: usize, ids: Tensor<2, Int>, mask: Option<Tensor<2, Int>>) -> Tensor<3> {
        let (x, bias, places) = self.start(ids, mask);
        let x = self.blocks[..number].iter().fold(x, |x, block| block.forward(x, bias.clone(), &places));
        self.end(number, self.blocks.len(), x)
    }

    /// [`hidden_state`](Self::hidden_state) with the values of `weights`, read block after block, so that one is in memory at a
    /// time, and the table of tokens: of Qwen3-4B, 0.4 GB and 1.6 GB in `f32`. Networks see `batch` rows at a time, and multiply
    /// in `precision`. Blocks that come later are not read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// # Panics
    /// If there are fewer blocks.
    pub fn stream(
        self,
        weights: Weights,
        number: usize,
        [ids, mask]: [Tensor<2, Int>; 2],
        batch: usize,
        precision: Precision,
    ) -> Result<Tensor<3>, Error> {
        let depth = self.blocks.len();
        assert!(number <= depth, "state {number} of {depth} blocks");
        let (rest, blocks) =
            stream_blocks(self, |network| &mut network.blocks, select_weights(weights)?, official_key, precision)?;
        let (x, bias, places) = rest.start(ids, Some(mask));
        let x = run_blocks(blocks.take(number), x, bias, batch, |block, x, bias| block.forward(x, bias, &places))?;
        Ok(rest.end(number, depth, x))
    }

    /// What the blocks are given: tokens, what attention does not see, and where tokens stand.
    fn start(&self, ids: Tensor<2, Int>, mask: Option<Tensor<2, Int>>) -> (Tensor<3>, Tensor<4>, Rotation) {
        let ([batch, tokens], device) = (ids.dims(), &ids.device());
        let embedded = self.table.val().select(0, ids.reshape([batch * tokens]));
        let [_, width] = embedded.dims();
        let bias = causal_bias(tokens, device);
        let bias = mask.into_iter().fold(bias, |bias, mask| {
            let hidden = padding_bias(mask);
            bias.expand(hidden.shape()).min_pair(hidden)
        });
        let axis = Axis { places: 0..tokens, width: self.head };
        let places = Rotation::of_places(&[axis], self.theta, Pairs::Halves, device);
        (embedded.reshape([batch, tokens, width]), bias, places)
    }

    fn end(&self, number: usize, depth: usize, x: Tensor<3>) -> Tensor<3> {
        if number == depth { self.norm.forward(x).value() } else { x }
    }
}

impl Qwen3Block {
    fn new(config: &Qwen3Config, init: &Initializer) -> Self {
        let (width, head) = (config.hidden_size, config.head_dim);
        let [heads, few] = [config.num_attention_heads, config.num_key_value_heads];
        let linear = |inputs, outputs| init.normal_linear(inputs, outputs, 0.02).without_bias();
        let [query, key, value] = [heads, few, few].map(|heads| linear(width, heads * head));
        let attn = SplitAttention::of(SplitProjection { query, key, value }, linear(heads * head, width), heads);
        let norm = || RmsNorm::new(width, config.rms_norm_eps, init);
        Self {
            norm1: norm(),
            attn: attn.with_qk_norm(NormKind::Rms, init).with_qk_epsilon(config.rms_norm_eps),
            norm2: norm(),
            mlp: SplitSwiGlu::new(width, config.intermediate_size, linear),
        }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - bias: `[1 or batch, 1, tokens, tokens]`
    fn forward(&self, x: Tensor<3>, bias: Tensor<4>, places: &Rotation) -> Tensor<3> {
        let normalised = self.norm1.forward(x.clone()).value();
        let x = x + self.attn.forward_biased(normalised, Some(places), Some(bias));
        x.clone() + self.mlp.forward(self.norm2.forward(x)).value()
    }
}

/// The tensors of the decoder, under the names of Transformers. Files of a model that says the next token have its layer too, and
/// those of the decoder alone leave out `model.`.
fn select_weights(weights: Weights) -> Result<Weights, Error> {
    Ok(weights.network_below("model.", "embed_tokens.weight")?.without(&["lm_head.weight"]))
}

/// The name that Transformers gives to the parameter at `path` of a [`Qwen3`].
///
/// ```
/// use mixflow_t2i::text::qwen3_key;
///
/// assert_eq!(qwen3_key("blocks.3.attn.qkv.query.weight"), "model.layers.3.self_attn.q_proj.weight");
/// assert_eq!(qwen3_key("blocks.3.mlp.w2.weight"), "model.layers.3.mlp.down_proj.weight");
/// ```
pub fn official_key(path: &str) -> String {
    const PARTS: [(&str, &str); 12] = [
        ("table", "embed_tokens.weight"),
        ("blocks.", "layers."),
        (".attn.qkv.query.", ".self_attn.q_proj."),
        (".attn.qkv.key.", ".self_attn.k_proj."),
        (".attn.qkv.value.", ".self_attn.v_proj."),
        (".attn.proj.", ".self_attn.o_proj."),
        (".attn.", ".self_attn."),
        (".norm1.", ".input_layernorm."),
        (".norm2.", ".post_attention_layernorm."),
        (".w1.", ".gate_proj."),
        (".w3.", ".up_proj."),
        (".w2.", ".down_proj."),
    ];
    format!("model.{}", renamed(path, &PARTS))
}
