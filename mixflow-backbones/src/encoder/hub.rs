//! DINOv2 under the names of `torch.hub`.

use super::class_token::DINOV2_BLOCK;
use crate::keys::renamed;
use crate::weights::Weights;

/// Weights of `torch.hub.load("facebookresearch/dinov2", …)` under the names that Hugging Face gives them; others as
/// they are. Queries, keys and values, which the hub keeps in one layer, are taken apart.
///
/// # Source
/// `facebookresearch/dinov2`, `dinov2/models/vision_transformer.py`, `dinov2/layers`; Hugging Face Transformers 4.56.2,
/// `convert_dinov2_with_registers_to_hf.py`.
pub(super) fn as_hugging_face(weights: Weights) -> Weights {
    if weights.get("patch_embed.proj.weight").is_none() {
        return weights;
    }
    weights.flat_map(|name, tensor| match name.split_once(".attn.qkv.") {
        Some((block, kind)) => match tensor.split_rows(3) {
            Some(parts) => {
                let names = ["query", "key", "value"];
                let named = names.map(|part| hugging_face_key(&format!("{block}.attn.{part}.{kind}")));
                named.into_iter().zip(parts).collect()
            }
            None => vec![(name, tensor)],
        },
        None => vec![(hugging_face_key(&name), tensor)],
    })
}

fn hugging_face_key(name: &str) -> String {
    match name.split_once('.') {
        Some(("blocks", rest)) => format!("encoder.layer.{}", renamed(rest, &DINOV2_BLOCK)),
        Some(("norm", rest)) => format!("layernorm.{rest}"),
        Some(("patch_embed", rest)) => format!("embeddings.patch_embeddings.{}", rest.replace("proj.", "projection.")),
        None if name == "pos_embed" => "embeddings.position_embeddings".into(),
        None => format!("embeddings.{name}"),
        Some(_) => name.into(),
    }
}
