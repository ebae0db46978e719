//! Initial values, as `SiT.initialize_weights` of the official `models.py` draws them.

use burn::tensor::Device;

use super::{Sit, SitConfig};
use crate::init::laws::{Law, assert_laws};

fn network() -> Sit {
    let config = SitConfig { width: 128, depth: 3, heads: 4, hidden: 512, classes: 511, ..SitConfig::small(2) };
    config.init(5, &Device::default())
}

#[test]
fn every_parameter_has_the_published_moments() {
    let drawn = assert_laws(&network(), |name, shape| match name {
        "pos_embed" => None,
        _ if name.ends_with("bias") || name.contains("adaLN") || name.starts_with("final_layer") => Some(Law::Zero),
        "t_embedder.mlp.0.weight" | "t_embedder.mlp.2.weight" | "y_embedder.embedding_table.weight" => {
            Some(Law::Normal(0.02))
        }
        _ => Some(Law::xavier(shape)),
    });
    // Patches, two of time, labels, and four matrices a block.
    assert_eq!(drawn, 4 + 4 * 3);
}
