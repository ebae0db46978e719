//! Official names of parameters, by lists of what differs from their paths.

/// The official name of the table, in all networks for class labels.
pub const LABEL_TABLE: &str = "y_embedder.embedding_table.weight";

/// A path with these parts replaced, each everywhere, in the order of the list.
///
/// ```
/// use mixflow_backbones::keys::renamed;
///
/// let parts = [("attn.proj.", "attn.to_out.0."), ("attn.", "attention.")];
/// assert_eq!(renamed("blocks.3.attn.proj.bias", &parts), "blocks.3.attention.to_out.0.bias");
/// ```
pub fn renamed(path: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(path.into(), |path: String, (ours, official)| path.replace(ours, official))
}

/// The official name of the parameter at `path` of a network for class labels.
///
/// Paths are the official names already, but for the places where PyTorch counts activations as layers, and for the few
/// that say nothing.
///
/// ```
/// use mixflow_backbones::keys::official_key;
///
/// assert_eq!(official_key("blocks.3.ada_ln.bias"), "blocks.3.adaLN_modulation.1.bias");
/// assert_eq!(official_key("blocks.3.mlp.fc1.weight"), "blocks.3.mlp.fc1.weight");
/// assert_eq!(official_key("blocks.3.mlp.SwiGlu.w12.bias"), "blocks.3.mlp.w12.bias");
/// assert_eq!(official_key("t_embedder.mlp.1.weight"), "t_embedder.mlp.2.weight");
/// assert_eq!(official_key("t_embedder.frequencies"), "t_embedder.W");
/// assert_eq!(official_key("sit.blocks.3.ada_ln.bias"), "blocks.3.adaLN_modulation.1.bias");
/// assert_eq!(official_key("projectors.1.fc3.weight"), "projectors.1.4.weight");
/// ```
pub fn official_key(path: &str) -> String {
    const PARTS: [(&str, &str); 5] = [
        ("ada_ln.", "adaLN_modulation.1."),
        ("t_embedder.mlp.1.", "t_embedder.mlp.2."),
        ("t_embedder.frequencies", "t_embedder.W"),
        ("mlp.SwiGlu.", "mlp."),
        ("mlp.Gelu.", "mlp."),
    ];
    const PROJECTOR: [(&str, &str); 3] = [("fc1.", "0."), ("fc2.", "2."), ("fc3.", "4.")];
    match path.starts_with("projectors.") {
        true => renamed(path, &PROJECTOR),
        false => renamed(path.strip_prefix("sit.").unwrap_or(path), &PARTS),
    }
}

/// The name that the classes of CLIP and SigLIP in Transformers give to a parameter of a
/// [`VitBlock`](crate::vit::VitBlock).
pub fn clip_block_key(path: &str) -> String {
    const PARTS: [(&str, &str); 6] = [
        ("attn.qkv.query.", "self_attn.q_proj."),
        ("attn.qkv.key.", "self_attn.k_proj."),
        ("attn.qkv.value.", "self_attn.v_proj."),
        ("attn.proj.", "self_attn.out_proj."),
        ("norm1.", "layer_norm1."),
        ("norm2.", "layer_norm2."),
    ];
    renamed(path, &PARTS)
}

/// The name that ViT-MAE's class of Transformers gives to a parameter of a [`VitBlock`](crate::vit::VitBlock), RAE's
/// decoder like the encoder.
pub(crate) fn mae_block_key(path: &str) -> String {
    const PARTS: [(&str, &str); 6] = [
        ("attn.proj.", "attention.output.dense."),
        ("attn.qkv.", "attention.attention."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
        ("norm1.", "layernorm_before."),
        ("norm2.", "layernorm_after."),
    ];
    renamed(path, &PARTS)
}
