//! Weights in networks: what fits, and what is said of what does not.

use super::*;

#[test]
fn everything_that_differs_is_named_at_once() {
    let mut weights = Weights::of(&sit(&tiny()), official_key);
    weights.tensors.remove("blocks.1.attn.qkv.bias").unwrap();
    weights.tensors.remove("x_embedder.proj.bias").unwrap();
    weights.tensors.insert("y_embedder.extra".into(), TensorData::new(vec![1.0f32], [1]).into());
    weights.tensors.insert("blocks.0.attn.qkv.bias".into(), TensorData::new(vec![1.0f32], [1]).into());
    weights.tensors.insert("blocks.0.mlp.fc2.bias".into(), TensorData::new(vec![1i64; 16], [16]).into());
    let found = mismatch(weights.into_module(sit(&tiny()), official_key));
    assert_eq!(found.missing, ["blocks.1.attn.qkv.bias", "x_embedder.proj.bias"]);
    assert_eq!(found.unused, ["y_embedder.extra"]);
    assert_eq!(
        found.to_string(),
        "the weights of a network are not those of this network; \
         2 missing: blocks.1.attn.qkv.bias, x_embedder.proj.bias; 1 unused: y_embedder.extra; \
         2 mis-shaped: blocks.0.attn.qkv.bias (expected [48], found [1]), \
         blocks.0.mlp.fc2.bias (expected [16], found [16] of 64-bit integers)"
    );
}

#[test]
fn a_long_list_is_cut() {
    let mut weights = Weights::of(&sit(&tiny()), official_key);
    weights.tensors.clear();
    let message = mismatch(weights.into_module(sit(&tiny()), official_key)).to_string();
    assert!(message.contains("; 32 missing: "), "{message}");
    assert!(message.ends_with(" and 26 more"), "{message}");
}

/// `QUIRKS` 2: the official training script makes networks that the sampling scripts do not.
#[test]
fn a_difference_of_learn_sigma_is_recognised() {
    for file in [true, false] {
        let config = |learn_sigma| SitConfig { learn_sigma, ..tiny() };
        let weights = Weights::of(&sit(&config(file)), official_key);
        let message = mismatch(weights.into_module(sit(&config(!file)), official_key)).to_string();
        assert!(message.contains(&format!("`learn_sigma` differs: set it to {file}")), "{message}");
        assert!(message.contains("2 mis-shaped: final_layer.linear.bias (expected"), "{message}");
    }
}

#[test]
fn a_missing_position_table_is_computed() {
    let network = tiny().init(3, &Device::default());
    let all = Weights::of(&network, official_key);
    let mut without = all.clone();
    without.tensors.remove("pos_embed").unwrap();
    assert_eq!(mismatch(without.clone().into_module(sit(&tiny()), official_key)).missing, ["pos_embed"]);
    let loaded = sit(&tiny()).load(without).unwrap();
    assert_same(&Weights::of(&loaded, official_key), &all);

    let config = RepaConfig { input_size: 4, encoder_depth: 1, projector_hidden: 8, ..RepaConfig::base(2) };
    let network =
        |seed| RepaConfig { depth: 1, width: 16, heads: 2, hidden: 8, ..config.clone() }.init(seed, &Device::default());
    let all = Weights::of(&network(3), official_key);
    let mut without = all.clone();
    without.tensors.remove("pos_embed").unwrap();
    assert_same(&Weights::of(&network(4).load(without).unwrap(), official_key), &all);
}

#[test]
fn precision_identity_and_training_state_are_the_networks() {
    let device = Device::default().autodiff();
    let source = tiny().init(1, &device);
    let target = tiny().init(2, &device);
    let id = target.blocks[0].mlp.fc1.weight.id;
    for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
        let mut weights = Weights::of(&source, official_key);
        for tensor in weights.tensors.values_mut() {
            *tensor = tensor.data().unwrap().convert_dtype(dtype.into()).into();
        }
        let wide = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let expected = wide(&weights.get("blocks.0.mlp.fc1.weight").unwrap().data().unwrap());
        let loaded = weights.into_module(target.clone(), official_key).unwrap();
        let found = loaded.blocks[0].mlp.fc1.weight.val();
        assert_eq!(found.dtype(), DType::F32);
        assert_eq!(wide(&found.clone().into_data()), expected);
        assert_eq!(loaded.blocks[0].mlp.fc1.weight.id, id);
        assert!(found.is_require_grad());
        assert!(!loaded.pos_embed.val().is_require_grad());
    }
}

#[test]
fn a_part_of_a_network_is_filled_alone() {
    let (source, target) = (tiny().init(1, &Device::default()), tiny().init(2, &Device::default()));
    let weights = Weights::of(&source, official_key);
    let key = |path: &str| official_key(&format!("blocks.1.{path}"));
    let filled = weights.fill(target.blocks[0].clone(), key).unwrap();
    assert_same(&Weights::of(&filled, key), &Weights::of(&source.blocks[1], key));

    let beyond = weights.fill(target.blocks[0].clone(), |path| official_key(&format!("blocks.2.{path}")));
    assert!(mismatch(beyond).missing.iter().all(|name| name.starts_with("blocks.2.")));
    assert!(!mismatch(weights.check(&target.blocks[0], key)).unused.is_empty());
    weights.check(&target, official_key).unwrap();
}

#[test]
fn values_that_are_no_numbers_are_refused_by_name() {
    let name = "blocks.0.mlp.fc2.bias";
    for (values, lost) in [([f64::NAN, 1.0, f64::INFINITY], 2), ([1e300, 0.0, 0.0], 1)] {
        let mut weights = Weights::of(&sit(&tiny()), official_key);
        let mut all = vec![0.0; 16];
        all[..3].copy_from_slice(&values);
        weights.tensors.insert(name.into(), TensorData::new(all, [16]).into());
        let error = sit(&tiny()).load(weights).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("holds {lost} of the 16 values of {name}")), "{error}");
    }
}

#[test]
fn weights_for_other_classes_are_told_apart() {
    let weights = Weights::of(&sit(&SitConfig { classes: 9, ..tiny() }), official_key);
    let found = mismatch(sit(&tiny()).load(weights));
    assert_eq!(found.labels(), Some([10, 4]));
    assert!(found.to_string().contains("10 labels with that for no class, the network has 4"), "{found}");
    // Of another type, but as many.
    let mut weights = Weights::of(&sit(&tiny()), official_key);
    let table = weights.tensors.keys().find(|name| name.ends_with(LABEL_TABLE)).unwrap().clone();
    let width = 4 * tiny().width;
    weights.tensors.insert(table, TensorData::new(vec![1_i32; width], [4, tiny().width]).into());
    let found = mismatch(sit(&tiny()).load(weights));
    assert!(found.labels().is_none() && found.to_string().contains("32-bit integers"), "{found}");
}
