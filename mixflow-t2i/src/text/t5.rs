//! The encoder of T5.

use burn::module::{Module, Param};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::block::{RmsNorm, SplitAttention, SplitProjection};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Linear, Precision, ops};

use super::T5Config;
use super::attention_bias::padding_bias;
use super::stream::{run_blocks, stream_blocks};
use crate::Error;

/// The encoder of T5 version 1.1: every token sees every other, and attention knows distances, not positions.
///
/// # Source
/// Raffel et al. 2019 (arXiv 1910.10683), section 2.1; Hugging Face Transformers 4.56.2, `T5EncoderModel`.
#[derive(Module, Debug)]
pub struct T5 {
    /// Of tokens, `[vocabulary, width]`.
    pub table: Param<Tensor<2>>,
    /// What attention scores gain by the distance of two tokens, in all blocks, `[buckets, heads]`.
    pub bias: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<T5Block>,
    /// The last normalisation.
    pub norm: RmsNorm,
    max_distance: usize,
}

/// Attention and perceptron, each on normalised tokens and added to them.
#[derive(Module, Debug)]
pub struct T5Block {
    /// Before attention.
    pub norm1: RmsNorm,
    /// Self-attention, unscaled. No layer has a bias.
    pub attn: SplitAttention,
    /// Before the perceptron.
    pub norm2: RmsNorm,
    /// `width` to `hidden`
    pub gate: Linear,
    /// `width` to `hidden`
    pub up: Linear,
    /// `hidden` to `width`
    pub down: Linear,
}

impl T5Config {
    /// The network, frozen; its values are drawn only if none are loaded.
    pub fn init(&self, device: &Device) -> T5 {
        T5::new(self, device)
    }
}

impl T5 {
    fn new(config: &T5Config, device: &Device) -> Self {
        let init = Initializer::new(0, device);
        Self {
            table: init.normal([config.vocab_size, config.d_model], 1.0),
            bias: init.normal([config.relative_attention_num_buckets, config.num_heads], 0.02),
            blocks: (0..config.num_layers).map(|_| T5Block::new(config, &init)).collect(),
            norm: RmsNorm::new(config.d_model, config.layer_norm_epsilon, &init),
            max_distance: config.relative_attention_max_distance,
        }
        .no_grad()
    }

    /// This network with the weights of a file of Transformers'. Of a whole T5, the decoder is left out.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Ok(select_weights(weights)?.into_module(self, official_key)?)
    }

    /// [`load`](Self::load) with the weights of the layers in this precision, rounded block after block: the blocks of T5-XXL
    /// take 9.3 GB in `bf16` and 18.5 in `f32`, and no more than one is there in `f32`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_in(self, weights: Weights, precision: Precision) -> Result<Self, Error> {
        if precision.is_full() {
            return self.load(weights);
        }
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

    /// Padding is not masked: networks of images were trained with what it says.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`, each below the size of the vocabulary
    /// - output: `[batch, tokens, width]`
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.forward_masked(ids, None)
    }

    /// [`forward`](Self::forward) with padding hidden, as networks expect that were trained with a mask.
    ///
    /// # Shapes
    /// - mask: `[batch, tokens]`, 1 for a token that is seen, 0 for padding; as `attention_mask` of Transformers
    pub fn forward_masked(&self, ids: Tensor<2, Int>, mask: Option<Tensor<2, Int>>) -> Tensor<3> {
        let (x, bias, hidden) = self.start(ids, mask);
        let bias = hidden.into_iter().fold(bias, |bias, hidden| bias + hidden);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, bias.clone()));
        self.norm.forward(x).value()
    }

    /// [`forward_masked`](Self::forward_masked) with the values of `weights`, read block after block, so that one is in memory at a time:
    /// of T5-XXL, 0.8 GB of 19 in `f32`, and 0.5 GB of its table of tokens. Networks see `batch` rows at a time, and multiply in
    /// `precision`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn stream(
        self,
        weights: Weights,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Int>>,
        batch: usize,
        precision: Precision,
    ) -> Result<Tensor<3>, Error> {
        let (rest, blocks) =
            stream_blocks(self, |network| &mut network.blocks, select_weights(weights)?, official_key, precision)?;
        let (x, bias, hidden) = rest.start(ids, mask);
        let x = match hidden {
            // Of all heads at a time it is there for the rows of a batch alone.
            Some(hidden) => run_blocks(blocks, x, hidden, batch, |block: &T5Block, x, hidden| {
                block.forward(x, bias.clone() + hidden)
            })?,
            None => run_blocks(blocks, x, bias, batch, T5Block::forward)?,
        };
        Ok(rest.norm.forward(x).value())
    }

    /// What the blocks are given: tokens, what attention gains by distances, `[1, heads, tokens, tokens]`, and what it loses by the
    /// mask, `[batch, 1, tokens, tokens]`.
    fn start(&self, ids: Tensor<2, Int>, mask: Option<Tensor<2, Int>>) -> (Tensor<3>, Tensor<4>, Option<Tensor<4>>) {
        let [batch, tokens] = ids.dims();
        let embedded = self.table.val().select(0, ids.reshape([batch * tokens]));
        let [_, width] = embedded.dims();
        let bias = position_bias(self.bias.val(), tokens, self.max_distance);
        (embedded.reshape([batch, tokens, width]), bias, mask.map(padding_bias))
    }
}

impl T5Block {
    fn new(config: &T5Config, init: &Initializer) -> Self {
        let (width, inner, hidden) = (config.d_model, config.num_heads * config.d_kv, config.d_ff);
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs).without_bias();
        let [query, key, value] = [(); 3].map(|()| linear(width, inner));
        let qkv = SplitProjection { query, key, value };
        let norm = || RmsNorm::new(width, config.layer_norm_epsilon, init);
        let unscaled = AttentionModuleOptions { scale: Some(1.0), ..Default::default() };
        Self {
            norm1: norm(),
            attn: SplitAttention::of(qkv, linear(inner, width), config.num_heads).with_scores(unscaled),
            norm2: norm(),
            gate: linear(width, hidden),
            up: linear(width, hidden),
            down: linear(hidden, width),
        }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - bias: `[1 or batch, heads, tokens, tokens]`
    fn forward(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let normalised = self.norm1.forward(x.clone()).value();
        let x = x + self.attn.forward_biased(normalised, None, Some(bias));
        let normalised = self.norm2.forward(x.clone()).value();
        let hidden = ops::gelu_tanh(self.gate.forward(normalised.clone())) * self.up.forward(normalised);
        x + self.down.forward(hidden)
    }
}

/// What a query (row) gives to a key (column), `[1, heads, tokens, tokens]`, from a table `[buckets, heads]`.
fn position_bias(table: Tensor<2>, tokens: usize, max_distance: usize) -> Tensor<4> {
    let [buckets, heads] = table.dims();
    let numbers = (0..tokens * tokens)
        .map(|index| bucket((index % tokens) as i64 - (index / tokens) as i64, buckets, max_distance));
    let numbers = TensorData::new(numbers.collect::<Vec<i64>>(), [tokens * tokens]);
    let rows = table.clone().select(0, Tensor::from_data(numbers, &table.device()));
    rows.reshape([1, tokens, tokens, heads]).permute([0, 3, 1, 2])
}

/// The bucket of a key `offset` tokens after the query. Each direction has half of the buckets: one for every distance up
/// to half of those, then wider ones, whose bounds grow as powers, up to `max_distance`.
///
/// # Source
/// Hugging Face Transformers 4.56.2, `T5Attention._relative_position_bucket`, which computes in `f32`.
fn bucket(offset: i64, buckets: usize, max_distance: usize) -> i64 {
    let half = buckets as i64 / 2;
    let exact = half / 2;
    let distance = offset.abs();
    let bucket = if distance < exact {
        distance
    } else {
        let power = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
        (exact + (power * (half - exact) as f32) as i64).min(half - 1)
    };
    if offset > 0 { half + bucket } else { bucket }
}

/// The tensors of an encoder, under the names of Transformers. The table is in its files twice, or under either name. Files of
/// a whole T5 hold the decoder and its last layer too.
fn select_weights(weights: Weights) -> Result<Weights, Error> {
    const TWIN: &str = "encoder.embed_tokens.weight";
    let weights = weights.network(&["encoder.block.0.layer.0.SelfAttention.q.weight"])?;
    let weights = weights.without(&["decoder.", "lm_head.weight"]);
    let twice = weights.get("shared.weight").is_some();
    Ok(weights.rename(|name| match name {
        TWIN => (!twice).then(|| "shared.weight".into()),
        _ => Some(name.into()),
    }))
}

/// The name that Transformers gives to the parameter at `path` of a [`T5`].
///
/// ```
/// use mixflow_t2i::text::t5_key;
///
/// assert_eq!(t5_key("blocks.3.gate.weight"), "encoder.block.3.layer.1.DenseReluDense.wi_0.weight");
/// ```
pub fn official_key(path: &str) -> String {
    match path.split('.').collect::<Vec<_>>()[..] {
        ["table"] => "shared.weight".into(),
        ["bias"] => "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".into(),
        ["norm", "weight"] => "encoder.final_layer_norm.weight".into(),
        ["blocks", block, ref part @ ..] => {
            let part = part.join(".");
            let part = match part.trim_end_matches(".weight") {
                "norm1" => "0.layer_norm",
                "attn.qkv.query" => "0.SelfAttention.q",
                "attn.qkv.key" => "0.SelfAttention.k",
                "attn.qkv.value" => "0.SelfAttention.v",
                "attn.proj" => "0.SelfAttention.o",
                "norm2" => "1.layer_norm",
                "gate" => "1.DenseReluDense.wi_0",
                "up" => "1.DenseReluDense.wi_1",
                "down" => "1.DenseReluDense.wo",
                other => other,
            };
            format!("encoder.block.{block}.layer.{part}.weight")
        }
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_apart_as_recorded() {
        let recorded = mixflow_tests::Fixture::read("text/t5_encoder").values("out.buckets_of_offsets_-150..150");
        let found: Vec<f64> = (-150..=150).map(|offset| bucket(offset, 32, 128) as f64).collect();
        assert_eq!(found, recorded);
        assert_eq!([-4000, 4000].map(|offset| bucket(offset, 32, 128)), [15, 31]);
    }
}
