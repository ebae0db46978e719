//! Names of the published checkpoints.

/// The official name of the parameter at `path` of a [`Sit`](super::Sit).
///
/// Paths are the official names already, but for the places where PyTorch counts activations as layers.
///
/// ```
/// use mixflow_backbones::sit::official_key;
///
/// assert_eq!(official_key("blocks.3.ada_ln.bias"), "blocks.3.adaLN_modulation.1.bias");
/// assert_eq!(official_key("t_embedder.mlp.1.weight"), "t_embedder.mlp.2.weight");
/// assert_eq!(official_key("blocks.3.mlp.fc1.weight"), "blocks.3.mlp.fc1.weight");
/// ```
pub fn official_key(path: &str) -> String {
    path.replace("ada_ln.", "adaLN_modulation.1.").replace("t_embedder.mlp.1.", "t_embedder.mlp.2.")
}
