//! Trainings and comparisons of networks for text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::Batch;
use mixflow::backbones::NetworkConfig;
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::weights::Weights;
use mixflow::compare::{Study, StudyOutcome, parts};
use mixflow::data::Dataset;
use mixflow::evaluation::{Generator, Measures};
use mixflow::files::Tiles;
use mixflow::launch::train;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings, ObjectiveConfig, Recipe};
use mixflow::sampling::Guidance;
use mixflow::schedules::TimeGrid;
use mixflow::train::{StoredNetwork, TrainState};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::{TextEncoderConfig, TextRecipe, read_text_recipe};
use mixflow_t2i::{
    Error, MmDitConfig, MmJitConfig, SkipLayers, TextEmbedding, TextEncoder, TextPipeline, Transformer, Words,
};
use serde_json::json;

/// The recipe that comes along, small enough for a test.
fn small(changes: &[&str]) -> TextRecipe {
    let small = [
        "data.size=8",
        "network.transformer.input_size=8",
        "network.transformer.patch=4",
        "network.transformer.table=2",
        "network.transformer.width=24",
        "network.transformer.depth=2",
        "network.transformer.heads=2",
        "training.steps=4",
        "training.batch=4",
        "post_training.steps=2",
        "post_training.seeds=1",
        "post_training.images=24",
        "post_training.solver_steps=[]",
        "sampling.grid.steps=2",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    read_text_recipe("words", &changes).unwrap().unwrap()
}

#[test]
fn recipes_survive_a_round_trip() {
    let recipe = read_text_recipe("words", &[]).unwrap().unwrap();
    assert_eq!(TextRecipe::parse_value(recipe.to_value()).unwrap(), recipe);
    assert!(recipe.open().is_ok());
    // Other recipes are for others to read, and this one is not for them.
    let error = Recipe::from_value(recipe.to_value()).unwrap_err();
    assert!(error.to_string().contains("text to image"), "{error}");
    assert_eq!(read_text_recipe("digits", &[]).unwrap(), None);
    // With the mark that some editors begin a file with.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, format!("\u{feff}{}", recipe.to_value())).unwrap();
    let read = |set: &[String]| read_text_recipe(file.to_str().unwrap(), set).unwrap().unwrap();
    assert_eq!(read(&[]), recipe);
    assert_eq!(read(&["training.steps=7".into()]).training.steps, 7);
    let weights = Weights::of(&recipe.network.transformer.init(3, &Device::default()), official_key);
    weights.write(folder.path().join("model.safetensors"), &[]).unwrap();
    assert_eq!(TextPipeline::from_folder(folder.path(), &Device::default()).unwrap().pipeline.recipe, recipe);
}

#[test]
fn the_recipe_of_stable_diffusion_is_of_the_published_network() {
    let recipe = read_text_recipe("sd3.5-medium-mixflow", &[]).unwrap().unwrap();
    // With the places of its images alone.
    let published = MmDitConfig { table: 64, ..MmDitConfig::stable_diffusion_3_5_medium() };
    assert_eq!(recipe.network.transformer, published.into());
    let [found, published] = [recipe.sampling.sampler.grid, TimeGrid::stable_diffusion_3(40, 3.0).unwrap()];
    let apart = |(a, b): (f64, f64)| assert!((a - b).abs() < 1e-14, "{a} and {b}");
    found.times().into_iter().zip(published.times()).for_each(apart);
    assert_eq!(found.steps(), published.steps());
    let Some(AutoencoderConfig::Kl { network, .. }) = &recipe.autoencoder else { panic!("it has latents") };
    assert_eq!(*network, KlAutoencoderConfig::stable_diffusion_3());
    assert_eq!(recipe.network.shape(), [16, 128, 128]);
}

/// The small recipe of MiniT2I, smaller.
fn minit2i(changes: &[&str]) -> Result<TextRecipe, Error> {
    let small = [
        "data.size=8",
        "network.transformer.input_size=8",
        "network.transformer.patch=4",
        "network.transformer.width=16",
        "network.transformer.depth=2",
        "network.transformer.heads=2",
        "network.transformer.hidden=16",
        "training.batch=4",
        "post_training.images=24",
        "sampling.grid.steps=2",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    Ok(read_text_recipe("minit2i", &changes)?.expect("it is for text"))
}

#[test]
fn a_recipe_says_which_transformer_it_means() {
    let recipe = minit2i(&[]).unwrap();
    assert_eq!(recipe.to_value()["network"]["transformer"]["kind"], "mm-jit");
    assert_eq!(TextRecipe::parse_value(recipe.to_value()).unwrap(), recipe);
    assert!(recipe.open().is_ok());
    // Recipes from before there was another say none, and those that are stored today are the same.
    let words = read_text_recipe("words", &[]).unwrap().unwrap();
    assert!(words.to_value()["network"]["transformer"].get("kind").is_none());
    let named = read_text_recipe("words", &["network.transformer.kind=mm-dit".into()]).unwrap().unwrap();
    assert_eq!(named, words);

    assert!(read_text_recipe("names", &[]).unwrap().unwrap().open().is_ok());

    let published = read_text_recipe("minit2i-b-16", &[]).unwrap().unwrap();
    assert_eq!(published.network.transformer, MmJitConfig::base().into());
    assert_eq!(published.network.cost().unwrap().parameters, 258_122_880);
    for (change, words) in [
        ("network.text.tokens=5", "network.text.tokens must be at most 4, the transformer's context_length, found 5"),
        ("network.text.width=32", "network.text.width must be what the transformer takes, context_width 64, found 32"),
        (
            "network.text={\"kind\":\"stable-diffusion-3\",\"folder\":\"sd3\"}",
            "network.text.kind must be one that says at most 4, the transformer's context_length, found one of 333 tokens",
        ),
        (
            "network.text={\"kind\":\"flan-t5\",\"folder\":\"t5\",\"tokens\":0}",
            "network.text.tokens must be from 2 to 65536, found 0",
        ),
        ("network.transformer.table=4", "unknown key `table`"),
        ("network.transformer.kind=mm-git", "mm-jit"),
        ("objective.floor=1", "objective.floor must be in [0, 1), found 1"),
        ("objective.prediction=velocity", "objective.floor is for predictions of data"),
        ("objective.schedule.noise=-1", "`noise` must be a finite number above 0, found -1"),
    ] {
        let error = minit2i(&[change]).unwrap_err().to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
}

/// Two steps, a checkpoint, two more: the same weights, bit for bit, as of four.
#[test]
fn a_network_that_is_not_told_the_time_is_continued_where_it_stood() {
    let (recipe, device) = (minit2i(&[]).unwrap(), Device::default().autodiff());
    let folder = tempfile::tempdir().unwrap();
    let data = recipe.open().unwrap();
    let told = recipe.network.conditioner(data.classes(), folder.path(), &device, &mut |_| Ok(())).unwrap();
    let objective = recipe.network.objective(&recipe.objective);
    let steps = |state: TrainState<Transformer>, steps: std::ops::Range<u64>| {
        steps.fold(state, |state, step| {
            let examples: Vec<_> = (4 * step..4 * step + 4).map(|index| data.example(index).unwrap()).collect();
            let labels: Vec<usize> = examples.iter().map(|example| example.label).collect();
            let pixels = examples.into_iter().flat_map(|example| example.pixels).collect();
            let images = Tensor::from_data(TensorData::new(pixels, [4, 3, 8, 8]), &device);
            let batch = Batch::new(images, told.conditions(&labels, &device).unwrap(), 4 * step);
            state.step(&objective, [batch], recipe.seed, &recipe.training.optimizer).0
        })
    };
    let new = || TrainState::new(recipe.network.init(0, &Device::default()));
    let weights = |state: &TrainState<Transformer>| {
        let of =
            |network: &Transformer| Weights::of(network, recipe.network.official_key()).to_safetensors(&[]).unwrap();
        [of(state.backbone()), of(&state.average())]
    };
    let half = steps(new(), 0..2);
    let restored = TrainState::restore(recipe.network.init(1, &Device::default()), half.snapshot()).unwrap();
    let whole = weights(&steps(half, 2..4));
    assert_eq!(weights(&steps(restored, 2..4)), whole);
    assert_ne!(whole, weights(&new()));
}

#[test]
fn faults_are_named() {
    for (change, words) in [
        ("network.prompts=0", "network.prompts must be at least 1"),
        ("network.text.width=32", "network.text.width must be what the transformer takes, context_width 64"),
        ("network.text.words=1", "unknown key `words`"),
        ("network.text={\"kind\":\"letters\"}", "letters"),
        ("network.text={\"kind\":\"stable-diffusion-3\",\"folder\":\"f\",\"token\":64}", "unknown key `token`"),
        ("network.text={\"kind\":\"flan-t5\",\"folder\":\"f\",\"precison\":\"bf16\"}", "unknown key `precison`"),
        ("network.text={\"kind\":\"flux-1\",\"folder\":\"f\",\"token\":64}", "unknown key `token`"),
        (
            "network.text={\"kind\":\"flux-1\",\"folder\":\"f\",\"tokens\":1000000000000}",
            "network.text.tokens must be from 2 to 65536, found 1000000000000",
        ),
        ("network.transformer.heads=5", "network.transformer.width must"),
        ("validation={\"every\":0}", "validation.every must be at least 1"),
        ("validation={\"every\":9,\"images\":1001}", "validation.images must be at most 1000"),
        ("validation={\"every\":9,\"labels\":[\"star\"]}", "validation.labels are for networks that know classes"),
        ("validation={\"every\":9,\"negative\":\"star\"}", "validation.negative has no effect without guidance"),
        ("validation={\"every\":9,\"solver_steps\":0}", "validation.solver_steps do not fit"),
        ("validation={\"every\":9,\"size\":64}", "unknown key `size`"),
    ] {
        let error = read_text_recipe("words", &[change.into()]).unwrap_err().to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
    let error = small(&["network.prompts=15"]).open().unwrap_err().to_string();
    assert!(error.contains("set network.prompts=16"), "{error}");
    let error = small(&["data.size=16"]).open().unwrap_err().to_string();
    let keys = "change network.transformer.channels, network.transformer.input_size or data.size";
    assert!(error.contains(keys), "{error}");
}

/// Outside of a recipe nothing else looks at them: the product of the first overflows.
#[test]
fn numbers_of_an_encoder_are_checked_before_it_is_opened() {
    for (numbers, words) in [
        (json!({"kind": "words", "width": 4_000_000_000_000_u64, "tokens": 400_000}), "width must be from 1 to 65536"),
        (json!({"kind": "words", "width": 8, "tokens": 0}), "tokens must be from 1 to 65536, found 0"),
        (json!({"kind": "flan-t5", "folder": "none", "tokens": 65_537}), "tokens must be from 2 to 65536, found 65537"),
    ] {
        let config: TextEncoderConfig = serde_json::from_value(numbers).unwrap();
        let error = config.open(&Device::default()).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn both_post_trainings_are_compared_on_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = small(&["validation={\"every\":2,\"images\":2}"]);
    let data: Arc<dyn Dataset> =
        Arc::new(parts(&recipe, recipe.post_training.as_ref().unwrap(), &Measures::default()).unwrap().0);
    let conditioner =
        recipe.network.conditioner(data.classes(), folder.path(), &Device::default(), &mut |_| Ok(())).unwrap();
    assert!(folder.path().join("prompts/prompts.json").is_file());
    let network = recipe.network.init(recipe.seed, &Device::default());
    let stop = AtomicBool::new(false);
    let study = Study {
        recipe: &recipe,
        local: &recipe.network,
        folder: folder.path().into(),
        conditioner,
        autoencoder: None,
        guide: None,
        encoder: None,
        measures: Measures::default(),
        seen: None,
        beside: &[],
        stop: &stop,
    };
    let outcome = study.run(network, None, ObjectiveConfig::flow_matching, |_| {}).unwrap();
    let StudyOutcome::Finished(report, page) = outcome else { panic!("nobody asked to stop") };
    // Each training has drawn: the first side by side in the report.
    let steps = |strip: &mixflow::report::Strip| strip.frames.iter().map(|frame| frame.steps).collect::<Vec<_>>();
    let strips: Vec<_> = report.strips.iter().map(|strip| (strip.arm.name(), steps(strip))).collect();
    assert_eq!(strips, [("start", vec![2, 4]), ("standard", vec![2]), ("MixFlow", vec![2])]);
    assert!(fs::read_to_string(page).unwrap().contains("alt=\"MixFlow after 2 steps\""));

    // What was trained is a transformer under its published names.
    let weights = |name: &str| Weights::read(folder.path().join(name).join("model.safetensors")).unwrap();
    let again = recipe.network.init(1, &Device::default()).load(weights("mixflow-0")).unwrap();
    let found = Weights::of(&again, official_key).to_safetensors(&[]).unwrap();
    assert_eq!(found, weights("mixflow-0").to_safetensors(&[]).unwrap());
    assert_ne!(found, weights("standard-0").to_safetensors(&[]).unwrap());
    // Its last checkpoint is the same network.
    let stored = StoredNetwork::find(&folder.path().join("mixflow-0/checkpoints/step-00000002")).unwrap();
    let checkpoint = recipe.load(&stored, &Device::default()).unwrap();
    assert_eq!(Weights::of(&checkpoint, official_key).to_safetensors(&[]).unwrap(), found);
    assert!(recipe.network.name().contains("MMDiT"));
    assert!(folder.path().join("report.html").is_file());
}

/// Of prompts that no image has, led away from another.
const VALIDATION: &str = r#"validation={"every":3,"images":3,"prompts":["a very blue star","red circle"],
    "negative":"square","guidance":{"scale":3},"skip_layers":{"blocks":[1],"scale":2,"steps":[0,1]},"solver_steps":3,"seed":7}"#;

#[test]
fn what_is_drawn_in_a_training_is_what_a_pipeline_draws() {
    let (root, device) = (tempfile::tempdir().unwrap(), Device::default());
    // Fast, so that text counts after a few steps.
    let fast =
        ["training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.05}", "training.optimizer.average=0.5"];
    let recipe = small(&[&["post_training=null", VALIDATION], &fast[..]].concat());
    let run = root.path().join("run");
    train(&recipe, &run, &device, &mut |_| {}).unwrap();

    let mut pipeline = TextPipeline::from_folder(&run, &device).unwrap();
    let own = &mut pipeline.pipeline.recipe;
    own.seed = 7;
    own.sampling = own.sampling.with_steps(3).unwrap();
    own.sampling.guidance = Some(Guidance::new(3.0).unwrap());
    pipeline.skip_layers = Some(SkipLayers { blocks: vec![1], scale: 2.0, steps: [0.0, 1.0] });
    pipeline.negative = "square".into();
    let png = |pipeline: &TextPipeline| {
        let images = pipeline.images(&["a very blue star", "red circle", "a very blue star"], 0).unwrap();
        Tiles { columns: 2, ..Tiles::default() }.png(&images.pixels, images.shape)
    };
    let drawn = fs::read(run.join("validation/step-00000004.png")).unwrap();
    assert!(png(&pipeline) == drawn);
    // Each setting counts.
    pipeline.negative = String::new();
    assert!(png(&pipeline) != drawn);
    pipeline.negative = "square".into();
    pipeline.skip_layers = None;
    assert!(png(&pipeline) != drawn);
    assert!(run.join("validation/step-00000003.png").is_file() && run.join("report.html").is_file());

    // They can be other ones when the run goes on.
    let changed = recipe.with(&["validation.prompts=[\"green star\"]".into(), "training.steps=6".into()]).unwrap();
    train(&changed, &run, &device, &mut |_| {}).unwrap();
    assert!(run.join("validation/step-00000006.png").is_file());
}

/// Words that note how many prompts they are asked for at a time.
struct Counted(Words, Arc<Mutex<Vec<usize>>>);

impl TextEncoder for Counted {
    fn identity(&self) -> Result<String, Error> {
        self.0.identity()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        self.1.lock().unwrap().push(prompts.len());
        self.0.encode(prompts)
    }
}

#[test]
fn a_run_makes_images_of_any_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = small(&["sampling.guidance.scale=1.5", "post_training=null"]);
    let write = |recipe: &TextRecipe| {
        fs::write(folder.path().join("recipe.json"), recipe.to_value().to_string()).unwrap();
    };
    write(&recipe);
    let network = recipe.network.transformer.init(3, &Device::default());
    Weights::of(&network, official_key).write(folder.path().join("model.safetensors"), &[]).unwrap();

    let mut pipeline = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap();
    let images = pipeline.images(&["a red circle", "a very blue star"], 5).unwrap();
    assert_eq!((images.shape, images.evaluations), ([2, 3, 8, 8], 2 * 2 * 2));
    // An image is that of its prompt and number.
    let second = pipeline.images(&["a very blue star"], 6).unwrap();
    assert_eq!(second.pixels, images.pixels[3 * 64..]);
    pipeline.size = [4, 8];
    assert_eq!(pipeline.images(&["a red circle"], 5).unwrap().shape, [1, 3, 4, 8]);

    // As the trained network is sampled by the numbers of its prompts.
    let prompts = ["red circle".to_string(), "blue star".into()];
    let table = PromptTable::prepare(&folder.path().join("prompts"), &prompts, &*pipeline.encoder, |_| Ok(())).unwrap();
    let generator = recipe.generator(&network, &table);
    pipeline.size = [8, 8];
    let found = pipeline.images(&["red circle", "blue star"], 0).unwrap();
    assert_eq!(generator.images(&[0, 1], 0).unwrap().pixels, found.pixels);
    // And whatever a solver draws on the way.
    let mut sampling = recipe.sampling.clone();
    let solver = json!({ "kind": "euler-maruyama", "diffusion": { "kind": "sigma" } });
    sampling.sampler.solver = serde_json::from_value(solver).unwrap();
    pipeline.pipeline.recipe.sampling.sampler = sampling.sampler.clone();
    let generator = Generator { sampling: &sampling, ..generator };
    let found = pipeline.images(&["red circle", "blue star"], 7).unwrap();
    assert_eq!(generator.images(&[0, 1], 7).unwrap().pixels, found.pixels);

    // In turn, a prompt is read once for all of its images.
    pipeline.pipeline.recipe.sampling.batch = 8;
    let reads = Arc::new(Mutex::new(vec![]));
    let counted = Box::new(Counted(Words { width: 64, tokens: 4, places: false }, reads.clone()));
    let inner = std::mem::replace(&mut pipeline.encoder, counted);
    let image_batches = |prompts: &[&str], count: usize| {
        let mut done = 0;
        let blocks = pipeline.image_batches(prompts, count, |images| done = images).unwrap();
        let pixels: Vec<f32> = blocks.flat_map(|images| images.unwrap().pixels).collect();
        assert_eq!(done, count as u64);
        (pixels, std::mem::take(&mut *reads.lock().unwrap()))
    };
    let asked: Vec<&str> = ["red circle", "blue star", "green ring"].into_iter().cycle().take(70).collect();
    let (pixels, reads_of) = image_batches(&asked[..3], 70);
    assert_eq!(reads_of, [4], "three prompts and the empty one");
    assert!(pixels == pipeline.images(&asked, 0).unwrap().pixels);
    assert_eq!(std::mem::take(&mut *reads.lock().unwrap()), [71]);
    // Of many, those of a block are in memory.
    let (same, reads_of) = image_batches(&asked, 70);
    assert_eq!(reads_of, [65, 7]);
    assert!(same == pixels);
    assert_eq!(image_batches(&asked, 2).1, [3]);
    pipeline.encoder = inner;

    // The empty prompt is drawn, an empty list is none.
    assert_eq!(pipeline.images(&[""], 0).unwrap().shape, [1, 3, 8, 8]);
    let error = pipeline.images(&[], 0).unwrap_err().to_string();
    assert!(error.contains("expected at least one prompt, found none"), "{error}");
    let error = pipeline.images(&["red circle"], 1 << 44).unwrap_err().to_string();
    assert!(error.contains("images are numbered below 17592186044416"), "{error}");

    // Labels are known where somebody says what they are called.
    let mut labelled = pipeline.pipeline;
    let error = labelled.images(&[0], 0).unwrap_err().to_string();
    assert!(error.contains("what labels are called"), "{error}");
    labelled.conditioner = Arc::new(table);
    assert_eq!(labelled.images(&[0, 1], 7).unwrap().pixels, found.pixels);

    // Whatever the path and the prediction.
    let other = ["objective.schedule={\"kind\":\"cosine\"}", "objective.prediction=data", "sampling.grid.end=0.9"];
    let recipe = small(&[&["post_training=null"], &other[..]].concat());
    write(&recipe);
    let found = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap();
    let generator = recipe.generator(&network, &labelled.conditioner);
    let found = found.images(&["red circle", "blue star"], 0).unwrap();
    assert_eq!(generator.images(&[0, 1], 0).unwrap().pixels, found.pixels);

    // A guide is told labels, which prompts have not.
    let weak = json!({
        "kind": "sit", "input_size": 8, "patch": 4, "channels": 3, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
        "classes": 16
    });
    let config: NetworkConfig = serde_json::from_value(weak.clone()).unwrap();
    config.init(0, &Device::default()).weights().write(folder.path().join("weak.safetensors"), &[]).unwrap();
    let guide = json!({ "weights": "weak.safetensors", "network": weak });
    write(&small(&["post_training=null", "sampling.guidance.scale=2", &format!("sampling.guide={guide}")]));
    let guided = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap();
    let error = guided.images(&["red circle"], 0).unwrap_err().to_string();
    assert!(error.contains("leave out sampling.guide"), "{error}");

    write(&small(&["post_training=null", "network.transformer.width=36"]));
    let error = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap_err().to_string();
    assert!(error.contains("mis-shaped"), "{error}");
    fs::write(folder.path().join("recipe.json"), Recipe::read("digits", &[]).unwrap().to_value().to_string()).unwrap();
    let error = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap_err().to_string();
    assert!(error.contains("recipe.json: is the recipe of a network for class labels"), "{error}");
    fs::remove_file(folder.path().join("recipe.json")).unwrap();
    let error = TextPipeline::from_folder(folder.path(), &Device::default()).unwrap_err().to_string();
    assert!(error.contains("lies beside no recipe.json"), "{error}");
}
