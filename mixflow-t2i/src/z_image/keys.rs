//! Names of the published checkpoints.

use mixflow::backbones::Error;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;

use super::ZImage;
use crate::key_mapping::{self, QKV, RowLayout};

/// The name that `diffusers` gives the parameter at `path` of a [`ZImage`].
///
/// ```
/// use mixflow_t2i::z_image::official_key;
///
/// assert_eq!(official_key("x_embedder.bias"), "all_x_embedder.2-1.bias");
/// assert_eq!(official_key("final_layer.ada_ln.bias"), "all_final_layer.2-1.adaLN_modulation.1.bias");
/// assert_eq!(official_key("layers.3.ada_ln.bias"), "layers.3.adaLN_modulation.0.bias");
/// assert_eq!(official_key("layers.3.attention.proj.weight"), "layers.3.attention.to_out.0.weight");
/// assert_eq!(official_key("cap_norm.weight"), "cap_embedder.0.weight");
/// ```
pub fn official_key(path: &str) -> String {
    const PARTS: [(&str, &str); 13] = [
        ("x_embedder.", "all_x_embedder.2-1."),
        ("final_layer.ada_ln.", "all_final_layer.2-1.adaLN_modulation.1."),
        ("final_layer.linear.", "all_final_layer.2-1.linear."),
        ("cap_embedder.", "cap_embedder.1."),
        ("cap_norm.", "cap_embedder.0."),
        ("t_embedder.mlp.1.", "t_embedder.mlp.2."),
        (".ada_ln.", ".adaLN_modulation.0."),
        (".qkv.query.", ".to_q."),
        (".qkv.key.", ".to_k."),
        (".qkv.value.", ".to_v."),
        (".q_norm.", ".norm_q."),
        (".k_norm.", ".norm_k."),
        (".attention.proj.", ".attention.to_out.0."),
    ];
    renamed(path, &PARTS)
}

impl ZImage {
    /// This network with the weights of a published checkpoint: under the names of `diffusers` or of the official code.
    ///
    /// # Errors
    /// As [`Weights::network`], and as [`Weights::into_module`] with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Self::select_weights(weights)?.into_module(self, official_key)
    }

    /// The transformer of a file under the names of `diffusers`, alone or in one with a whole Z-Image, which calls it
    /// `model.diffusion_model`.
    ///
    /// # Errors
    /// If there are several: as [`Weights::network`].
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        let weights = weights.network(&["cap_embedder.0.weight"])?.without(&["norm_final.weight"]);
        Ok(key_mapping::convert_weights(weights, layers))
    }
}

/// An adapter under the names of `diffusers`, of a file with those of the official code, as `ComfyUI` has them, or kohya's.
///
/// # Errors
/// If it has one layer by two names.
pub fn adapter(adapter: Adapter) -> Result<Adapter, Error> {
    key_mapping::convert_adapter(adapter, layers)
}

/// The names that `diffusers` gives a layer of the official code, and what to do with its rows; none where it is the same or
/// unknown. Kohya's names have underscores in the place of dots.
///
/// # Source
/// `convert_z_image_transformer_checkpoint_to_diffusers` of `diffusers` 0.42.1.
fn layers(name: &str) -> Option<key_mapping::MappedKeys> {
    const ENDS: [(&str, &[&str], RowLayout); 4] = [
        (".attention.qkv", &[".attention.to_q", ".attention.to_k", ".attention.to_v"], QKV),
        (".attention.out", &[".attention.to_out.0"], RowLayout::Same),
        (".attention.q_norm", &[".attention.norm_q"], RowLayout::Same),
        (".attention.k_norm", &[".attention.norm_k"], RowLayout::Same),
    ];
    const AROUND: [(&str, &str); 3] = [
        ("x_embedder", "all_x_embedder.2-1"),
        ("final_layer.linear", "all_final_layer.2-1.linear"),
        ("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"),
    ];
    let underscored = |name: &str| name.replace('.', "_");
    if let Some((_, official)) = AROUND.iter().find(|(own, _)| name == *own || name == underscored(own)) {
        return Some((vec![(*official).into()], RowLayout::Same));
    }
    ENDS.iter().find_map(|(own, official, rows)| {
        let names = |block: &str, end: &dyn Fn(&str) -> String| {
            (official.iter().map(|name| format!("{block}{}", end(name))).collect(), *rows)
        };
        match name.strip_suffix(own) {
            Some(block) => Some(names(block, &|end| end.to_string())),
            None => Some(names(name.strip_suffix(&*underscored(own))?, &underscored)),
        }
    })
}
