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

/// Parts of names in `diffusers`, and in `CompVis/latent-diffusion` and the code bases after it.
const ORIGINAL: [(&str, &str); 15] = [
    (".mid_block.attentions.0.", ".mid.attn_1."),
    (".mid_block.resnets.0.", ".mid.block_1."),
    (".mid_block.resnets.1.", ".mid.block_2."),
    (".down_blocks.", ".down."),
    (".up_blocks.", ".up."),
    (".resnets.", ".block."),
    (".conv_shortcut.", ".nin_shortcut."),
    (".downsamplers.0.", ".downsample."),
    (".upsamplers.0.", ".upsample."),
    (".group_norm.", ".norm."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".proj_out."),
    (".conv_norm_out.", ".norm_out."),
];

/// Parts of names in `diffusers` before 2023, and today.
const OLD: [(&str, &str); 4] =
    [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];

/// The name that `diffusers` gives a tensor of a network with so many `levels` that another code base calls `name`:
/// `CompVis/latent-diffusion` and those after it, or `diffusers` before 2023. Other names stay as they are.
pub(super) fn diffusers_key(name: &str, levels: usize) -> String {
    match turned(name, "decoder.up.", levels) {
        Some(turned) => renamed(&renamed(&turned, &ORIGINAL.map(|(diffusers, original)| (original, diffusers))), &OLD),
        None => name.into(),
    }
}

/// The name in `CompVis/latent-diffusion` of the tensor that `diffusers` calls `name`, of a network with so many `levels`.
/// Other names stay as they are. Undoes [`diffusers_key`].
pub(super) fn original_key(name: &str, levels: usize) -> String {
    turned(name, "decoder.up_blocks.", levels).map_or(name.into(), |turned| renamed(&turned, &ORIGINAL))
}

/// The name of a coder's tensor, with the number of a decoder's level counted from the other end: one code base counts from
/// the finest, the other in the order of use. None where there is no such level.
fn turned(name: &str, blocks: &str, levels: usize) -> Option<String> {
    if !name.starts_with("encoder.") && !name.starts_with("decoder.") {
        return None;
    }
    let Some((level, rest)) = name.strip_prefix(blocks).map(|rest| rest.split_once('.').unwrap_or((rest, ""))) else {
        return Some(name.into());
    };
    let level = levels.checked_sub(level.parse::<usize>().ok()?.checked_add(1)?)?;
    Some(format!("{blocks}{level}.{rest}"))
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
