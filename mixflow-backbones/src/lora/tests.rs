mod beside;

use burn::module::{Module, ModuleMapper, ModuleVisitor};
use burn::tensor::{DType, Device, Tensor, Tolerance};

use super::*;
use crate::init::laws::numbers;
use crate::sit::{Sit, SitConfig, official_key};
use crate::weights::Weights;
use crate::{Backbone, ClassLabels, Precision};

/// A network of which every layer does something, on a device with autodiff or without.
fn sit(device: &Device) -> Sit {
    let config = SitConfig { width: 16, depth: 2, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
    let sit = drawn(config.init(3, &Device::flex().autodiff()), 100);
    if device.is_autodiff() { sit } else { sit.valid() }
}

/// The network with other values in everything that is trained.
fn drawn(network: Sit, seed: u64) -> Sit {
    struct Draw(u64);
    impl ModuleMapper for Draw {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.base().is_require_grad() {
                return param;
            }
            self.0 += 1;
            let values = Initializer::new(self.0, &Device::flex()).normal(param.dims(), 0.3).val().into_data();
            param.map(|old| Tensor::from_data(values, &old.device()).require_grad())
        }
    }
    network.map(&mut Draw(seed))
}

/// With an adapter that does something, too.
fn with_adapter(lora: &LoraConfig) -> Sit {
    drawn(lora.attach(sit(&Device::flex().autodiff()), official_key, 0).unwrap(), 5)
}

fn output(network: &Sit, device: &Device) -> Tensor<4> {
    let x = Tensor::<1>::from_floats([0.3, -0.7, 1.1, 0.2].repeat(16).as_slice(), device).reshape([1, 4, 4, 4]);
    network.forward(x, Tensor::from_floats([0.4], device), ClassLabels::new(&[1], 1000, device))
}

#[test]
fn an_adapter_begins_as_nothing_and_alone_is_trained() {
    let device = Device::flex().autodiff();
    let base = sit(&device);
    let lora = LoraConfig {
        rank: 2,
        alpha: Some(4.0),
        targets: vec!["attn.qkv".into(), "mlp.fc1".into()],
        ..LoraConfig::default()
    };
    let adapted = lora.attach(base.clone(), official_key, 0).unwrap();
    assert_eq!(output(&adapted, &device).into_data(), output(&base, &device).into_data());
    let adapted = with_adapter(&lora);
    let gradients =
        burn::optim::GradientsParams::from_grads(output(&adapted, &device).powi_scalar(2).mean().backward(), &adapted);
    // Two halves in two layers of two blocks.
    assert_eq!(gradients.len(), 8);
    assert_eq!(adapted.num_params() - sit(&device).num_params(), 2 * 2 * (16 + 48 + 16 + 32));
}

/// Gradients of what is trained, in order.
fn gradients(network: &Sit) -> Vec<burn::tensor::TensorData> {
    struct Of(burn::tensor::Gradients, Vec<burn::tensor::TensorData>);
    impl ModuleVisitor for Of {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.base().is_require_grad() {
                self.1.push(param.base().grad(&self.0).expect("a gradient").into_data());
            }
        }
    }
    let mut of = Of(output(network, &Device::flex().autodiff()).powi_scalar(2).mean().backward(), vec![]);
    network.visit(&mut of);
    of.1
}

#[test]
fn a_block_that_is_run_again_gives_its_adapter_the_same_gradients() {
    // Nothing before these is trained, so nothing that comes into a block is tracked.
    for targets in [vec![], vec!["attn.qkv".into(), "final_layer.linear".into()]] {
        let adapted = with_adapter(&LoraConfig { rank: 2, targets, ..LoraConfig::default() });
        let again = adapted.recomputing().expect("its blocks can be run again");
        let [whole, again] = [&adapted, &again].map(gradients);
        assert!(whole.iter().all(|gradient| gradient.iter::<f32>().any(|value| value != 0.0)));
        assert_eq!(whole, again);
    }
}

#[test]
fn what_an_adapter_is_given_is_dropped_by_position_in_training_alone() {
    let lora = LoraConfig { rank: 2, targets: vec!["attn.proj".into()], ..LoraConfig::default() };
    let adapted = with_adapter(&lora).valid();
    let outputs = |network: &Sit, block: usize, x: Tensor<2>| network.blocks[block].attn.proj.forward(x);
    let x = numbers::<2>([1, 16], &Device::flex()).expand([4000, 16]);
    let plain = outputs(&adapted, 0, x.clone().narrow(0, 0, 1)).squeeze_dim::<1>(0);
    let found = outputs(&dropping(adapted.clone(), 0.25, 7, 100), 0, x.clone());
    // On average nothing changes, to five standard deviations of the mean of so many draws.
    let (variance, mean) = found.clone().var_mean(0);
    let [away, bound] =
        [(mean.squeeze_dim(0) - plain.clone()).abs(), variance.squeeze_dim::<1>(0).div_scalar(4000.0).sqrt() * 5.0];
    assert!(
        away.lower_equal(bound.clone()).all().into_scalar::<bool>()
            && bound.greater_elem(0.0).all().into_scalar::<bool>()
    );
    // Of rows together as of some of them later.
    let some = outputs(&dropping(adapted.clone(), 0.25, 7, 103), 0, x.clone().narrow(0, 0, 2));
    // Products of few rows round otherwise.
    let away = (found.clone().narrow(0, 3, 2) - some).abs().max().into_scalar::<f32>();
    assert!(away < 1e-5, "{away}");
    // Another seed, and another layer with the same weights, drop others.
    let other = outputs(&dropping(adapted.clone(), 0.25, 8, 100), 0, x.clone());
    assert_ne!(found.clone().into_data(), other.into_data());
    let mut twice = adapted.clone();
    twice.blocks[1] = twice.blocks[0].clone();
    assert_ne!(found.into_data(), outputs(&dropping(twice, 0.25, 7, 100), 1, x.clone()).into_data());
    // Nothing without a rate, and nothing of the network itself.
    for network in [&dropping(adapted.clone(), 0.0, 7, 100), &adapted] {
        assert_eq!(
            outputs(network, 0, x.clone().narrow(0, 5, 1)).squeeze_dim::<1>(0).into_data(),
            plain.clone().into_data()
        );
    }
}

#[test]
fn a_block_that_is_run_again_drops_the_same() {
    for precision in [Precision::F32, Precision::Bf16] {
        let lora = LoraConfig { rank: 2, dropout: 0.5, ..LoraConfig::default() };
        let adapted = precision.of_frozen(with_adapter(&lora));
        let again = adapted.recomputing().expect("its blocks can be run again");
        let [whole, again] =
            [&adapted, &again].map(|network| gradients(&dropping(network.clone(), lora.dropout, 3, 0)));
        assert_eq!(whole, again);
        assert_ne!(whole, gradients(&adapted));
    }
}

#[test]
fn frozen_weights_beside_an_adapter_can_be_stored_rounded() {
    let lora = LoraConfig { rank: 2, targets: vec!["attn.qkv".into(), "attn.proj".into()], ..LoraConfig::default() };
    let (whole, device) = (with_adapter(&lora), Device::flex().autodiff());
    let low = Precision::Bf16.of_frozen(whole.clone());
    let dtypes = |block: usize| {
        let block = &low.blocks[block];
        [&block.attn.qkv, &block.attn.proj, &block.mlp.fc1, &block.mlp.fc2, &block.ada_ln]
            .map(|linear| linear.weight.base().dtype())
    };
    assert_eq!(dtypes(0), [DType::BF16, DType::BF16, DType::BF16, DType::BF16, DType::F32]);
    let rounded = 2 * (48 * 16 + 16 * 16 + 2 * 32 * 16);
    let sit = sit(&device);
    assert_eq!(Precision::Bf16.frozen_bytes(&sit), 4 * sit.num_params() as u64 - 2 * rounded);
    assert_eq!(Precision::F32.frozen_bytes(&sit), 4 * sit.num_params() as u64);
    // The same where the network is told once more to compute so, and block by block.
    let outputs = |network: &Sit| output(network, &device).into_data();
    assert_ne!(outputs(&low), outputs(&whole));
    let again = low.in_precision(Precision::Bf16).expect("it knows bf16");
    assert_eq!(outputs(&again), outputs(&low));
    assert_eq!(gradients(&low.recomputing().expect("it can")), gradients(&low));
    // What is written holds the adapter as it is, not rounded.
    let merged = low.valid().materialize();
    let [found, base] = [&merged, &low].map(|network| network.blocks[0].attn.proj.weight.base());
    let adapter = low.blocks[0].attn.proj.weight.reparameterization::<LowRank>().expect("it has one");
    let change = adapter.b.val().matmul(adapter.a.val()).inner();
    assert_eq!(found.into_data(), (base.inner().cast(DType::F32) + change).into_data());
}

#[test]
fn what_is_read_later_is_rounded_then() {
    let device = Device::flex();
    let config = SitConfig { width: 16, depth: 2, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
    let weights = |network: &Sit| Weights::of(network, official_key);
    let whole = sit(&device);
    let read = Precision::Bf16.of_frozen(config.init(0, &device)).load(weights(&whole)).unwrap();
    let rounded = Precision::Bf16.of_frozen(whole);
    for (name, tensor) in weights(&rounded).iter() {
        assert_eq!(weights(&read).get(name).unwrap().data().unwrap(), tensor.data().unwrap(), "{name}");
    }
    // Nothing is drawn before it is asked for.
    let new = Precision::Bf16.of_frozen(config.init(0, &device));
    assert!(!new.blocks[1].mlp.fc1.weight.is_initialized());
    assert_eq!(new.blocks[1].mlp.fc1.weight.base().dtype(), DType::BF16);
}

#[test]
fn a_rank_above_the_sides_of_a_layer_is_refused() {
    let lora = LoraConfig { rank: usize::MAX, ..LoraConfig::default() };
    let fault = lora.attach(sit(&Device::flex()), official_key, 0).unwrap_err();
    assert_eq!((fault.key.as_str(), fault.reason.contains("at most 48")), ("rank", true), "{fault}");
}

#[test]
fn two_narrow_products_are_the_sum_of_the_weights() {
    let device = Device::flex();
    for targets in [vec![], vec!["attn.qkv".into(), "attn.proj".into(), "mlp.fc1".into(), "mlp.fc2".into()]] {
        let lora = LoraConfig { rank: 3, alpha: Some(1.5), targets, ..LoraConfig::default() };
        let adapted = with_adapter(&lora);
        let merged = adapted.valid().materialize();
        let tolerance = Tolerance::<f32>::absolute(2e-5);
        let [narrow, wide] = [&adapted.valid(), &merged].map(|network| output(network, &device).into_data());
        narrow.assert_approx_eq(&wide, tolerance);
        assert_ne!(narrow, output(&sit(&device), &device).into_data());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.safetensors");
        Adapter::of(&adapted, official_key, &lora).write(&path).unwrap();
        let fused = Adapter::read(&path).unwrap().fuse(sit(&device), official_key, 1.0).unwrap();
        output(&fused, &device).into_data().assert_approx_eq(&wide, tolerance);
        let [half, twice] = [0.5, 2.0].map(|strength| {
            let fused = Adapter::read(&path).unwrap().fuse(sit(&device), official_key, strength).unwrap();
            Weights::of(&fused, official_key).get("blocks.0.attn.qkv.weight").unwrap().data().unwrap()
        });
        let base = Weights::of(&sit(&device), official_key).get("blocks.0.attn.qkv.weight").unwrap().data().unwrap();
        let change = |fused: burn::tensor::TensorData| -> Vec<f32> {
            fused.iter::<f32>().zip(base.iter::<f32>()).map(|(fused, base)| fused - base).collect()
        };
        for (half, twice) in change(half).into_iter().zip(change(twice)) {
            assert!((4.0 * half - twice).abs() < 1e-5, "{half} {twice}");
        }
    }
}

#[test]
fn targets_that_are_no_layers_are_refused_with_those_that_are() {
    let lora = LoraConfig { targets: vec!["attn.qkv".into(), "to_q".into()], ..LoraConfig::default() };
    let fault = lora.attach(sit(&Device::flex()), official_key, 0).unwrap_err();
    assert_eq!(fault.key, "targets");
    assert!(fault.reason.contains("`to_q`") && fault.reason.contains("blocks.0.attn.qkv"), "{fault}");
    // An end of a name is a whole part of it.
    assert!(LoraConfig { targets: vec!["kv".into()], ..lora }.attach(sit(&Device::flex()), official_key, 0).is_err());
}

#[test]
fn files_that_do_not_fit_say_what_their_names_look_like() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let write = |tensors: &[(&str, [usize; 2])]| {
        let tensors = tensors.iter().map(|(name, shape)| {
            let data = burn::tensor::TensorData::new(vec![0.5f32; shape[0] * shape[1]], *shape);
            ((*name).to_owned(), data.into())
        });
        tensors.collect::<Weights>().write(&path, &[]).unwrap();
    };
    let fault = |tensors: &[(&str, [usize; 2])]| {
        write(tensors);
        match Adapter::read(&path) {
            Ok(adapter) => adapter.fuse(sit(&device), official_key, 1.0).unwrap_err().to_string(),
            Err(fault) => fault.to_string(),
        }
    };
    let whole = fault(&[("blocks.0.attn.qkv.weight", [48, 16])]);
    assert!(whole.contains("is no low-rank adapter: it has `blocks.0.attn.qkv.weight`"), "{whole}");
    let half = fault(&[("transformer.blocks.0.attn.qkv.lora_A.weight", [2, 16])]);
    assert!(half.contains("one half alone of the adapter of `blocks.0.attn.qkv`"), "{half}");
    let pair = |layer: &str, inputs| {
        write(&[(&format!("{layer}.lora_A.weight"), [2, inputs]), (&format!("{layer}.lora_B.weight"), [48, 2])]);
        Adapter::read(&path).unwrap().fuse(sit(&device), official_key, 1.0).map_err(|fault| fault.to_string())
    };
    let other = pair("transformer_blocks.0.attn.to_q", 16).unwrap_err();
    assert!(other.contains("1 of its 1 layers are not there, such as `transformer_blocks.0.attn.to_q`"), "{other}");
    assert!(other.contains("`blocks.0."), "{other}");
    let shape = pair("blocks.0.attn.qkv", 8).unwrap_err();
    assert!(shape.contains("[48, 8] at `blocks.0.attn.qkv`, where the network has [48, 16]"), "{shape}");
    // Kohya's names, and a scale that stands beside the factors.
    assert!(pair("lora_unet_blocks_0_attn_qkv", 16).is_ok());
    write(&[
        ("lora_unet_blocks_0_attn_qkv.lora_down.weight", [2, 16]),
        ("lora_unet_blocks_0_attn_qkv.lora_up.weight", [48, 2]),
        ("lora_unet_blocks_0_attn_qkv.alpha", [1, 1]),
    ]);
    let fused = Adapter::read(&path).unwrap().fuse(sit(&device), official_key, 1.0).unwrap();
    let first = |network: &Sit| network.blocks[0].attn.qkv.weight.val().into_data().iter::<f32>().next().unwrap();
    // Alpha and all factors are ½, the rank is 2: ½ / 2 · (½ · ½ + ½ · ½).
    assert!((first(&fused) - first(&sit(&device)) - 0.125).abs() < 1e-6);

    // As published, with those of the text encoders; and one layer by two names.
    let [a, b] = [".lora_down.weight", ".lora_up.weight"];
    let text = "lora_te1_text_model_encoder_layers_0_mlp_fc1";
    let [own, dotted] = ["lora_unet_blocks_0_attn_qkv", "transformer.blocks.0.attn.qkv"];
    let named = |layers: &[&str]| {
        let names: Vec<_> = layers.iter().flat_map(|layer| [(layer, a, [2, 16]), (layer, b, [48, 2])]).collect();
        let names: Vec<_> = names.into_iter().map(|(layer, half, shape)| (format!("{layer}{half}"), shape)).collect();
        write(&names.iter().map(|(name, shape)| (name.as_str(), *shape)).collect::<Vec<_>>());
        Adapter::read(&path)
    };
    let adapter = named(&[own, text, "text_encoder_2.encoder.block.0.q"]).unwrap();
    assert_eq!(adapter.left_out(), [text, "text_encoder_2.encoder.block.0.q"]);
    let fused = adapter.fuse(sit(&device), official_key, 1.0).unwrap();
    // Without alpha it is the rank: ½ · ½ + ½ · ½.
    assert!((first(&fused) - first(&sit(&device)) - 0.5).abs() < 1e-6);
    assert!(named(&[text]).unwrap_err().to_string().contains("adapters of text encoders alone"));
    let twice = named(&[own, dotted]).unwrap().fuse(sit(&device), official_key, 1.0).unwrap_err().to_string();
    assert!(twice.contains("has the adapter of `blocks.0.attn.qkv` twice, by different names"), "{twice}");
}

#[test]
fn settings_of_peft_say_the_strength_or_are_refused() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let path = folder.path().join("adapter_model.safetensors");
    let half = |shape: [usize; 2]| burn::tensor::TensorData::new(vec![0.5f32; shape[0] * shape[1]], shape).into();
    let layer = "base_model.model.blocks.0.attn.qkv.lora_";
    let tensors = [(format!("{layer}A.weight"), half([2, 16])), (format!("{layer}B.weight"), half([48, 2]))];
    let tensors = tensors.into_iter().collect::<Weights>();
    tensors.write(&path, &[]).unwrap();
    let first = |network: &Sit| network.blocks[0].attn.qkv.weight.val().into_data().iter::<f32>().next().unwrap();
    let base = first(&sit(&device));
    let added = |settings: &str, file: &std::path::Path| {
        std::fs::write(folder.path().join("adapter_config.json"), settings).unwrap();
        let fused = Adapter::read(file).and_then(|adapter| adapter.fuse(sit(&device), official_key, 1.0));
        fused.map(|fused| first(&fused) - base).map_err(|fault| fault.to_string())
    };
    // Rank 2, and ½ · ½ + ½ · ½: alpha / 2 · ½.
    for (settings, expected) in [
        (r#"{"peft_type":"LORA","lora_alpha":8}"#, 2.0),
        (r#"{"lora_alpha":8,"alpha_pattern":{"^blocks\\.0\\.attn\\.qkv$":4}}"#, 1.0),
        (r#"{"lora_alpha":8,"alpha_pattern":{"attn.qkv":4}}"#, 1.0),
        // Of a network inside another one, with the name that it has there.
        (r#"{"lora_alpha":8,"alpha_pattern":{"transformer.blocks.0.attn.qkv":4}}"#, 1.0),
        // Of another layer, which is called so wholly; `peft.utils.other.get_pattern_key` says so, too.
        (r#"{"lora_alpha":8,"alpha_pattern":{"^attn.qkv":4}}"#, 2.0),
        (r#"{"lora_alpha":8,"alpha_pattern":{"kv":4}}"#, 2.0),
        (r#"{"lora_alpha":8,"init_lora_weights":true}"#, 2.0),
        (r#"{"lora_alpha":8,"init_lora_weights":null}"#, 2.0),
        (r#"{"lora_alpha":8,"init_lora_weights":"gaussian"}"#, 2.0),
    ] {
        assert!((added(settings, &path).unwrap() - expected).abs() < 1e-5, "{settings}");
    }
    for (settings, words) in [
        (r#"{"lora_alpha":"8"}"#, r#"has "8" as lora_alpha, expected a number"#),
        (r#"{"peft_type":"LOHA","lora_alpha":8}"#, "LOHA"),
        (r#"{"lora_alpha":8,"alpha_pattern":{".*qkv":4}}"#, "`alpha_pattern` .*qkv"),
        (r#"{"lora_alpha":8,"use_dora":true}"#, "`use_dora`"),
        (r#"{"lora_alpha":8,"init_lora_weights":"pissa"}"#, r#"`init_lora_weights` "pissa""#),
        (r#"{"lora_alpha":8,"init_lora_weights":"pissa_niter_16"}"#, "pissa_niter_16"),
        (r#"{"lora_alpha":8,"init_lora_weights":"olora"}"#, "olora"),
        (r#"{"lora_alpha":8,"init_lora_weights":"lora_ga"}"#, "lora_ga"),
    ] {
        let fault = added(settings, &path).unwrap_err();
        assert!(fault.contains(words), "{settings}: {fault}");
    }
    // Whatever its format: older versions wrote one of PyTorch.
    std::fs::remove_file(&path).unwrap();
    tensors.write_pytorch(folder.path().join("adapter_model.bin")).unwrap();
    for file in [folder.path(), &folder.path().join("adapter_model.bin")] {
        assert!((added(r#"{"lora_alpha":8}"#, file).unwrap() - 2.0).abs() < 1e-5, "{}", file.display());
        assert!(added(r#"{"lora_alpha":8,"use_dora":true}"#, file).unwrap_err().contains("`use_dora`"));
    }
    // They are those of that file alone.
    let other = folder.path().join("other.safetensors");
    tensors.write(&other, &[]).unwrap();
    assert!((added(r#"{"lora_alpha":8}"#, &other).unwrap() - 0.5).abs() < 1e-5);
}

/// A layer may be called as others end, as the last one of FLUX.1 is.
#[test]
fn what_is_written_of_a_layer_is_not_of_those_that_end_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let ones = |shape: [usize; 2]| burn::tensor::TensorData::new(vec![1.0f32; shape[0] * shape[1]], shape).into();
    let layers = [("blocks.0.proj_out", 1, 1.0f32), ("blocks.1.proj_out", 1, 1.0), ("proj_out", 2, 8.0)];
    let tensors = layers.into_iter().flat_map(|(layer, rank, alpha)| {
        let layer = format!("lora_unet_{layer}");
        [
            (format!("{layer}.lora_down.weight"), ones([rank, 4])),
            (format!("{layer}.lora_up.weight"), ones([4, rank])),
            (format!("{layer}.alpha"), burn::tensor::TensorData::new(vec![alpha], [1]).into()),
        ]
    });
    tensors.collect::<Weights>().write(&path, &[]).unwrap();
    Adapter::read(&path).unwrap().write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let settings: serde_json::Value =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["lora_adapter_metadata"]).unwrap();
    let named = |key: &str| settings[format!("transformer.{key}")].to_string();
    assert_eq!([named("r"), named("lora_alpha")], ["1", "1"]);
    assert_eq!([named("rank_pattern"), named("alpha_pattern")], [r#"{"^proj_out":2}"#, r#"{"^proj_out":8}"#]);
    // What is added is alpha / rank times a sum over the rank, of ones.
    let zeros: Weights = layers
        .iter()
        .map(|(layer, ..)| {
            let data = burn::tensor::TensorData::new(vec![0.0f32; 16], [4, 4]);
            (format!("{layer}.weight"), data.into())
        })
        .collect();
    let added = Adapter::read(&path).unwrap().added_to(zeros, 1.0);
    let firsts = added.iter().map(|(_, tensor)| tensor.data().unwrap().iter::<f32>().next().unwrap());
    assert_eq!(firsts.collect::<Vec<_>>(), [1.0, 1.0, 8.0]);
}
