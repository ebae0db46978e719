//! Names of the published checkpoints.

/// The official name of the parameter at `path` of a [`LightningDit`](super::LightningDit) or a
/// [`DitDh`](crate::dit_dh::DitDh).
///
/// ```
/// use mixflow_backbones::lightning_dit::official_key;
///
/// assert_eq!(official_key("blocks.3.mlp.SwiGlu.w12.bias"), "blocks.3.mlp.w12.bias");
/// assert_eq!(official_key("blocks.3.ada_ln.bias"), "blocks.3.adaLN_modulation.1.bias");
/// assert_eq!(official_key("t_embedder.frequencies"), "t_embedder.W");
/// assert_eq!(official_key("t_embedder.mlp.1.weight"), "t_embedder.mlp.2.weight");
/// ```
pub fn official_key(path: &str) -> String {
    path.replace("ada_ln.", "adaLN_modulation.1.")
        .replace("t_embedder.mlp.1.", "t_embedder.mlp.2.")
        .replace("t_embedder.frequencies", "t_embedder.W")
        .replace("mlp.SwiGlu.", "mlp.")
        .replace("mlp.Gelu.", "mlp.")
}
