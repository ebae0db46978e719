//! Counts and initial values, as the official `models/sit.py` has them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::RepaConfig;
use crate::init::laws::{Law, assert_laws, numbers};
use crate::sit::SitConfig;
use crate::{AlignedBackbone, Backbone, ClassLabels};

fn tiny() -> RepaConfig {
    RepaConfig {
        input_size: 4,
        width: 32,
        depth: 3,
        heads: 2,
        hidden: 64,
        classes: 5,
        encoder_depth: 2,
        projectors: vec![24, 16],
        projector_hidden: 40,
        qk_norm: true,
        ..RepaConfig::base(2)
    }
}

/// `README.md` of the recorded cases: counts of the instantiated official classes, frozen tables included.
#[test]
fn parameter_counts_are_the_published_ones() {
    for (config, projector, total) in [
        (RepaConfig::base(2), 7_344_896, 137_845_008),
        (RepaConfig::large(2), 7_869_184, 465_955_600),
        (RepaConfig::extra_large(2), 8_131_328, 683_242_512),
    ] {
        assert_eq!(config.parameters(), total);
        assert_eq!(config.init(0, &Device::default()).projectors.num_params(), projector);
    }
}

#[test]
fn projectors_cost_training_alone() {
    let (repa, sit) = (RepaConfig::extra_large(2), SitConfig { learn_sigma: false, ..SitConfig::extra_large(2) });
    assert_eq!(repa.multiply_adds(), sit.multiply_adds());
    // 256 tokens through every weight of a projector: its 8,131,328 parameters less 2 · 2048 + 768 biases.
    assert_eq!(repa.projector_multiply_adds(), 256 * (8_131_328 - 2 * 2048 - 768));
    let two = RepaConfig { projectors: vec![768, 768], ..repa.clone() };
    assert_eq!(two.projector_multiply_adds(), 2 * repa.projector_multiply_adds());
}

#[test]
fn projectors_start_as_published() {
    let config = RepaConfig { projectors: vec![96], projector_hidden: 64, ..tiny() };
    let drawn = assert_laws(&config.init(5, &Device::default()), |name, shape| match name {
        _ if !name.contains("projectors") && !name.contains("_norm") => None,
        _ if name.contains("norm.weight") => Some(Law::One),
        _ if name.ends_with("bias") => Some(Law::Zero),
        _ => Some(Law::xavier(shape)),
    });
    assert_eq!(drawn, 3);
}

#[test]
fn a_new_network_predicts_zero_and_projects_something() {
    let device = Device::default();
    let x = numbers([2, 4, 4, 4], &device);
    let (time, labels) = (Tensor::from_data([0.1f32, 0.9], &device), ClassLabels::new(&[3, 5], 5, &device));
    let aligned = tiny().init(0, &device).forward_aligned(x, time, labels);
    assert!(aligned.output.into_data().iter::<f32>().all(|v| v == 0.0));
    let shapes: Vec<_> = aligned.projections.iter().map(|projection| projection.dims()).collect();
    assert_eq!(shapes, [[2, 4, 24], [2, 4, 16]]);
    for projection in aligned.projections {
        assert!(projection.square().sum().into_scalar::<f32>() > 0.0);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (config, words) in [
        (RepaConfig { encoder_depth: 4, ..tiny() }, "encoder_depth must be from 1 to depth, 3, found 4"),
        (RepaConfig { encoder_depth: 0, ..tiny() }, "found 0"),
        (RepaConfig { projectors: vec![], ..tiny() }, "projectors must be one width or several"),
        (RepaConfig { projectors: vec![8, 0], ..tiny() }, "[8, 0]"),
        (RepaConfig { projector_hidden: 0, ..tiny() }, "projector_hidden"),
        (RepaConfig { heads: 3, ..tiny() }, "3 heads"),
    ] {
        let fault = config.check().unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
    }
}

#[test]
fn sampling_leaves_the_projectors_out() {
    let device = Device::default();
    let network = tiny().init(0, &device);
    let x = numbers([1, 4, 4, 4], &device);
    let (time, labels) = (Tensor::from_data([0.5f32], &device), ClassLabels::new(&[1], 5, &device));
    let without = super::Repa { projectors: vec![], ..network.clone() };
    let [all, some] = [network, without].map(|network| network.forward(x.clone(), time.clone(), labels.clone()));
    assert_eq!(all.into_data(), some.into_data());
}

#[test]
fn recipes_fill_in_what_was_published() {
    let json = r#"{"input_size": 32, "patch": 2, "channels": 4, "width": 1152, "depth": 28, "heads": 16,
        "hidden": 4608, "classes": 1000, "encoder_depth": 8, "projectors": [768]}"#;
    let read = |json: &str| serde_json::from_str::<RepaConfig>(json);
    assert_eq!(read(json).unwrap(), RepaConfig::extra_large(2));
    assert_eq!(read(&serde_json::to_string(&tiny()).unwrap()).unwrap(), tiny());
    let sigma = json.replace("\"patch\"", "\"learn_sigma\": true, \"patch\"");
    assert!(read(&sigma).unwrap_err().to_string().contains("unknown field `learn_sigma`"));
}
