//! A small Z-Image that is trained by the recipe that comes along.

use std::fs;

use burn::tensor::Device;
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings};
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::z_image::official_key;
use mixflow_t2i::{TextPipeline, TextRecipe, TextSampling, ZImageConfig};
use mixflow_tests::{assert_continues, train_from, with_waves};

const ADAPTER: &str = "pytorch_lora_weights.safetensors";

/// The recipe, on pixels of shapes, small enough for a test.
fn small(changes: &[&str]) -> TextRecipe {
    let network = r#"{"kind":"z-image","input_size":8,"channels":3,"width":24,"depth":2,"refiners":1,"heads":2,
        "axes":[4,4,4],"context_width":12}"#;
    let small = [
        &format!("network.transformer={network}"),
        "network.text={\"kind\":\"words\",\"width\":12,\"tokens\":4}",
        "network.prompts=16",
        "data={\"kind\":\"shapes\",\"size\":8}",
        "autoencoder=null",
        "adapter.rank=2",
        "training.steps=4",
        "training.precision=f32",
        "training.batch=4",
        "training.accumulation=2",
        "training.optimizer.learning_rate.rate=0.02",
        "training.optimizer.average=0.5",
        "sampling.grid={\"steps\":2,\"shift\":6}",
        "sampling.precision=f32",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    read_text_recipe("z-image-lora-mixflow", &changes).expect("it comes along").expect("it is for text")
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
    let from = place("z-image.safetensors");
    weights.write(&from, &[]).expect("room");

    let (half, runs) = (small(&["training.steps=2"]), ["whole", "parts"].map(place));
    assert_continues(&recipe, &half, &from, runs, &[ADAPTER, "model.safetensors"]);
    let read = |run: &str, file: &str| fs::read(place(run).join(file)).expect("it was written");
    // Queries, keys, values and what attention gives, of four blocks, under the names of `diffusers`.
    let adapter = Adapter::read(place("whole").join(ADAPTER)).expect("a file of an adapter");
    let layers: Vec<&str> = adapter.layers().collect();
    assert_eq!(layers.len(), 4 * 4);
    assert!(layers.contains(&"context_refiner.0.attention.to_out.0"), "{layers:?}");

    // What it learned, added to what it started from, is what it wrote, and it is another network.
    let drawn = images(&TextPipeline::from_folder(place("whole"), &Device::default()).expect("a run"));
    let mut begun = TextPipeline::from_folder(place("whole"), &Device::default()).expect("a run").pipeline;
    begun.network = recipe.network.load(begun.network, Weights::read(&from).expect("weights")).expect("it fits");
    let mut begun = TextPipeline::new(begun).expect("an encoder");
    assert_ne!(images(&begun), drawn);
    begun.pipeline.add_adapter(place("whole").join(ADAPTER), 1.0).expect("it fits");
    assert_eq!(images(&begun), drawn);

    // In 16 bits weights are stored rounded, and what is trained beside them is not.
    train_from(&small(&["training.precision=bf16"]), &from, &place("low"));
    assert!(read("low", ADAPTER) != read("whole", ADAPTER));
    let drawn_low = images(&TextPipeline::from_folder(place("low"), &Device::default()).expect("a run"));
    let apart = drawn_low.iter().zip(&drawn).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 0.0 && apart < 0.3, "{apart}");
}

/// Counted by `torch.utils.flop_counter` 2.15 of `ZImageTransformer2DModel` of diffusers 0.42.1, halved, without the text in the last
/// layer, of which nothing is used.
#[test]
fn the_recipe_is_of_the_published_network_and_priced() {
    let recipe = read_text_recipe("z-image-lora-mixflow", &[]).expect("it comes along").expect("it is for text");
    assert_eq!(recipe.network.transformer, ZImageConfig::published().into());
    let Some(AutoencoderConfig::Kl { network, .. }) = &recipe.autoencoder else { panic!("latents") };
    assert_eq!(*network, KlAutoencoderConfig::flux_1());
    let published = TextSampling::z_image(6.0).expect("valid").sampling;
    assert_eq!((&recipe.sampling.sampler, recipe.sampling.guidance), (&published.sampler, published.guidance));
    assert_eq!(TextRecipe::parse_value(recipe.to_value()).expect("the same"), recipe);
    let cost = recipe.network.cost().expect("it is known");
    assert_eq!((cost.parameters, cost.multiply_adds), (6_154_908_736, 31_253_060_845_568));
    assert_eq!(ZImageConfig::published().multiply_adds(32), 27_560_290_746_368);
    for (change, words) in [
        ("network.transformer.axes=[16,56,58]", "network.transformer.axes must be even and together 128"),
        ("network.transformer.input_size=127", "network.transformer.input_size must be divisible by 2, found 127"),
        ("network.text.tokens=1", "network.text.tokens must be from 2 to"),
        ("sampling.distilled_guidance=3", "is for networks that are told a scale of guidance"),
    ] {
        let error = read_text_recipe("z-image-lora-mixflow", &[change.into()]).expect_err(words).to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
}
