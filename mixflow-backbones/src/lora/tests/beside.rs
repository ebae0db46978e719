//! Adapters beside weights that are stored rounded.

use super::*;

/// Added to weights on the grid of 16 bits, or to what they give, half of one so small would be lost.
#[test]
fn a_small_adapter_is_whole_beside_rounded_weights() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let config = SitConfig { width: 128, depth: 1, heads: 2, hidden: 256, input_size: 4, ..SitConfig::small(2) };
    let low = Precision::Bf16.of_frozen(drawn(config.init(3, &Device::flex().autodiff()), 100).valid());
    let whole = config.init(0, &device).load(Weights::of(&low, official_key)).unwrap();
    let layers = [("attn.qkv", 384), ("attn.proj", 128), ("mlp.fc1", 256)];
    let init = Initializer::new(9, &device);
    let x = init.normal([1, 64, 128], 1.0).val();
    let outputs = |network: &Sit| {
        let block = &network.blocks[0];
        [&block.attn.qkv, &block.attn.proj, &block.mlp.fc1].map(|layer| layer.forward_of(x.clone()).value())
    };
    // A thousandth of the weights, in two files.
    let [one, other] = ["one", "other"].map(|name| {
        let factors = layers.iter().flat_map(|(layer, rows)| {
            let factor = |half: &str, values: Tensor<2>| {
                (format!("transformer.blocks.0.{layer}.lora_{half}.weight"), values.into_data().into())
            };
            let [a, b] = [([4, 128], 1.0), ([*rows, 4], 1e-4)].map(|(shape, std)| init.normal(shape, std).val());
            [factor("A", a), factor("B", b)]
        });
        let path = folder.path().join(name);
        factors.collect::<Weights>().write(&path, &[]).unwrap();
        Adapter::read(path).unwrap()
    });
    let with = |network: &Sit, adapters: &[(&Adapter, f64)]| {
        let add = |network, (adapter, strength): &(&Adapter, f64)| adapter.fuse(network, official_key, *strength);
        adapters.iter().try_fold(network.clone(), add).unwrap()
    };
    for adapters in [&[(&one, 1.0)][..], &[(&one, 1.5), (&other, -0.75)]] {
        let [effects, expected] = [&low, &whole].map(|network| {
            let (with, without) = (outputs(&with(network, adapters)), outputs(network));
            with.into_iter().zip(without).map(|(with, without)| with - without).collect::<Vec<_>>()
        });
        for (effect, expected) in effects.into_iter().zip(expected) {
            let share = (effect * expected.clone()).sum() / expected.square().sum();
            // What is rounded elsewhere is by chance: of 8192 numbers it comes to 0.02.
            let share = share.into_scalar::<f32>();
            assert!((share - 1.0).abs() < 0.05, "{share}");
        }
    }

    // Beside an adapter that was trained, with a scale of its own.
    let lora = LoraConfig { rank: 2, alpha: Some(6.0), targets: vec!["attn.proj".into()], ..LoraConfig::default() };
    let trained = lora.attach(low.clone(), official_key, 0).unwrap();
    let alone = Adapter::of(&trained.clone().map(&mut Fill), official_key, &lora);
    let both = with(&trained.map(&mut Fill), &[(&one, 0.5)]).materialize();
    let expected = with(&whole, &[(&alone, 1.0), (&one, 0.5)]);
    let [both, expected] = [&both, &expected].map(|network| network.blocks[0].attn.proj.weight.val().into_data());
    both.assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-5));
    assert_ne!(both, with(&whole, &[(&one, 0.5)]).blocks[0].attn.proj.weight.val().into_data());
}

/// Gives a factor of zeros other values.
struct Fill;

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Of what is compared, `B` alone.
        if param.dims()[D - 1] == 2 { param.map(|old| old + 0.01) } else { param }
    }
}
