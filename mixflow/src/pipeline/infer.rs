//! Which published network a file of weights belongs to.

use std::collections::{BTreeMap, BTreeSet};

use mixflow_backbones::NetworkConfig;
use mixflow_backbones::block::{NormKind, PerceptronKind};
use mixflow_backbones::dit_dh::{DitDhConfig, Stack};
use mixflow_backbones::lightning_dit::{LightningDitConfig, LightningParts};
use mixflow_backbones::repa::RepaConfig;
use mixflow_backbones::sit::SitConfig;

/// The network that has tensors of these names and shapes, or what is missing. The number of attention heads is that which
/// the tables of rotary positions or the norms of queries tell; where there are none, no shape tells, and it is that of the
/// published network of the same width.
pub(super) fn network(shapes: &BTreeMap<String, Vec<usize>>) -> Result<NetworkConfig, String> {
    let shapes = Shapes(shapes);
    shapes.check_blocks()?;
    let network = if shapes.has("s_embedder.proj.weight") {
        NetworkConfig::DitDh(shapes.dit_dh()?)
    } else if shapes.has("t_embedder.W") {
        NetworkConfig::LightningDit(shapes.lightning_dit()?)
    } else {
        let sit = shapes.sit()?;
        match shapes.has("projectors.0.0.weight") {
            true => NetworkConfig::Repa(shapes.repa(sit)?),
            false => NetworkConfig::Sit(sit),
        }
    };
    network.check().map(|()| network).map_err(|fault| fault.to_string())
}

/// Shapes of tensors by their official names.
struct Shapes<'a>(&'a BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    fn sit(&self) -> Result<SitConfig, String> {
        let [width, channels, patch] = self.embedder()?;
        let hidden = self.sides("blocks.0.mlp.fc1.weight", 2)?[0];
        let input_size = if self.has("pos_embed") { self.grid("pos_embed", 1)? * patch } else { 32 };
        let (depth, heads, classes) = (self.depth(), heads(width)?, self.classes()?);
        let learn_sigma = self.outputs()? == 2 * channels * patch * patch;
        Ok(SitConfig {
            input_size,
            patch,
            channels,
            width,
            depth,
            heads,
            hidden,
            classes,
            null_class: true,
            learn_sigma,
        })
    }

    /// The configuration of REPA's network, which is that of `sit` with projectors.
    fn repa(&self, sit: SitConfig) -> Result<RepaConfig, String> {
        let SitConfig { input_size, patch, channels, width, depth, heads, hidden, classes, .. } = sit;
        let mut projectors = vec![];
        while let Some(projector) = self.0.get(&format!("projectors.{}.4.weight", projectors.len())) {
            projectors.push(projector.first().copied().unwrap_or_default());
        }
        // The author's depths: 4 for B, 8 for L and XL.
        let base = if depth <= 12 { RepaConfig::base(patch) } else { RepaConfig::extra_large(patch) };
        Ok(RepaConfig {
            input_size,
            channels,
            width,
            depth,
            heads,
            hidden,
            classes,
            projectors,
            encoder_depth: base.encoder_depth.min(depth),
            projector_hidden: self.sides("projectors.0.0.weight", 2)?[0],
            qk_norm: self.has("blocks.0.attn.q_norm.weight"),
            ..base
        })
    }

    fn lightning_dit(&self) -> Result<LightningDitConfig, String> {
        let [width, channels, patch] = self.embedder()?;
        Ok(LightningDitConfig {
            input_size: self.grid("pos_embed", 1)? * patch,
            patch,
            channels,
            width,
            depth: self.depth(),
            heads: self.heads(width, 0, "feat_rope")?,
            hidden: self.hidden(0)?,
            classes: self.classes()?,
            learn_sigma: self.outputs()? == 2 * channels * patch * patch,
            parts: self.parts(),
            ..LightningDitConfig::extra_large()
        })
    }

    fn dit_dh(&self) -> Result<DitDhConfig, String> {
        let [width, channels, _] = self.embedder()?;
        let (tall, depth) = (self.sides("s_embedder.proj.weight", 4)?[0], self.depth());
        // The stacks differ in width or heads; where they do not, the head is that of all published networks.
        let norm = |block: usize| self.0.get(&format!("blocks.{block}.attn.q_norm.weight"));
        let like_first = |block: &usize| {
            self.sides(&block_name(*block, "attn.proj.weight"), 2).is_ok_and(|sides| sides[0] == tall)
                && norm(*block) == norm(0)
        };
        let deep = (0..depth).take_while(like_first).count();
        let deep = if deep == depth { depth.saturating_sub(2) } else { deep };
        let position_table = self.has("pos_embed");
        let input_size =
            if position_table { self.grid("pos_embed", 1)? } else { self.grid("enc_feat_rope.freqs_cos", 0)? };
        let stack = |width, first, depth, rope| {
            Ok::<_, String>(Stack { width, depth, heads: self.heads(width, first, rope)?, hidden: self.hidden(first)? })
        };
        Ok(DitDhConfig {
            input_size,
            channels,
            classes: self.classes()?,
            encoder: stack(tall, 0, deep, "enc_feat_rope")?,
            head: stack(width, deep, depth - deep, "dec_feat_rope")?,
            position_table,
            parts: self.parts(),
            ..DitDhConfig::extra_large()
        })
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn sides(&self, name: &str, rank: usize) -> Result<&[usize], String> {
        match self.0.get(name) {
            Some(sides) if sides.len() == rank && sides.iter().all(|&side| side > 0) => Ok(sides),
            Some(sides) => Err(format!("its `{name}` has the shape {sides:?}, which no known network has")),
            None => Err(format!("it has no `{name}`: it is none of SiT, REPA, LightningDiT and DiT^DH")),
        }
    }

    /// Width of a token, channels of the image, and side of a patch.
    fn embedder(&self) -> Result<[usize; 3], String> {
        let sides = self.sides("x_embedder.proj.weight", 4)?;
        Ok([sides[0], sides[1], sides[2]])
    }

    /// Side of the square whose places a table has in this dimension.
    fn grid(&self, table: &str, dimension: usize) -> Result<usize, String> {
        Ok(self.sides(table, if dimension == 0 { 2 } else { 3 })?[dimension].isqrt())
    }

    fn depth(&self) -> usize {
        self.blocks().len()
    }

    /// Indices of the blocks.
    fn blocks(&self) -> BTreeSet<usize> {
        let number = |name: &String| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
        self.0.keys().filter_map(number).collect()
    }

    /// Refuses a network that lacks a block between the first and the last.
    fn check_blocks(&self) -> Result<(), String> {
        let blocks = self.blocks();
        match (0..).zip(&blocks).find(|(expected, found)| expected != *found) {
            Some((gap, next)) => Err(format!("it has a block {next}, but no block {gap}: tensors are missing")),
            None => Ok(()),
        }
    }

    /// Number of classes: the rows of the label table but for one, the row for no class, which published networks have.
    fn classes(&self) -> Result<usize, String> {
        Ok(self.sides("y_embedder.embedding_table.weight", 2)?[0].saturating_sub(1).max(1))
    }

    fn outputs(&self) -> Result<usize, String> {
        Ok(self.sides("final_layer.linear.weight", 2)?[0])
    }

    /// Hidden width of a perceptron of `LightningDiT`.
    fn hidden(&self, block: usize) -> Result<usize, String> {
        let gelu = block_name(block, "mlp.fc1.weight");
        if self.has(&gelu) {
            return Ok(self.sides(&gelu, 2)?[0]);
        }
        Ok(self.sides(&block_name(block, "mlp.w3.weight"), 2)?[1])
    }

    fn heads(&self, width: usize, block: usize, rope: &str) -> Result<usize, String> {
        let table = self.0.get(&format!("{rope}.freqs_cos")).and_then(|table| table.get(1));
        let norm = self.0.get(&block_name(block, "attn.q_norm.weight")).and_then(|norm| norm.first());
        match norm.or(table) {
            Some(&head) if head > 0 && width.is_multiple_of(head) => Ok(width / head),
            _ => heads(width),
        }
    }

    fn parts(&self) -> LightningParts {
        LightningParts {
            norm: if self.has("blocks.0.norm1.weight") { NormKind::Rms } else { NormKind::Layer },
            perceptron: if self.has("blocks.0.mlp.fc1.weight") { PerceptronKind::Gelu } else { PerceptronKind::SwiGlu },
            qk_norm: self.has("blocks.0.attn.q_norm.weight"),
        }
    }
}

fn block_name(block: usize, name: &str) -> String {
    format!("blocks.{block}.{name}")
}

/// Attention heads of the published network of this width.
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
mod tests {
    use super::*;

    /// The tensors that a network of this shape has.
    fn own(network: &NetworkConfig) -> BTreeMap<String, Vec<usize>> {
        let network = network.init(0, &Default::default());
        network.weights().iter().map(|(name, data)| (name.to_string(), data.shape().to_vec())).collect()
    }

    /// Names and shapes of the weights in a recorded file of tensors, and what it says of the network.
    fn fixture(name: &str) -> (BTreeMap<String, Vec<usize>>, serde_json::Value) {
        let file = format!("{}/../tests/fixtures/rae_stage2/{name}", env!("CARGO_MANIFEST_DIR"));
        let weights = mixflow_backbones::weights::Weights::read(format!("{file}.safetensors")).unwrap();
        let shapes = weights
            .iter()
            .filter_map(|(name, data)| Some((name.strip_prefix("weights.")?.to_string(), data.shape().to_vec())));
        let manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(format!("{file}.json")).unwrap()).unwrap();
        (shapes.collect(), manifest["config"].clone())
    }

    #[test]
    fn recorded_networks_of_rae_are_recognised() {
        for name in ["lightningdit_default", "lightningdit_p2_learnsigma_qknorm"] {
            let (shapes, config) = fixture(name);
            let NetworkConfig::LightningDit(found) = network(&shapes).unwrap() else {
                panic!("{name} is no LightningDiT")
            };
            let numbers =
                [found.input_size, found.patch, found.channels, found.width, found.depth, found.heads, found.classes];
            let keys = ["input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "num_classes"];
            assert_eq!(numbers.map(|number| number as u64), keys.map(|key| config[key].as_u64().unwrap()), "{name}");
            let flags = [found.learn_sigma, found.parts.qk_norm, found.parts.norm == NormKind::Rms];
            let keys = ["learn_sigma", "use_qknorm", "use_rmsnorm"];
            assert_eq!(flags, keys.map(|key| config[key].as_bool().unwrap()), "{name}");
            assert!(found.rotary && found.trained_tables);
        }
        for name in ["ddt_default", "ddt_qknorm_gelu_layernorm_nopos"] {
            let (shapes, config) = fixture(name);
            let NetworkConfig::DitDh(found) = network(&shapes).unwrap() else { panic!("{name} is no DiT^DH") };
            for (index, stack) in [found.encoder, found.head].into_iter().enumerate() {
                let numbers = [stack.width, stack.depth, stack.heads].map(|number| number as u64);
                let keys = ["hidden_size", "depth", "num_heads"];
                assert_eq!(numbers, keys.map(|key| config[key][index].as_u64().unwrap()), "{name}");
            }
            let flags = [found.position_table, found.parts.qk_norm, found.parts.perceptron == PerceptronKind::SwiGlu];
            let keys = ["use_pos_embed", "use_qknorm", "use_swiglu"];
            assert_eq!(flags, keys.map(|key| config[key].as_bool().unwrap()), "{name}");
        }
    }

    #[test]
    fn other_depths_of_rae_and_files_without_tables_are_recognised() {
        let stack = |width, depth, heads| Stack { width, depth, heads, hidden: 4 * width * 2 / 3 };
        // Stacks that are alike are taken for one with the published head of two.
        for (encoder, head) in [(stack(384, 2, 6), stack(768, 3, 12)), (stack(384, 3, 6), stack(384, 2, 6))] {
            let small = DitDhConfig { input_size: 2, channels: 4, classes: 3, encoder, head, ..DitDhConfig::small() };
            recognised(NetworkConfig::DitDh(small));
        }
        let small = LightningDitConfig {
            input_size: 2,
            channels: 4,
            depth: 1,
            classes: 3,
            ..LightningDitConfig::extra_large()
        };
        recognised(NetworkConfig::LightningDit(small));
    }

    #[track_caller]
    fn recognised(expected: NetworkConfig) {
        let mut shapes = own(&expected);
        assert_eq!(network(&shapes).unwrap(), expected);
        // Tables of rotary positions are computed, and left out by some; heads are those of published widths then.
        shapes.retain(|name, _| !name.contains("rope"));
        assert_eq!(network(&shapes).unwrap(), expected);
    }

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
    fn a_gap_between_blocks_is_no_depth() {
        let mut shapes = recorded("sit_xl_2_256_learn_sigma");
        shapes.retain(|name, _| !name.starts_with("blocks.13."));
        assert!(network(&shapes).unwrap_err().contains("it has a block 14, but no block 13"));
        shapes.insert("blocks.99999999.attn.qkv.bias".into(), vec![3456]);
        shapes.retain(|name, _| !name.starts_with("blocks.0."));
        assert!(network(&shapes).unwrap_err().contains("it has a block 1, but no block 0"));
    }

    #[test]
    fn other_files_are_refused() {
        let mut narrow = recorded("sit_xl_2_256_learn_sigma");
        narrow.insert("x_embedder.proj.weight".into(), vec![100, 4, 2, 2]);
        let mut zero = narrow.clone();
        zero.insert("x_embedder.proj.weight".into(), vec![1152, 0, 2, 2]);
        for (shapes, complaint) in [
            (BTreeMap::new(), "none of SiT, REPA, LightningDiT and DiT^DH"),
            (narrow, "no published network is 100 wide"),
            (zero, "has the shape [1152, 0, 2, 2]"),
        ] {
            let reason = network(&shapes).unwrap_err();
            assert!(reason.contains(complaint), "{reason}");
        }
    }
}
