//! Names of the published checkpoints.

use crate::keys::renamed;

/// The name that `diffusers` gives the parameter at `path` of a [`KlAutoencoder`](super::KlAutoencoder).
///
/// Paths are these names already, but for lists that have one element.
///
/// ```
/// use mixflow_backbones::autoencoder::official_key;
///
/// assert_eq!(official_key("encoder.mid_block.attention.attn.proj.bias"), "encoder.mid_block.attentions.0.to_out.0.bias");
/// assert_eq!(official_key("decoder.up_blocks.1.upsample.bias"), "decoder.up_blocks.1.upsamplers.0.conv.bias");
/// assert_eq!(official_key("encoder.conv_in.weight"), "encoder.conv_in.weight");
/// ```
pub fn official_key(path: &str) -> String {
    const PARTS: [(&str, &str); 7] = [
        (".attention.", ".attentions.0."),
        (".attn.qkv.query.", ".to_q."),
        (".attn.qkv.key.", ".to_k."),
        (".attn.qkv.value.", ".to_v."),
        (".attn.proj.", ".to_out.0."),
        (".downsample.", ".downsamplers.0.conv."),
        (".upsample.", ".upsamplers.0.conv."),
    ];
    renamed(path, &PARTS)
}

/// The name that `diffusers` gives a tensor of a network with so many `levels` that another code base calls `name`:
/// `CompVis/latent-diffusion` and those after it, or `diffusers` before 2023. Other names stay as they are.
pub(super) fn diffusers_key(name: &str, levels: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [side, "mid", "attn_1", layer, end] => {
            format!("{side}.mid_block.attentions.0.{}.{end}", attention_layer(layer))
        }
        [side, "mid_block", "attentions", "0", layer, end] => {
            format!("{side}.mid_block.attentions.0.{}.{end}", attention_layer(layer))
        }
        [side, "mid", "block_1", layer, end] => format!("{side}.mid_block.resnets.0.{layer}.{end}"),
        [side, "mid", "block_2", layer, end] => format!("{side}.mid_block.resnets.1.{layer}.{end}"),
        ["encoder", "down", level, ref rest @ ..] => level_key("encoder.down_blocks", level, rest),
        // The decoder's levels are numbered from the finest there, in the order of use here.
        ["decoder", "up", level, ref rest @ ..] => {
            match level.parse().ok().and_then(|level: usize| levels.checked_sub(level.checked_add(1)?)) {
                Some(level) => level_key("decoder.up_blocks", &level.to_string(), rest),
                None => name.into(),
            }
        }
        [side, "norm_out", end] => format!("{side}.conv_norm_out.{end}"),
        _ => name.into(),
    }
}

fn attention_layer(name: &str) -> &str {
    match name {
        "norm" => "group_norm",
        "q" | "query" => "to_q",
        "k" | "key" => "to_k",
        "v" | "value" => "to_v",
        "proj_out" | "proj_attn" => "to_out.0",
        other => other,
    }
}

fn level_key(blocks: &str, level: &str, rest: &[&str]) -> String {
    match *rest {
        ["block", index, layer, end] => {
            let layer = if layer == "nin_shortcut" { "conv_shortcut" } else { layer };
            format!("{blocks}.{level}.resnets.{index}.{layer}.{end}")
        }
        ["downsample", ref rest @ ..] => format!("{blocks}.{level}.downsamplers.0.{}", rest.join(".")),
        ["upsample", ref rest @ ..] => format!("{blocks}.{level}.upsamplers.0.{}", rest.join(".")),
        _ => format!("{blocks}.{level}.{}", rest.join(".")),
    }
}

/// The name in `CompVis/latent-diffusion` of the tensor that `diffusers` calls `name`, of a network with so many `levels`.
/// Other names stay as they are. Undoes [`diffusers_key`].
pub(super) fn original_key(name: &str, levels: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [side, "mid_block", "attentions", "0", ref layer @ ..] => {
            let layer = match layer {
                ["group_norm", end] => format!("norm.{end}"),
                ["to_q", end] => format!("q.{end}"),
                ["to_k", end] => format!("k.{end}"),
                ["to_v", end] => format!("v.{end}"),
                ["to_out", "0", end] => format!("proj_out.{end}"),
                other => other.join("."),
            };
            format!("{side}.mid.attn_1.{layer}")
        }
        [side, "mid_block", "resnets", "0", layer, end] => format!("{side}.mid.block_1.{layer}.{end}"),
        [side, "mid_block", "resnets", "1", layer, end] => format!("{side}.mid.block_2.{layer}.{end}"),
        ["encoder", "down_blocks", level, ref rest @ ..] => original_level("encoder.down", level, rest),
        ["decoder", "up_blocks", level, ref rest @ ..] => {
            match level.parse().ok().and_then(|level: usize| levels.checked_sub(level.checked_add(1)?)) {
                Some(level) => original_level("decoder.up", &level.to_string(), rest),
                None => name.into(),
            }
        }
        [side, "conv_norm_out", end] => format!("{side}.norm_out.{end}"),
        _ => name.into(),
    }
}

fn original_level(blocks: &str, level: &str, rest: &[&str]) -> String {
    match *rest {
        ["resnets", index, layer, end] => {
            let layer = if layer == "conv_shortcut" { "nin_shortcut" } else { layer };
            format!("{blocks}.{level}.block.{index}.{layer}.{end}")
        }
        ["downsamplers", "0", ref rest @ ..] => format!("{blocks}.{level}.downsample.{}", rest.join(".")),
        ["upsamplers", "0", ref rest @ ..] => format!("{blocks}.{level}.upsample.{}", rest.join(".")),
        _ => format!("{blocks}.{level}.{}", rest.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_knows_stay() {
        for name in ["decoder.up.7.block.0.norm1.bias", "decoder.up.x.block", "loss.logvar", "", "quant_conv.bias"] {
            assert_eq!(diffusers_key(name, 4), name);
            assert_eq!(original_key(name, 4), name);
        }
    }
}
