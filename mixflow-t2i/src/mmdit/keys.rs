//! Names of the published checkpoints.

use mixflow::backbones::Error;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::lora::Adapter;

use crate::key_mapping::{QKV, RowLayout};

/// The name that `diffusers` gives the parameter at `path` of an [`MmDit`](super::MmDit).
///
/// Paths are these names already, but where `diffusers` has more levels.
///
/// ```
/// use mixflow_t2i::mmdit::official_key;
///
/// assert_eq!(official_key("pos_embed"), "pos_embed.pos_embed");
/// assert_eq!(official_key("x_embedder.proj.bias"), "pos_embed.proj.bias");
/// assert_eq!(official_key("text_embedder.linear_1.bias"), "time_text_embed.text_embedder.linear_1.bias");
/// assert_eq!(official_key("transformer_blocks.3.ff.fc1.weight"), "transformer_blocks.3.ff.net.0.proj.weight");
/// assert_eq!(official_key("transformer_blocks.3.attn2.proj.bias"), "transformer_blocks.3.attn2.to_out.0.bias");
/// assert_eq!(official_key("norm_out.linear.weight"), "norm_out.linear.weight");
/// ```
pub fn official_key(path: &str) -> String {
    if path == "pos_embed" {
        return "pos_embed.pos_embed".into();
    }
    if path.starts_with("timestep_embedder.") || path.starts_with("text_embedder.") {
        return format!("time_text_embed.{path}");
    }
    renamed(&path.replace("x_embedder.", "pos_embed."), &PARTS)
}

/// What [`official_key`] replaces in blocks.
pub(crate) const PARTS: [(&str, &str); 16] = [
    (".attn.image.", ".attn."),
    (".qkv.query.", ".to_q."),
    (".qkv.key.", ".to_k."),
    (".qkv.value.", ".to_v."),
    (".q_norm.", ".norm_q."),
    (".k_norm.", ".norm_k."),
    (".attn.proj.", ".attn.to_out.0."),
    (".attn2.proj.", ".attn2.to_out.0."),
    (".text.query.", ".add_q_proj."),
    (".text.key.", ".add_k_proj."),
    (".text.value.", ".add_v_proj."),
    (".text_q_norm.", ".norm_added_q."),
    (".text_k_norm.", ".norm_added_k."),
    (".text_proj.", ".to_add_out."),
    (".fc1.", ".net.0.proj."),
    (".fc2.", ".net.2."),
];

/// An adapter under the names of `diffusers`, of a file with those of the Stability code, as `ComfyUI` has them, or kohya's, for a network
/// with `depth` blocks.
///
/// # Errors
/// If it has one layer by two names.
pub fn adapter(adapter: Adapter, depth: usize) -> Result<Adapter, Error> {
    adapter.flat_map(|layer, b| {
        let name = dotted(&layer).unwrap_or_else(|| layer.clone());
        match diffusers_names(&format!("{name}.weight"), depth) {
            Some((names, rows)) => {
                let layers = names.iter().map(|name| name.trim_end_matches(".weight").into());
                rows.named(layers.collect(), b)
            }
            None => vec![(layer, b)],
        }
    })
}

/// The name in the Stability code of a layer by kohya's, which has underscores in the place of dots.
fn dotted(layer: &str) -> Option<String> {
    const IN_BLOCKS: [&str; 7] =
        ["attn.qkv", "attn.proj", "attn2.qkv", "attn2.proj", "adaLN_modulation.1", "mlp.fc1", "mlp.fc2"];
    const AROUND: [&str; 6] = [
        "t_embedder.mlp.0",
        "t_embedder.mlp.2",
        "y_embedder.mlp.0",
        "y_embedder.mlp.2",
        "final_layer.adaLN_modulation.1",
        "final_layer.linear",
    ];
    let find = |names: &[&str], underscored: &str| {
        names.iter().find(|name| name.replace('.', "_") == underscored).map(ToString::to_string)
    };
    let Some(rest) = layer.strip_prefix("joint_blocks_") else { return find(&AROUND, layer) };
    let (block, rest) = rest.split_once('_')?;
    ["x_block", "context_block"].iter().find_map(|stream| {
        let part = find(&IN_BLOCKS, rest.strip_prefix(stream)?.strip_prefix('_')?)?;
        Some(format!("joint_blocks.{block}.{stream}.{part}"))
    })
}

/// The names that `diffusers` gives the tensor `name` of the Stability code, and what to do with its rows; none where the
/// name is unknown. Of a network with `depth` blocks.
///
/// # Source
/// `mmditx.py` of `Stability-AI/sd3.5` at fbf8f48, and `convert_sd3_to_diffusers.py` of `diffusers`.
pub(super) fn diffusers_names(name: &str, depth: usize) -> Option<(Vec<String>, RowLayout)> {
    let one = |name: String, rows| Some((vec![name], rows));
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["pos_embed"] => one("pos_embed.pos_embed".into(), RowLayout::Same),
        ["x_embedder", "proj", end] => one(format!("pos_embed.proj.{end}"), RowLayout::Same),
        ["context_embedder", end] => one(format!("context_embedder.{end}"), RowLayout::Same),
        [embedder @ ("t_embedder" | "y_embedder"), "mlp", layer @ ("0" | "2"), end] => {
            let embedder = if embedder == "t_embedder" { "timestep_embedder" } else { "text_embedder" };
            let layer = if layer == "0" { 1 } else { 2 };
            one(format!("time_text_embed.{embedder}.linear_{layer}.{end}"), RowLayout::Same)
        }
        ["final_layer", "adaLN_modulation", "1", end] => one(format!("norm_out.linear.{end}"), RowLayout::Swapped),
        ["final_layer", "linear", end] => one(format!("proj_out.{end}"), RowLayout::Same),
        ["joint_blocks", block, stream @ ("x_block" | "context_block"), ref rest @ ..] => {
            let context = stream == "context_block";
            let last = block.parse().is_ok_and(|block: usize| block + 1 == depth);
            let (ends, rows) = block_names(rest, context, last)?;
            Some((ends.into_iter().map(|end| format!("transformer_blocks.{block}.{end}")).collect(), rows))
        }
        _ => None,
    }
}

/// The same below a block.
fn block_names(rest: &[&str], context: bool, last: bool) -> Option<(Vec<String>, RowLayout)> {
    let choose = |image: &'static str, text: &'static str| if context { text } else { image };
    let (name, rows) = match *rest {
        [attn @ ("attn" | "attn2"), "qkv", end] => {
            let names = if context { ["add_q_proj", "add_k_proj", "add_v_proj"] } else { ["to_q", "to_k", "to_v"] };
            return Some((names.map(|name| format!("{attn}.{name}.{end}")).into(), QKV));
        }
        [attn @ ("attn" | "attn2"), "proj", end] => {
            (format!("{attn}.{}.{end}", choose("to_out.0", "to_add_out")), RowLayout::Same)
        }
        [attn @ ("attn" | "attn2"), "ln_q", end] => {
            (format!("{attn}.{}.{end}", choose("norm_q", "norm_added_q")), RowLayout::Same)
        }
        [attn @ ("attn" | "attn2"), "ln_k", end] => {
            (format!("{attn}.{}.{end}", choose("norm_k", "norm_added_k")), RowLayout::Same)
        }
        ["adaLN_modulation", "1", end] => {
            // Two vectors instead of six, in another order.
            let rows = if context && last { RowLayout::Swapped } else { RowLayout::Same };
            (format!("{}.linear.{end}", choose("norm1", "norm1_context")), rows)
        }
        ["mlp", "fc1", end] => (format!("{}.net.0.proj.{end}", choose("ff", "ff_context")), RowLayout::Same),
        ["mlp", "fc2", end] => (format!("{}.net.2.{end}", choose("ff", "ff_context")), RowLayout::Same),
        _ => return None,
    };
    Some((vec![name], rows))
}
