//! A small FLUX that is trained by the recipe that comes along.

use std::fs;

use burn::module::Module;
use burn::tensor::Device;
use mixflow::backbones::Precision;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow::recipe::NetworkSettings;
use mixflow_t2i::flux::official_key;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::{TextPipeline, TextRecipe};
use mixflow_tests::{assert_continues, train_from, with_waves};

const ADAPTER: &str = "pytorch_lora_weights.safetensors";

/// The recipe of FLUX.1-dev, on pixels of shapes, small enough for a test.
fn small(changes: &[&str]) -> TextRecipe {
    let network = r#"{"kind":"flux","input_size":8,"channels":3,"width":16,"depth":1,"single_depth":2,"heads":2,
        "axes":[2,2,4],"context_width":12,"pooled_width":12,"guidance":1}"#;
    let small = [
        &format!("network.transformer={network}"),
        "network.text={\"kind\":\"words\",\"width\":12,\"tokens\":4}",
        "network.prompts=16",
        "data={\"kind\":\"shapes\",\"size\":8}",
        "autoencoder=null",
        "adapter.rank=2",
        "objective.timesteps.base.shift.tokens=16",
        "training.steps=4",
        "training.precision=f32",
        "training.batch=4",
        "training.accumulation=2",
        "training.optimizer.learning_rate.rate=0.02",
        "training.optimizer.average=0.5",
        "sampling.grid={\"steps\":2,\"shift\":{\"tokens\":16}}",
        "sampling.precision=f32",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    read_text_recipe("flux.1-dev-mixflow", &changes).expect("it comes along").expect("it is for text")
}

fn images(pipeline: &TextPipeline) -> Vec<f32> {
    pipeline.images(&["a red circle", "a very blue star"], 0).expect("finite").pixels
}

#[test]
fn an_adapter_is_trained_continued_and_drawn_with() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| root.path().join(name);
    let recipe = small(&[]);
    // All layers take part: a new network predicts zero whatever its attention does.
    let base = recipe.network.init(3, &Device::default());
    let weights = with_waves(Weights::of(&base, official_key));
    let from = place("flux.safetensors");
    weights.write(&from, &[]).expect("room");

    let (half, runs) = (small(&["training.steps=2"]), ["whole", "parts"].map(place));
    assert_continues(&recipe, &half, &from, runs, &[ADAPTER, "model.safetensors"]);
    let read = |run: &str, file: &str| fs::read(place(run).join(file)).expect("it was written");

    // Layers are those that `diffusers` adapts, under its names.
    let adapter = Adapter::read(place("whole").join(ADAPTER)).expect("a file of an adapter");
    let layers: Vec<&str> = adapter.layers().collect();
    assert_eq!(layers.len(), 12 + 2 * 3);
    assert!(layers.contains(&"transformer_blocks.0.attn.to_out.0"), "{layers:?}");
    assert!(layers.contains(&"single_transformer_blocks.1.attn.to_q"), "{layers:?}");

    // What it learned, added to what it started from, is what it wrote, and it is another network.
    let trained = TextPipeline::from_folder(place("whole"), &Device::default()).expect("a run");
    let drawn = images(&trained);
    let mut begun = TextPipeline::from_folder(place("whole"), &Device::default()).expect("a run").pipeline;
    begun.network = recipe.network.load(begun.network, Weights::read(&from).expect("weights")).expect("it fits");
    let begun = TextPipeline::new(begun).expect("an encoder");
    assert_ne!(images(&begun), drawn);
    let mut added = begun;
    added.pipeline.add_adapter(place("whole").join(ADAPTER), 1.0).expect("it fits");
    assert_eq!(images(&added), drawn);

    // In 16 bits weights are stored rounded, and what is trained beside them is not.
    let low = |more: &[&str]| small(&[&["training.precision=bf16"], more].concat());
    let runs = ["low", "low-parts"].map(place);
    assert_continues(&low(&[]), &low(&["training.steps=2"]), &from, runs, &[ADAPTER]);
    assert!(read("low", ADAPTER) != read("whole", ADAPTER));
    let drawn_low = images(&TextPipeline::from_folder(place("low"), &Device::default()).expect("a run"));
    let apart = drawn_low.iter().zip(&drawn).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 0.0 && apart < 0.3, "{apart}");
    // Drawn in 16 bits they have all of it beside them, whatever is lost of it in a sum that is rounded.
    let mut stored = TextPipeline::find_in_folder(place("low")).expect("a run");
    stored.recipe.sampling.precision = Precision::Bf16;
    let network = TextPipeline::load(stored, &Device::default()).expect("a run").pipeline.network;
    assert!(Precision::is_stored_low(&network));
    let drawn_with = Weights::of(&network.materialize(), official_key);
    let written = Weights::read(place("low").join("model.safetensors")).expect("weights");
    for layer in &layers {
        let [drawn_with, written] = [&drawn_with, &written].map(|weights| {
            let weight = weights.get(&format!("{layer}.weight")).expect("a layer").data().expect("values");
            weight.iter::<f64>().collect::<Vec<_>>()
        });
        let apart = drawn_with.iter().zip(written).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-6, "{layer}: {apart}");
    }

    // Recomputation keeps other numbers, and computes the same.
    train_from(&small(&["training.recompute=false"]), &from, &place("kept"));
    let values = |run: &str| {
        let weights = Weights::read(place(run).join(ADAPTER)).expect("weights");
        let data = weights.iter().map(|(_, tensor)| tensor.data().expect("values").iter::<f64>().collect::<Vec<_>>());
        data.flatten().collect::<Vec<_>>()
    };
    // AdamW scales up what is rounding alone: at this rate a step is 0.02.
    let apart = values("kept").iter().zip(values("whole")).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 2e-3, "{apart}");
}

/// Counted by `torch.utils.flop_counter` 2.15 of `FluxTransformer2DModel` of diffusers 0.42.1, halved.
#[test]
fn the_recipe_is_priced() {
    let recipe = read_text_recipe("flux.1-dev-mixflow", &[]).expect("it comes along").expect("it is for text");
    let cost = recipe.network.cost().expect("it is known");
    assert_eq!(cost.parameters, 11_901_408_320);
    let schnell = read_text_recipe(
        "flux.1-dev-mixflow",
        &["network.transformer.guidance=null", "sampling.distilled_guidance=null", "network.text.tokens=256"]
            .map(Into::into),
    );
    let schnell = schnell.expect("it comes along").expect("it is for text");
    let counted = [cost.multiply_adds, schnell.network.cost().expect("it is known").multiply_adds];
    assert_eq!(counted, [37_192_326_709_248, 34_733_313_490_944]);
}
