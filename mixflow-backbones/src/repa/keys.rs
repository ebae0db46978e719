//! Names of the published checkpoints.

use crate::sit;

/// The official name of the parameter at `path` of a [`Repa`](super::Repa).
///
/// ```
/// use mixflow_backbones::repa::official_key;
///
/// assert_eq!(official_key("sit.blocks.3.ada_ln.bias"), "blocks.3.adaLN_modulation.1.bias");
/// assert_eq!(official_key("projectors.1.fc3.weight"), "projectors.1.4.weight");
/// ```
pub fn official_key(path: &str) -> String {
    match path.strip_prefix("sit.") {
        Some(path) => sit::official_key(path),
        // PyTorch counts the activations between the layers.
        None => path.replace("fc1.", "0.").replace("fc2.", "2.").replace("fc3.", "4."),
    }
}
