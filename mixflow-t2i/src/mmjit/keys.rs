//! Names of the published checkpoints.

use mixflow::backbones::Error;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::weights::Weights;

use super::MmJit;

/// The name that published files give the parameter at `path` of an [`MmJit`].
///
/// ```
/// use mixflow_t2i::mmjit::official_key;
///
/// assert_eq!(official_key("double_blocks.3.txt.attn.qkv.bias"), "model.net.double_blocks.3.txt_qkv.bias");
/// assert_eq!(official_key("double_blocks.3.img.mlp.w2.weight"), "model.net.double_blocks.3.img_mlp.w2.weight");
/// assert_eq!(official_key("double_blocks.3.img.attn.q_norm.weight"), "model.net.double_blocks.3.q_norm.weight");
/// assert_eq!(official_key("txt_preamble_blocks.1.attn.proj.bias"), "model.net.txt_preamble_blocks.1.attn_proj.bias");
/// assert_eq!(official_key("t_embedder.mlp.1.weight"), "model.net.t_embedder.mlp.2.weight");
/// ```
pub fn official_key(path: &str) -> String {
    const PARTS: [(&str, &str); 7] = [
        (".attn.proj.", ".attn_proj."),
        (".attn.", "."),
        (".img.q_norm.", ".q_norm."),
        (".img.k_norm.", ".k_norm."),
        (".img.", ".img_"),
        (".txt.", ".txt_"),
        ("t_embedder.mlp.1.", "t_embedder.mlp.2."),
    ];
    format!("model.net.{}", renamed(path, &PARTS))
}

impl MmJit {
    /// This network with the weights of a published checkpoint, or of one that the official trainer wrote.
    ///
    /// # Errors
    /// As [`Weights::network`], and as [`Weights::into_module`] with the published names.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Self::select_weights(weights)?.into_module(self, official_key)
    }

    /// The transformer of a file, whose names begin with `model.net` as published, with less, or with something else before
    /// it, or are those of the official trainer.
    ///
    /// # Errors
    /// If there are several: as [`Weights::network`].
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        const PUBLISHED: &str = "model.net.";
        let first = "img_embedder.proj1.weight";
        let weights =
            weights.network(&[&format!("{PUBLISHED}{first}"), first, "img_embed.proj1.weight"])?.rename(|name| {
                let name = if name.starts_with(PUBLISHED) { name } else { &format!("{PUBLISHED}{}", trained(name)) };
                Some(name.into())
            });
        Ok(weights)
    }
}

/// The published name of a tensor that `mini_t2i/model.py` calls `name`; others stay as they are.
fn trained(name: &str) -> String {
    let Some((part, rest)) = name.split_once('.') else { return name.into() };
    match part {
        "img_embed" | "txt_embed" | "t_embed" | "pooled_embed" => format!("{part}der.{rest}"),
        "txt_blocks" => format!("txt_preamble_blocks.{}", rest.replace(".proj.", ".attn_proj.")),
        "blocks" => format!("double_blocks.{}", rest.replace("_proj.", "_attn_proj.")),
        "final_norm" => format!("final_layer.norm_final.{rest}"),
        "final" => format!("final_layer.linear.{rest}"),
        _ => name.into(),
    }
}
