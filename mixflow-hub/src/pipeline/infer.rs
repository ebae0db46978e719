//! Which published network a file of weights belongs to.

use mixflow::backbones::NetworkConfig;
use std::collections::BTreeMap;

use mixflow::backbones::dit_dh::{DitDhConfig, Stack};
use mixflow::backbones::repa::RepaConfig;
use mixflow::backbones::sit::SitConfig;

/// The network that has tensors of these names and shapes, or what is missing. The number of attention heads, which no
/// shape tells, is that of the published network of the same width.
pub(super) fn network(shapes: &BTreeMap<String, Vec<usize>>) -> Result<NetworkConfig, String> {
    let shape = |name: &str| shapes.get(name).cloned();
    let sides = |name: &str, rank: usize| match shape(name) {
        Some(sides) if sides.len() == rank && sides.iter().all(|&side| side > 0) => Ok(sides),
        Some(sides) => Err(format!("its `{name}` has the shape {sides:?}, which no known network has")),
        None => Err(format!("it has no `{name}`: it is none of SiT, REPA and DiT^DH")),
    };
    let embedder = sides("x_embedder.proj.weight", 4)?;
    let [width, channels, patch] = [embedder[0], embedder[1], embedder[2]];
    let labels = sides("y_embedder.embedding_table.weight", 2)?[0];
    let blocks =
        shapes.keys().filter_map(|name| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok());
    let depth = blocks.max().map_or(0usize, |last| last.min(10_000) + 1);
    // Published networks know a label for no class.
    let classes = labels.saturating_sub(1).max(1);
    if shape("s_embedder.proj.weight").is_some() {
        let tall = sides("s_embedder.proj.weight", 4)?[0];
        let input_size = sides("pos_embed", 3)?[1].isqrt();
        let hidden = |block: usize| Ok::<_, String>(sides(&format!("blocks.{block}.mlp.w3.weight"), 2)?[1]);
        // The head is that of all published networks.
        let (deep, shallow) = (depth.saturating_sub(2), 2);
        let encoder = Stack { width: tall, depth: deep, heads: heads(tall)?, hidden: hidden(0)? };
        let head = Stack { width, depth: shallow, heads: heads(width)?, hidden: hidden(deep)? };
        let network = DitDhConfig { input_size, channels, classes, encoder, head, ..DitDhConfig::extra_large() };
        return checked(NetworkConfig::DitDh(network));
    }
    let input_size = match shape("pos_embed") {
        Some(_) => sides("pos_embed", 3)?[1].isqrt() * patch,
        None => 32,
    };
    let hidden = sides("blocks.0.mlp.fc1.weight", 2)?[0];
    let heads = heads(width)?;
    let last = sides("final_layer.linear.weight", 2)?[0];
    let learn_sigma = last == 2 * channels * patch * patch;
    let sit =
        SitConfig { input_size, patch, channels, width, depth, heads, hidden, classes, null_class: true, learn_sigma };
    if shape("projectors.0.0.weight").is_none() {
        return checked(NetworkConfig::Sit(sit));
    }
    let mut projectors = vec![];
    while let Some(projector) = shape(&format!("projectors.{}.4.weight", projectors.len())) {
        projectors.push(projector.first().copied().unwrap_or_default());
    }
    // The author's depths: 4 for B, 8 for L and XL.
    let base = if depth <= 12 { RepaConfig::base(patch) } else { RepaConfig::extra_large(patch) };
    checked(NetworkConfig::Repa(RepaConfig {
        input_size,
        channels,
        width,
        depth,
        heads,
        hidden,
        classes,
        projectors,
        encoder_depth: base.encoder_depth.min(depth),
        projector_hidden: sides("projectors.0.0.weight", 2)?[0],
        qk_norm: shape("blocks.0.attn.q_norm.weight").is_some(),
        ..base
    }))
}

fn checked(network: NetworkConfig) -> Result<NetworkConfig, String> {
    network.check().map(|()| network)
}

/// Heads of the published network whose tokens are so wide.
fn heads(width: usize) -> Result<usize, String> {
    match width {
        384 => Ok(6),
        768 => Ok(12),
        1024 | 1152 | 2048 => Ok(16),
        _ => Err(format!(
            "no published network is {width} wide: put the recipe that it was trained with beside it as config.json, and \
             call the weights model.safetensors"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names and shapes of a published file, as recorded from the official class.
    fn recorded(name: &str) -> BTreeMap<String, Vec<usize>> {
        let file = format!("{}/../tests/fixtures/keys/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).unwrap();
        let entry = |line: &str| {
            let mut parts = line.split('\t');
            let name = parts.next().unwrap().to_string();
            (name, serde_json::from_str(parts.next().unwrap()).unwrap())
        };
        text.lines().filter(|line| !line.is_empty()).map(entry).collect()
    }

    #[test]
    fn published_files_are_recognised() {
        for (name, expected) in [
            ("sit_xl_2_256_learn_sigma", NetworkConfig::Sit(SitConfig::extra_large(2))),
            ("repa_sit_xl_2_dinov2b", NetworkConfig::Repa(RepaConfig::extra_large(2))),
            ("ditdh_xl_256", NetworkConfig::DitDh(DitDhConfig::extra_large())),
        ] {
            assert_eq!(network(&recorded(name)).unwrap(), expected);
        }
        let mut sampling = recorded("sit_xl_2_256_learn_sigma");
        sampling.insert("final_layer.linear.weight".into(), vec![16, 1152]);
        let expected = SitConfig { learn_sigma: false, ..SitConfig::extra_large(2) };
        assert_eq!(network(&sampling).unwrap(), NetworkConfig::Sit(expected));
    }

    #[test]
    fn other_files_are_refused() {
        let mut narrow = recorded("sit_xl_2_256_learn_sigma");
        narrow.insert("x_embedder.proj.weight".into(), vec![100, 4, 2, 2]);
        let mut zero = narrow.clone();
        zero.insert("x_embedder.proj.weight".into(), vec![1152, 0, 2, 2]);
        for (shapes, complaint) in [
            (BTreeMap::new(), "none of SiT, REPA and DiT^DH"),
            (narrow, "no published network is 100 wide"),
            (zero, "has the shape [1152, 0, 2, 2]"),
        ] {
            let reason = network(&shapes).unwrap_err();
            assert!(reason.contains(complaint), "{reason}");
        }
    }
}
