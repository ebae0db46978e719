//! The text half of CLIP.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::vit::LayerNorm;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Linear, ops};

use super::attention::attention;
use super::clip_config::{Activation, ClipConfig, LEGACY_END_TOKEN};
use crate::Error;

/// CLIP's text encoder: a causal transformer, read at its last layer but one and at the end token.
///
/// # Source
/// Radford et al. 2021 (arXiv 2103.00020), section 2.4; Hugging Face Transformers 4.56.2, `CLIPTextModelWithProjection`.
#[derive(Module, Debug)]
pub struct Clip {
    /// Of tokens, `[vocabulary, width]`.
    pub table: Param<Tensor<2>>,
    /// Of positions, `[positions, width]`.
    pub position: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<ClipBlock>,
    /// The last normalisation.
    pub norm: LayerNorm,
    /// From the width to that of the space that texts and images share, without bias.
    pub projection: Linear,
    end_token: usize,
}

/// Attention and perceptron, each on normalised tokens and added to them.
#[derive(Module, Debug)]
pub struct ClipBlock {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Queries, `width` to `width`, `[heads, width / heads]`.
    pub query: Linear,
    /// As the queries.
    pub key: Linear,
    /// As the queries.
    pub value: Linear,
    /// `width` to `width`
    pub output: Linear,
    /// Before the perceptron.
    pub norm2: LayerNorm,
    /// `width` to `hidden`
    pub fc1: Linear,
    /// `hidden` to `width`
    pub fc2: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

/// What [`Clip`] says of prompts.
#[derive(Clone, Debug)]
pub struct ClipOutput {
    /// Tokens after the last layer but one, not normalised, `[batch, tokens, width]`: what diffusion models attend to.
    pub penultimate: Tensor<3>,
    /// Tokens after the last layer, normalised, `[batch, tokens, width]`.
    pub last: Tensor<3>,
    /// The last tokens' row at the end token, `[batch, width]`.
    pub pooled: Tensor<2>,
    /// The same in the space that texts and images share, `[batch, projected]`: `text_embeds` in Transformers.
    pub projected: Tensor<2>,
}

impl Clip {
    pub(super) fn new(config: &ClipConfig, device: &Device) -> Self {
        let init = Initializer::new(0, device);
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let norm = || LayerNorm::new(width, config.layer_norm_eps, &init);
        let square = || init.normal_linear(width, width, 0.02);
        let block = || ClipBlock {
            norm1: norm(),
            query: square(),
            key: square(),
            value: square(),
            output: square(),
            norm2: norm(),
            fc1: init.normal_linear(width, hidden, 0.02),
            fc2: init.normal_linear(hidden, width, 0.02),
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        };
        Self {
            table: init.normal([config.vocab_size, width], 0.02),
            position: init.normal([config.max_position_embeddings, width], 0.02),
            blocks: (0..config.num_hidden_layers).map(|_| block()).collect(),
            norm: norm(),
            projection: init.normal_linear(width, config.projection_dim, 0.02).without_bias(),
            end_token: config.eos_token_id,
        }
        .no_grad()
    }

    /// This network with the weights of a file of Transformers'. Of a whole CLIP, the half that reads images is left out.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Ok(Self::own(weights)?.into_module(self, official_key)?)
    }

    /// Whether `weights` are those that [`load`](Self::load) takes. No value is read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(&self, weights: &Weights) -> Result<(), Error> {
        Ok(Self::own(weights.clone())?.check(self, official_key)?)
    }

    /// The tensors that this half of CLIP has. The other half and what compares the two may be beside it, and old files hold
    /// the numbers of the positions too.
    fn own(weights: Weights) -> Result<Weights, Error> {
        const OTHERS: [&str; 4] =
            ["vision_model.", "visual_projection.weight", "logit_scale", "text_model.embeddings.position_ids"];
        Ok(weights.network(&["text_model.embeddings.token_embedding.weight"])?.without(&OTHERS))
    }

    /// Tokens see those before them, and padding, which comes last, sees all: it is not masked.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`, each below the size of the vocabulary; no more tokens than positions
    pub fn forward(&self, ids: Tensor<2, Int>) -> ClipOutput {
        let [batch, tokens] = ids.dims();
        let ends: Vec<i64> =
            ids.to_data().iter::<i64>().collect::<Vec<_>>().chunks(tokens).map(|row| self.end(row)).collect();
        let embedded = self.table.val().select(0, ids.reshape([batch * tokens]));
        let [_, width] = embedded.dims();
        let position = self.position.val().narrow(0, 0, tokens).unsqueeze();
        let mask = causal_mask(tokens, &embedded.device());
        let mut x = embedded.reshape([batch, tokens, width]) + position;
        let mut penultimate = x.clone();
        for block in &self.blocks {
            penultimate = x.clone();
            x = block.forward(x, mask.clone());
        }
        let last = self.norm.forward(x);
        let rows = TensorData::new(ends.iter().zip(0..).map(|(end, row)| row * tokens as i64 + end).collect(), [batch]);
        let rows = Tensor::<1, Int>::from_data(rows, &last.device());
        let pooled = last.clone().reshape([batch * tokens, width]).select(0, rows);
        let projected = self.projection.forward(pooled.clone());
        ClipOutput { penultimate, last, pooled, projected }
    }

    /// Where a row of ids ends. Configurations from before the end token was a setting call it 2; its id is the highest.
    fn end(&self, ids: &[i64]) -> i64 {
        let token = match self.end_token {
            LEGACY_END_TOKEN => ids.iter().copied().max().unwrap_or(0),
            token => token as i64,
        };
        ids.iter().position(|&id| id == token).unwrap_or(0) as i64
    }
}

impl ClipBlock {
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - mask: `[1, 1, tokens, tokens]`
    fn forward(&self, x: Tensor<3>, mask: Tensor<4>) -> Tensor<3> {
        let width = x.dims()[2];
        let normalised = self.norm1.forward(x.clone());
        let query = self.query.forward(normalised.clone()) * ((width / self.heads) as f64).powf(-0.5);
        let qkv = [query, self.key.forward(normalised.clone()), self.value.forward(normalised)];
        let x = x + self.output.forward(attention(qkv, self.heads, mask));
        let hidden = self.fc1.forward(self.norm2.forward(x.clone())); // [batch, tokens, hidden]
        x + self.fc2.forward(match self.activation {
            Activation::Gelu => ops::gelu(hidden),
            // x σ(1.702 x), by the SiLU of 1.702 x.
            Activation::QuickGelu => ops::silu(hidden * 1.702) / 1.702,
        })
    }
}

/// Nothing for keys up to the query, minus infinity for those after it, `[1, 1, tokens, tokens]`.
fn causal_mask(tokens: usize, device: &Device) -> Tensor<4> {
    let allowed = |index| if index % tokens <= index / tokens { 0.0 } else { f32::NEG_INFINITY };
    let values: Vec<f32> = (0..tokens * tokens).map(allowed).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, tokens, tokens]), device)
}

/// The name that Transformers gives to the parameter at `path` of a [`Clip`].
///
/// ```
/// use mixflow_t2i::text::clip_key;
///
/// assert_eq!(clip_key("blocks.3.query.bias"), "text_model.encoder.layers.3.self_attn.q_proj.bias");
/// ```
pub fn official_key(path: &str) -> String {
    let name = match path.split('.').collect::<Vec<_>>()[..] {
        ["table"] => "embeddings.token_embedding.weight".into(),
        ["position"] => "embeddings.position_embedding.weight".into(),
        ["norm", part] => format!("final_layer_norm.{part}"),
        ["projection", "weight"] => return "text_projection.weight".into(),
        ["blocks", block, layer, part] => {
            let layer = match layer {
                "query" => "self_attn.q_proj",
                "key" => "self_attn.k_proj",
                "value" => "self_attn.v_proj",
                "output" => "self_attn.out_proj",
                "norm1" => "layer_norm1",
                "norm2" => "layer_norm2",
                "fc1" => "mlp.fc1",
                "fc2" => "mlp.fc2",
                other => other,
            };
            format!("encoder.layers.{block}.{layer}.{part}")
        }
        _ => path.into(),
    };
    format!("text_model.{name}")
}
