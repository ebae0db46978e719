//! Names of the published checkpoints.

use mixflow::backbones::Error;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;

use super::Flux;
use crate::key_mapping::{self, QKV, RowLayout};
use crate::mmdit::PARTS;

/// The name that `diffusers` gives the parameter at `path` of a [`Flux`].
///
/// ```
/// use mixflow_t2i::flux::official_key;
///
/// assert_eq!(official_key("guidance_embedder.linear_1.bias"), "time_text_embed.guidance_embedder.linear_1.bias");
/// assert_eq!(official_key("transformer_blocks.3.attn.text.key.bias"), "transformer_blocks.3.attn.add_k_proj.bias");
/// assert_eq!(official_key("single_transformer_blocks.3.attn.proj.bias"), "single_transformer_blocks.3.proj_out.bias");
/// ```
pub fn official_key(path: &str) -> String {
    match path.split_once('.') {
        Some(("timestep_embedder" | "guidance_embedder" | "text_embedder", _)) => format!("time_text_embed.{path}"),
        Some(("single_transformer_blocks", _)) => renamed(&path.replace(".attn.proj.", ".proj_out."), &PARTS),
        _ => renamed(path, &PARTS),
    }
}

impl Flux {
    /// This network with the weights of a published checkpoint: under the names of `diffusers` or of Black Forest Labs.
    ///
    /// # Errors
    /// As [`Weights::network`], and as [`Weights::into_module`] with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Self::select_weights(weights)?.into_module(self, official_key)
    }

    /// The transformer of a file under the names of `diffusers`, alone or in one with a whole FLUX, which calls it
    /// `model.diffusion_model`.
    ///
    /// # Errors
    /// If there are several: as [`Weights::network`].
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        let first = ["double_blocks.0.img_attn.qkv.weight", "single_transformer_blocks.0.proj_mlp.weight"];
        let weight = |name: &str| name.strip_suffix(".scale").map_or(name.into(), |layer| format!("{layer}.weight"));
        Ok(key_mapping::convert_weights(weights.network(&first)?.rename(|name| Some(weight(name))), layers))
    }
}

/// An adapter under the names of `diffusers`, of a file with those of Black Forest Labs: kohya's, and `ComfyUI`'s.
///
/// # Errors
/// If it has one layer by two names.
pub fn adapter(adapter: Adapter) -> Result<Adapter, Error> {
    key_mapping::convert_adapter(adapter, layers)
}

/// The names that `diffusers` gives the layer `name` of Black Forest Labs' code, and what to do with its rows; none where the
/// name is unknown. It may have underscores in the place of dots, as kohya writes it.
///
/// # Source
/// `model.py` of `black-forest-labs/flux` at 802fb47, and `convert_flux_to_diffusers.py` of `diffusers`.
fn layers(name: &str) -> Option<key_mapping::MappedKeys> {
    let name = name.replace('.', "_");
    let of_block = |blocks: &str| name.strip_prefix(blocks)?.split_once('_');
    let (ends, rows, block) = match (of_block("double_blocks_"), of_block("single_blocks_")) {
        (Some((number, layer)), _) => {
            let (ends, rows) = of_double(layer)?;
            (ends, rows, format!("transformer_blocks.{number}."))
        }
        (_, Some((number, layer))) => {
            let (ends, rows) = of_single(layer)?;
            (ends, rows, format!("single_transformer_blocks.{number}."))
        }
        _ => {
            let (ends, rows) = around(&name)?;
            (ends, rows, String::new())
        }
    };
    Some((ends.iter().map(|end| format!("{block}{end}")).collect(), rows))
}

type KeyRule = (&'static [&'static str], RowLayout);

fn around(name: &str) -> Option<KeyRule> {
    Some(match name {
        "img_in" => (&["x_embedder"], RowLayout::Same),
        "txt_in" => (&["context_embedder"], RowLayout::Same),
        "time_in_in_layer" => (&["time_text_embed.timestep_embedder.linear_1"], RowLayout::Same),
        "time_in_out_layer" => (&["time_text_embed.timestep_embedder.linear_2"], RowLayout::Same),
        "guidance_in_in_layer" => (&["time_text_embed.guidance_embedder.linear_1"], RowLayout::Same),
        "guidance_in_out_layer" => (&["time_text_embed.guidance_embedder.linear_2"], RowLayout::Same),
        "vector_in_in_layer" => (&["time_text_embed.text_embedder.linear_1"], RowLayout::Same),
        "vector_in_out_layer" => (&["time_text_embed.text_embedder.linear_2"], RowLayout::Same),
        "final_layer_adaLN_modulation_1" => (&["norm_out.linear"], RowLayout::Swapped),
        "final_layer_linear" => (&["proj_out"], RowLayout::Same),
        _ => return None,
    })
}

fn of_double(name: &str) -> Option<KeyRule> {
    Some(match name {
        "img_attn_qkv" => (&["attn.to_q", "attn.to_k", "attn.to_v"], QKV),
        "txt_attn_qkv" => (&["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], QKV),
        "img_mod_lin" => (&["norm1.linear"], RowLayout::Same),
        "txt_mod_lin" => (&["norm1_context.linear"], RowLayout::Same),
        "img_attn_norm_query_norm" => (&["attn.norm_q"], RowLayout::Same),
        "img_attn_norm_key_norm" => (&["attn.norm_k"], RowLayout::Same),
        "txt_attn_norm_query_norm" => (&["attn.norm_added_q"], RowLayout::Same),
        "txt_attn_norm_key_norm" => (&["attn.norm_added_k"], RowLayout::Same),
        "img_attn_proj" => (&["attn.to_out.0"], RowLayout::Same),
        "txt_attn_proj" => (&["attn.to_add_out"], RowLayout::Same),
        "img_mlp_0" => (&["ff.net.0.proj"], RowLayout::Same),
        "img_mlp_2" => (&["ff.net.2"], RowLayout::Same),
        "txt_mlp_0" => (&["ff_context.net.0.proj"], RowLayout::Same),
        "txt_mlp_2" => (&["ff_context.net.2"], RowLayout::Same),
        _ => return None,
    })
}

fn of_single(name: &str) -> Option<KeyRule> {
    Some(match name {
        "modulation_lin" => (&["norm.linear"], RowLayout::Same),
        // The perceptron is four times as wide as a token.
        "linear1" => (&["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"], RowLayout::Split(&[1, 1, 1, 4])),
        "linear2" => (&["proj_out"], RowLayout::Same),
        "norm_query_norm" => (&["attn.norm_q"], RowLayout::Same),
        "norm_key_norm" => (&["attn.norm_k"], RowLayout::Same),
        _ => return None,
    })
}
