//! The adapter of a large network on a small card.

use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::Precision;
use mixflow::backbones::ops::linear;
use mixflow::backbones::weights::Weights;
use mixflow::plan::{Fit, Machine, Plan};
use mixflow::recipe::NetworkSettings;
use mixflow::train::StoredNetwork;
use mixflow::{Pipeline, StoredPipeline};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::text::{T5Config, t5_key};
use mixflow_t2i::{TextPipeline, TextRecipe};
use mixflow_tests::{train_from, with_waves};

use crate::allocation::peak;

fn recipe(name: &str, changes: &[&str]) -> TextRecipe {
    let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
    read_text_recipe(name, &changes).expect("it comes along").expect("it is for text")
}

fn plan(recipe: &TextRecipe, device: &str) -> Plan {
    Plan::new(recipe, Machine::named(device).expect("a card")).expect("a plan")
}

/// Images at a time as the recipe trains, in 16 bits and with blocks that are run again, and parts of a batch.
fn fit(plan: &Plan) -> (u64, Option<usize>) {
    let Fit { images, accumulation, .. } = plan.fits[3];
    (images, accumulation)
}

#[test]
fn adapters_fit_the_cards_that_their_recipes_name() {
    let medium = recipe("sd3.5-medium-lora-mixflow", &[]);
    let on = |device| plan(&medium, device);
    // Layers of width² in the blocks of the image, of the text, which has none after the last attention, and in second attentions.
    let width = 1536;
    let rounded = width * width * (24 * (4 + 8) + 23 * (4 + 8) + 3 + 13 * 4);
    let places = 64 * 64 * width;
    let small = on("rtx-4080");
    assert_eq!(small.memory[0], ("weights", 4 * (2_243_171_520 + places) - 2 * rounded));
    // Eight layers a block but for one, of rank 16.
    let own = 4 * (24 * 8 - 1) * 16 * 2 * width;
    let trained = [("gradients", own), ("moments of AdamW", 2 * own), ("moving average", own)];
    assert_eq!(small.memory[1..4], trained);
    assert!(small.total_memory() < 11_700_000_000, "{small}");
    assert_eq!((fit(&small), fit(&on("rtx-3090"))), ((7, Some(4)), (13, Some(2))));
    // A quarter of a small card is left for what is not counted.
    assert!(4 * small.total_memory() < 3 * small.machine.memory.unwrap_or(0), "{small}");

    let flux = recipe("flux.1-dev-mixflow", &[]);
    let on = |device| plan(&flux, device);
    assert!(on("l40s").total_memory() < 36_200_000_000);
    assert_eq!([fit(&on("l40s")), fit(&on("h100")), fit(&on("rtx-4090"))], [(3, Some(8)), (10, Some(2)), (0, None)]);

    let z_image = recipe("z-image-lora-mixflow", &[]);
    let on = |device| plan(&z_image, device);
    // Queries, keys, values and what attention gives, of 34 blocks, rank 16.
    let own = 4 * 34 * 4 * 16 * 2 * 3840;
    let small = on("rtx-4090");
    assert_eq!(small.memory[1..4], [("gradients", own), ("moments of AdamW", 2 * own), ("moving average", own)]);
    assert!(small.total_memory() < 17_200_000_000, "{small}");
    let cards = ["rtx-4080", "rtx-4090", "l40s", "h100"].map(|device| fit(&on(device)));
    // Sixteen gigabytes are less than all of it with one image.
    assert_eq!(cards, [(0, None), (2, Some(8)), (9, Some(2)), (17, Some(1))]);
}

/// A product, for which this thread takes once what the CPU's cache holds, and keeps it: as much as the machine has.
fn warm_up() {
    let one = Tensor::<2>::ones([256, 256], &Device::default());
    linear(one.clone(), one, None).into_data();
}

/// The recipes on pixels, with networks of a two-hundredth of their size.
#[test]
fn such_trainings_take_the_memory_that_is_planned() {
    let medium = r#"network.transformer={"input_size":32,"patch":4,"channels":3,"width":192,"depth":8,"heads":6,
        "context_width":64,"pooled_width":64,"table":8,"qk_norm":true,"dual_attention":[0,1,2,3]}"#;
    let z_image = r#"network.transformer={"kind":"z-image","input_size":16,"channels":3,"width":192,"depth":8,"refiners":1,"heads":6,
        "axes":[8,12,12],"context_width":64}"#;
    let recipes = [
        ("sd3.5-medium-lora-mixflow", medium, official_key as fn(&str) -> String),
        ("z-image-lora-mixflow", z_image, mixflow_t2i::z_image::official_key),
    ];
    let root = tempfile::tempdir().expect("a temporary folder");
    for (name, network, official_key) in recipes {
        for way in ["f32", "bf16"] {
            let changes = [
                network,
                r#"network.text={"kind":"words","width":64,"tokens":4}"#,
                "network.prompts=16",
                &format!(r#"data={{"kind":"shapes","size":{}}}"#, if name.starts_with('z') { 16 } else { 32 }),
                "autoencoder=null",
                "sampling.tiles=null",
                "adapter.rank=4",
                "training.steps=2",
                "training.batch=4",
                "training.accumulation=1",
                "training.checkpoint_every=1",
                &format!("training.precision={way}"),
            ];
            let recipe = recipe(name, &changes);
            let from = root.path().join(format!("{name}.safetensors"));
            Weights::of(&recipe.network.init(0, &Default::default()), official_key).write(&from, &[]).expect("room");
            let run = root.path().join(format!("{name}-{way}"));
            let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
            let ((), found) = alone.install(|| {
                warm_up();
                peak(|| train_from(&recipe, &from, &run))
            });
            let plan = plan(&recipe, "rtx-3090");
            let ratio = found as f64 / plan.total_memory() as f64;
            assert!(
                (0.85..1.15).contains(&ratio),
                "{name} in {way}: took {found}, {ratio:.3} of what is planned: {plan}"
            );
        }
    }
}

/// What attention gains and loses is there for the rows of a batch, not for all prompts.
#[test]
fn a_t5_that_is_read_block_after_block_hides_padding_of_a_batch_at_a_time() {
    let config: T5Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 16,
        "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6
    }))
    .expect("a small T5");
    let (device, rows, tokens) = (Device::default(), 64, 64);
    let weights = Weights::of(&config.init(&device), t5_key);
    let numbers = |most: i64| {
        let numbers = (0..(rows * tokens) as i64).map(|place| place % most).collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(numbers, [rows, tokens]), &device)
    };
    let (ids, mask): (Tensor<2, Int>, Tensor<2, Int>) = (numbers(49), numbers(2));
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let stream = || config.init(&device).stream(weights, ids, Some(mask), 4, Precision::F32).expect("its weights");
    let (told, found) = alone.install(|| peak(stream));
    assert_eq!(told.dims(), [rows, tokens, 16]);
    // One such tensor of all rows and heads.
    assert!(found < rows * 16 * tokens * tokens * 4, "took {found}");
}

/// Weights that are drawn with in 16 bits are never there in 32, and draw what those draw that are rounded where they are used.
#[test]
fn what_draws_in_16_bits_takes_half_the_memory_and_draws_the_same() {
    let network = r#"network.transformer={"input_size":8,"patch":4,"channels":3,"width":384,"depth":4,"heads":6,
        "context_width":64,"pooled_width":64,"table":2,"qk_norm":true}"#;
    let changes = [
        network,
        r#"network.text={"kind":"words","width":64,"tokens":4}"#,
        "network.prompts=16",
        r#"data={"kind":"shapes","size":8}"#,
        "autoencoder=null",
        "sampling.tiles=null",
        r#"sampling.grid={"steps":1}"#,
    ];
    let recipe = recipe("sd3.5-medium-lora-mixflow", &changes);
    assert_eq!(recipe.sampling.precision, Precision::Bf16);
    let (root, device) = (tempfile::tempdir().expect("a temporary folder"), Device::default());
    let file = root.path().join("network.safetensors");
    with_waves(Weights::of(&recipe.network.init(0, &device), official_key)).write(&file, &[]).expect("room");
    let size = std::fs::metadata(&file).expect("it was written").len() as usize;
    let draw = |pipeline| {
        TextPipeline::new(pipeline).and_then(|pipeline| pipeline.images(&["a red circle"], 0)).expect("finite").pixels
    };
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let stored = StoredPipeline::new(recipe.clone(), StoredNetwork::File(file.clone()), root.path());
    let (drawn, found) = alone.install(|| peak(|| draw(stored.load(&device).expect("it fits"))));
    // All but embeddings and modulation, and what a layer needs while it computes.
    assert!(found < size * 3 / 4, "took {found} for weights of {size}");
    let whole = recipe.load(&StoredNetwork::File(file), &device).expect("it fits");
    assert!(draw(Pipeline::of_network(recipe, whole, root.path()).expect("nothing else")) == drawn);
}
