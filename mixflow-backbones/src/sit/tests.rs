//! Initial values, as `SiT.initialize_weights` of the official `models.py` draws them.

use std::collections::BTreeMap;

use burn::tensor::{Device, Distribution, Tensor};

use super::{Sit, SitConfig, official_key};
use crate::weights::Weights;
use crate::{Backbone, ClassLabels};

fn network() -> Sit {
    let config = SitConfig { width: 128, depth: 3, heads: 4, hidden: 512, classes: 511, ..SitConfig::small(2) };
    config.init(5, &Device::default())
}

/// The law of a parameter: zeros, or its standard deviation and its bound, if it has one.
enum Law {
    Zero,
    Normal(f64),
    Uniform(f64),
}

fn law(name: &str, shape: &[usize]) -> Law {
    let zero = name.ends_with("bias") || name.contains("adaLN") || name.starts_with("final_layer");
    match name {
        _ if zero => Law::Zero,
        "t_embedder.mlp.0.weight" | "t_embedder.mlp.2.weight" | "y_embedder.embedding_table.weight" => {
            Law::Normal(0.02)
        }
        _ => {
            let fans = shape[0] + shape[1..].iter().product::<usize>();
            Law::Uniform((6.0 / fans as f64).sqrt())
        }
    }
}

#[test]
fn every_parameter_has_the_published_moments() {
    let mut drawn = BTreeMap::new();
    for (name, data) in Weights::of(&network(), official_key).iter().filter(|(name, _)| *name != "pos_embed") {
        let values: Vec<f64> = data.data().expect("in memory").iter::<f64>().collect();
        let n = values.len() as f64;
        let deviation = match law(name, data.shape()) {
            Law::Zero => {
                assert!(values.iter().all(|&v| v == 0.0), "{name} must start at zero");
                continue;
            }
            Law::Normal(deviation) => deviation,
            Law::Uniform(bound) => {
                let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                // The largest of n draws falls below 0.99 of the bound with probability 0.99^n < 1e-8 (n >= 2048).
                assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.99 * bound, "{name}: {largest}, not {bound}");
                bound / 3f64.sqrt()
            }
        };
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        // Five standard errors: of the mean, and of the variance, whose relative error is at most √(2 / n).
        assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{name}: mean {mean}");
        assert!((variance / deviation.powi(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{name}: variance {variance}");
        assert!(drawn.insert(values[0].to_bits(), name.to_string()).is_none(), "{name} repeats another's stream");
    }
    // Patches, two of time, labels, and four matrices a block.
    assert_eq!(drawn.len(), 4 + 4 * 3);
}

#[test]
fn a_new_network_predicts_exactly_zero() {
    let device = Device::default();
    let x = Tensor::random([2, 4, 32, 32], Distribution::Default, &device);
    let labels = ClassLabels::new(&[3, 511], 511, &device);
    let y = network().forward(x, Tensor::from_data([0.1f32, 0.9], &device), labels);
    assert_eq!(y.dims(), [2, 4, 32, 32]);
    assert!(y.into_data().iter::<f32>().all(|v| v == 0.0));
}
