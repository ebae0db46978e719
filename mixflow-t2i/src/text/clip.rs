//! The text half of CLIP.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::Linear;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::keys::clip_block_key;
use mixflow::backbones::vit::{LayerNorm, VitBlock, VitBlockConfig};
use mixflow::backbones::weights::Weights;

use super::attention_bias::padding_bias;
use super::clip_config::{ClipConfig, LEGACY_END_TOKEN};
use crate::Error;

/// CLIP's text encoder: a causal transformer, read at its last layer but one and at the end token.
///
/// # Source
/// Radford et al. 2021 (arXiv 2103.00020), section 2.4; Hugging Face Transformers 4.56.2, `CLIPTextModelWithProjection`.
#[derive(Module, Debug)]
pub struct ClipTextModel {
    /// Of tokens, `[vocabulary, width]`.
    pub table: Param<Tensor<2>>,
    /// Of positions, `[positions, width]`.
    pub position: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<VitBlock>,
    /// The last normalisation.
    pub norm: LayerNorm,
    /// From the width to that of the space that texts and images share, without bias; FLUX has none.
    pub projection: Option<Linear>,
    end_token: usize,
}

/// What [`ClipTextModel`] says of prompts.
#[derive(Clone, Debug)]
pub struct ClipTextOutput {
    /// Tokens after the last layer but one, not normalised, `[batch, tokens, width]`: what diffusion models attend to.
    pub penultimate: Tensor<3>,
    /// Tokens after the last layer, normalised, `[batch, tokens, width]`.
    pub last: Tensor<3>,
    /// The last tokens' row at the end token, `[batch, width]`.
    pub pooled: Tensor<2>,
    /// The same in the space that texts and images share, `[batch, projected]`: `text_embeds` in Transformers. As it is where
    /// there is no projection.
    pub projected: Tensor<2>,
}

impl ClipConfig {
    /// The network, frozen; its values are drawn only if none are loaded.
    pub fn init(&self, device: &Device) -> ClipTextModel {
        ClipTextModel::new(self, device)
    }
}

impl ClipTextModel {
    fn new(config: &ClipConfig, device: &Device) -> Self {
        let init = Initializer::new(0, device);
        let width = config.hidden_size;
        let block = VitBlockConfig {
            width,
            heads: config.num_attention_heads,
            hidden: config.intermediate_size,
            epsilon: config.layer_norm_eps,
            gelu: config.hidden_act,
            scaled: false,
            causal: true,
        };
        let linear = |inputs, outputs| init.normal_linear(inputs, outputs, 0.02);
        Self {
            table: init.normal([config.vocab_size, width], 0.02),
            position: init.normal([config.max_position_embeddings, width], 0.02),
            blocks: (0..config.num_hidden_layers).map(|_| block.init(&init, linear)).collect(),
            norm: LayerNorm::new(width, block.epsilon, &init),
            projection: Some(linear(width, config.projection_dim).without_bias()),
            end_token: config.eos_token_id,
        }
        .no_grad()
    }

    /// The same without the projection, which files of FLUX do not have.
    #[must_use]
    pub fn without_projection(self) -> Self {
        Self { projection: None, ..self }
    }

    /// This network with the weights of a file of Transformers', whose version 5 may leave out `text_model.` before the names. Of a
    /// whole CLIP, the half that reads images is left out.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Ok(self.select_weights(weights)?.into_module(self, official_key)?)
    }

    /// Whether `weights` are those that [`load`](Self::load) takes. No value is read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(&self, weights: &Weights) -> Result<(), Error> {
        Ok(self.select_weights(weights.clone())?.check(self, official_key)?)
    }

    /// The tensors that this half of CLIP has. The other half and what compares the two may be beside it, and old files hold
    /// the numbers of the positions too.
    fn select_weights(&self, weights: Weights) -> Result<Weights, Error> {
        const OTHERS: [&str; 5] = [
            "vision_model.",
            "visual_projection.weight",
            "logit_scale",
            "text_model.embeddings.position_ids",
            "text_projection.weight",
        ];
        let others = if self.projection.is_some() { &OTHERS[..4] } else { &OTHERS };
        Ok(weights.network_below("text_model.", "embeddings.token_embedding.weight")?.without(others))
    }

    /// Tokens see those before them, and padding, which comes last, sees all: it is not masked.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`, each below the size of the vocabulary; no more tokens than positions
    pub fn forward(&self, ids: Tensor<2, Int>) -> ClipTextOutput {
        self.forward_with(ids, None, |_, _| {})
    }

    /// [`forward`](Self::forward) with padding hidden and every state shown: number 0 is what the first layer is given,
    /// number `n` comes out of layer `n`, none is normalised. These are the `hidden_states` of Transformers.
    ///
    /// # Shapes
    /// - mask: `[batch, tokens]`, 1 for a token that is seen, 0 for padding; as `attention_mask` of Transformers
    /// - states: `[batch, tokens, width]`
    pub fn forward_with(
        &self,
        ids: Tensor<2, Int>,
        mask: Option<Tensor<2, Int>>,
        mut see: impl FnMut(usize, &Tensor<3>),
    ) -> ClipTextOutput {
        let [batch, tokens] = ids.dims();
        let ends: Vec<i64> =
            ids.to_data().iter::<i64>().collect::<Vec<_>>().chunks(tokens).map(|row| self.end(row)).collect();
        let embedded = self.table.val().select(0, ids.reshape([batch * tokens]));
        let [_, width] = embedded.dims();
        let position = self.position.val().narrow(0, 0, tokens).unsqueeze();
        let mut x = embedded.reshape([batch, tokens, width]) + position;
        let hidden = mask.map(padding_bias);
        let mut penultimate = x.clone();
        see(0, &x);
        for (block, number) in self.blocks.iter().zip(1..) {
            penultimate = x.clone();
            x = match &hidden {
                Some(hidden) => block.forward_biased(x, hidden.clone()),
                None => block.forward(x),
            };
            see(number, &x);
        }
        let last = self.norm.forward(x);
        let rows = TensorData::new(ends.iter().zip(0..).map(|(end, row)| row * tokens as i64 + end).collect(), [batch]);
        let rows = Tensor::<1, Int>::from_data(rows, &last.device());
        let pooled = last.clone().reshape([batch * tokens, width]).select(0, rows);
        let projected =
            self.projection.as_ref().map_or_else(|| pooled.clone(), |linear| linear.forward(pooled.clone()));
        ClipTextOutput { penultimate, last, pooled, projected }
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

/// The name that Transformers gives to the parameter at `path` of a [`ClipTextModel`].
///
/// ```
/// use mixflow_t2i::text::clip_key;
///
/// assert_eq!(clip_key("blocks.3.attn.qkv.query.bias"), "text_model.encoder.layers.3.self_attn.q_proj.bias");
/// ```
pub fn official_key(path: &str) -> String {
    if let Some(block) = path.strip_prefix("blocks.") {
        return format!("text_model.encoder.layers.{}", clip_block_key(block));
    }
    let name = match path.split('.').collect::<Vec<_>>()[..] {
        ["table"] => "embeddings.token_embedding.weight".into(),
        ["position"] => "embeddings.position_embedding.weight".into(),
        ["norm", part] => format!("final_layer_norm.{part}"),
        ["projection", "weight"] => return "text_projection.weight".into(),
        _ => path.into(),
    };
    format!("text_model.{name}")
}
