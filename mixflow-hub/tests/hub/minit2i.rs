//! MiniT2I, and other networks whose text encoder lies in another repository.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use mixflow::backbones::lora::{Adapter, LoraConfig};
use mixflow::backbones::weights::Weights;
use mixflow::launch::Launch;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::sampling::Images;
use mixflow::train::{RunFolder, Start, StoredNetwork};
use mixflow_hub::{Choice, Client, Error, FromHub, Provision, Publication, SampleImages};
use mixflow_t2i::mmjit::official_key;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::text::{FlanT5, T5Config, t5_key};
use mixflow_t2i::{MmJitConfig, TextNetworkConfig, TextPipeline, TextRecipe};
use serde_json::{Value, json};

use crate::pipeline::published;
use crate::shared::{Setting, repository};

/// A T5 with the recorded vocabulary, as `google/flan-t5-large` has it, and the vocabulary in another folder if one is given;
/// another `seed` is another T5.
fn write_t5(folder: &Path, vocabulary: Option<&Path>, seed: usize) {
    let vocabulary = vocabulary.unwrap_or(folder);
    [folder, vocabulary].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/text/tokenizer_t5.json");
    fs::copy(text, vocabulary.join("tokenizer.json")).unwrap();
    let settings = json!({ "pad_token": "<pad>", "model_max_length": 512 });
    fs::write(vocabulary.join("tokenizer_config.json"), settings.to_string()).unwrap();
    let value = json!({
        "vocab_size": 4096, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 1, "num_heads": 4,
        "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6
    });
    fs::write(folder.join("config.json"), value.to_string()).unwrap();
    let network = serde_json::from_value::<T5Config>(value).unwrap().init(&Default::default());
    let file = folder.join("model.safetensors");
    Weights::of(&network, t5_key).write(&file, &[]).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[start..].chunks_exact_mut(4).enumerate().for_each(|(place, number)| {
        number.copy_from_slice(&(0.05 * ((7 * place + seed) % 13) as f32 - 0.3).to_le_bytes());
    });
    fs::write(&file, bytes).unwrap();
}

/// A small transformer as it is published, that names this repository of its text encoder.
fn write_transformer(folder: &Path, encoder: &str) {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("config.json");
    let config = json!({
        "_class_name": "MiniT2IMMJiTModel", "image_size": 16, "patch_size": 4, "txt_input_size": 24, "hidden_size": 32,
        "txt_hidden_size": 32, "cond_vec_size": 32, "depth_double": 1, "txt_preamble_depth": 1, "num_heads": 2, "head_dim": 16,
        "pca_channels": 12, "prompt_length": 7, "llm": encoder
    });
    fs::write(&file, config.to_string()).unwrap();
    let network = MmJitConfig::from_diffusers(&file).unwrap().init(3, &Default::default());
    Weights::of(&network, official_key).write(folder.join("diffusion_pytorch_model.safetensors"), &[]).unwrap();
}

fn open(client: &Client, address: &str) -> Result<TextPipeline, Error> {
    TextPipeline::open(client, &address.parse().unwrap(), &Default::default(), |_| {})
}

fn draw(mut pipeline: TextPipeline) -> Images {
    let sampling = &mut pipeline.pipeline.recipe.sampling;
    *sampling = sampling.with_steps(2).unwrap();
    pipeline.images(&["a cat", "two foxes"], 0).unwrap()
}

#[test]
fn a_repository_with_its_text_encoder_draws_what_its_folder_draws() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write_t5(&folder.path().join("text_encoder"), Some(&folder.path().join("tokenizer")), 1);
    write_transformer(&folder.path().join("transformer"), "google/flan-t5-large");
    fs::write(folder.path().join("pipeline.py"), "import torch").unwrap();
    published(&setting, "org/mini", folder.path());
    let expected = draw(TextPipeline::from_folder(folder.path(), &Default::default()).unwrap());
    assert_eq!(expected.shape, [2, 3, 16, 16]);
    assert_eq!(draw(open(&setting.client(), "hf://org/mini").unwrap()), expected);
    assert!(setting.server.asked("pipeline.py").is_empty());
}

#[test]
fn one_of_the_networks_of_a_repository_is_named_and_its_encoder_fetched_from_its_own() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    // As `MiniT2I/MiniT2I` and `google/flan-t5-large` are.
    let [both, t5] = ["both", "t5"].map(|name| folder.path().join(name));
    for size in ["mini-b", "mini-l"] {
        write_transformer(&both.join(size).join("transformer"), "org/t5");
    }
    write_t5(&t5, None, 1);
    fs::write(t5.join("pytorch_model.bin"), "pickle").unwrap();
    published(&setting, "org/both", &both);
    published(&setting, "org/t5", &t5);
    let whole = folder.path().join("whole");
    write_t5(&whole.join("text_encoder"), Some(&whole.join("tokenizer")), 1);
    write_transformer(&whole.join("transformer"), "org/t5");
    let expected = draw(TextPipeline::from_folder(&whole, &Default::default()).unwrap());

    let client = setting.client();
    assert_eq!(draw(open(&client, "hf://org/both/mini-b").unwrap()), expected);
    for other in ["mini-l/transformer/config.json", "pytorch_model.bin"] {
        assert!(setting.server.asked(other).is_empty(), "{other}");
    }
    assert_eq!(draw(open(&setting.client().offline(true), "hf://org/both/mini-b").unwrap()), expected);
    for (address, words) in [
        ("hf://org/both", "has its networks in mini-b and mini-l: name one, as hf://org/both/mini-b"),
        ("hf://org/both/mini-x", "has no mini-x at revision main; it has mini-b/transformer/config.json"),
        ("hf://org/both/mini-b/transformer/config.json", "names a file, which alone is no pipeline: leave it out"),
        ("hf://org/both/mini-b/transformer", "is no Stable Diffusion 3, FLUX.1 or Z-Image as diffusers writes it"),
    ] {
        let error = open(&client, address).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = client.text_encoders(&"hf://org/both".parse().unwrap(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("has no text encoder: expected text_encoder with tokenizer, or"), "{error}");
}

/// The recipe of a small network for one prompt, with its text encoder in a folder.
fn recipe(encoder: &str) -> TextRecipe {
    let changes = [
        "data.size=8".to_string(),
        "network.prompts=1".into(),
        r#"network.transformer={"kind":"mm-jit","input_size":8,"patch":4,"channels":3,"width":16,"depth":1,"preamble":1,"heads":2,
            "hidden":16,"bottleneck":8,"context_width":24,"context_length":7}"#
            .into(),
        format!("network.text={}", json!({ "kind": "flan-t5", "folder": encoder, "tokens": 7 })),
        "sampling.grid.steps=2".into(),
        "post_training=null".into(),
    ];
    read_text_recipe("minit2i", &changes).unwrap().unwrap()
}

/// What a training of one prompt leaves.
fn train(run: &Path, encoder: &str) {
    let recipe = recipe(encoder);
    fs::create_dir_all(run).unwrap();
    fs::write(run.join("recipe.json"), recipe.to_value().to_string()).unwrap();
    let network = recipe.network.init(0, &Default::default());
    Weights::of(&network, recipe.network.official_key()).write(run.join("model.safetensors"), &[]).unwrap();
    let record = json!({ "examples": 1, "classes": ["a cat"] });
    fs::write(run.join("data.json"), record.to_string()).unwrap();
}

/// What is published of a run in a folder: its recipe and its card.
fn publish(run: &Path, to: &Path, choice: Choice) -> Result<[String; 2], Error> {
    let publication = Publication::<TextNetworkConfig>::of_network(run, choice, &Default::default())?;
    publication.write(to, &repository(), "main", |_| {})?;
    Ok(["config.json", "README.md"].map(|name| fs::read_to_string(to.join(name)).unwrap()))
}

fn plain() -> Choice {
    Choice { samples: SampleImages::None, ..Choice::default() }
}

#[test]
fn a_published_network_says_in_which_repository_its_text_encoder_is() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let [t5, run, public, said] = ["t5", "run", "public", "said"].map(|name| folder.path().join(name));
    write_t5(&t5, None, 1);
    published(&setting, "org/t5", &t5);
    let client = setting.client();
    // A recipe that names the repository is trained with its commit.
    train(&run, "hf://org/t5");
    let recipe: Value = serde_json::from_slice(&fs::read(run.join("recipe.json")).unwrap()).unwrap();
    let [pinned, local] = client.named_files(&recipe, |_| {}).unwrap();
    let address = pinned["network"]["text"]["folder"].as_str().unwrap().to_string();
    let cached = local["network"]["text"]["folder"].as_str().unwrap().to_string();
    assert!(address.starts_with("hf://org/t5@") && address.len() == "hf://org/t5@".len() + 40, "{address}");
    assert_eq!(fs::read(Path::new(&cached).join("config.json")).unwrap(), fs::read(t5.join("config.json")).unwrap());
    // What cannot be used as it is says so.
    let error = TextPipeline::from_folder(&run, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("hf://org/t5: is of the Hugging Face Hub"), "{error}");

    // Published, it has that commit, whether the recipe has the address or the place in the cache.
    for named in [&address, &cached] {
        train(&run, named);
        let [config, card] = publish(&run, &public, plain()).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["network"]["text"]["folder"], json!(address));
        assert!(card.contains(&format!("It fetches from other repositories: {address}.")), "{card}");
        assert!(!card.contains("which is not in this repository"), "{card}");
        fs::remove_dir_all(&public).unwrap();
    }
    publish(&run, &public, plain()).unwrap();
    published(&setting, "org/net", &public);
    let mut here = TextPipeline::from_folder(&run, &Default::default()).unwrap();
    here.encoder = Box::new(FlanT5::from_folder(&t5, &Default::default()).unwrap().with_length(7).unwrap());
    assert_eq!(draw(open(&client, "hf://org/net").unwrap()), draw(here));

    // Of a folder of one's own it is said, and a file is no encoder's folder.
    train(&run, t5.to_str().unwrap());
    let refer = |key: &str, address: &str| Choice {
        files: [(key.to_string(), Provision::refer(address).unwrap())].into(),
        ..plain()
    };
    let [config, _] = publish(&run, &said, refer("network.text.folder", "hf://org/t5")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["network"]["text"]["folder"], "hf://org/t5");
    let copied = Choice { files: [("network.text.folder".to_string(), Provision::Copy)].into(), ..plain() };
    let error = publish(&run, &folder.path().join("copied"), copied).unwrap_err().to_string();
    assert!(error.contains("network.text.folder is not copied: say where it is on the Hub"), "{error}");
}

#[test]
fn a_training_by_an_encoder_of_the_hub_draws_by_its_files_here() {
    let folder = tempfile::tempdir().unwrap();
    let t5 = folder.path().join("t5");
    write_t5(&t5, None, 1);
    let (stop, device) = (AtomicBool::new(false), Default::default());
    let drawn = |run: &str, named: &str| {
        let [kept, local] = [named, t5.to_str().unwrap()].map(|encoder| {
            let changes = [
                "network.prompts=16",
                "training.steps=1",
                "training.batch=2",
                r#"training.optimizer.learning_rate={"kind":"constant","rate":0.01}"#,
                r#"validation={"every":1,"images":1,"prompts":["a cat"]}"#,
            ];
            recipe(encoder).with(&changes.map(Into::into)).unwrap()
        });
        let run = folder.path().join(run);
        let begun = RunFolder::begin(&run, kept.to_value()).unwrap();
        let launch = Launch { local: &local, ..Launch::new(&kept, &device, &stop) };
        assert!(launch.check(begun, &mut |_| {}).unwrap().run(&mut |_| {}).unwrap().is_some());
        fs::read(run.join("validation/step-00000001.png")).unwrap()
    };
    let address = format!("hf://org/t5@{}", "0".repeat(40));
    assert!(drawn("hub", &address) == drawn("here", t5.to_str().unwrap()));
}

#[test]
fn another_text_encoder_of_the_same_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [t5, other, run, public] = ["a/t5", "b/t5", "run", "public"].map(|name| folder.path().join(name));
    write_t5(&t5, None, 1);
    write_t5(&other, None, 2);
    train(&run, t5.to_str().unwrap());
    // As a training keeps what the encoder says.
    let recipe = TextPipeline::from_folder(&run, &Default::default()).unwrap().pipeline.recipe;
    recipe.network.prompt_table(&["a cat".into()], &run.join("prompts"), &Default::default(), |_| Ok(())).unwrap();
    let identity = recipe.network.encoder(&Default::default()).unwrap().identity().unwrap();
    let [config, card] = publish(&run, &public, plain()).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["network"]["text"]["folder"], &config["network"]["encoder"]), (&json!("t5"), &json!(identity)));
    assert!(card.contains(&format!("others than those of the identity `{identity}` are refused")), "{card}");
    let mut opened = |encoder: &Path| {
        config["network"]["text"]["folder"] = json!(encoder);
        fs::write(public.join("config.json"), config.to_string()).unwrap();
        TextPipeline::from_folder(&public, &Default::default())
    };
    assert_eq!(draw(opened(&t5).unwrap()), draw(TextPipeline::from_folder(&run, &Default::default()).unwrap()));
    let error = opened(&other).unwrap_err().to_string();
    let words = format!("are not those that the network was trained with: expected the identity {identity}");
    assert!(error.starts_with("network.text: its files or settings ") && error.contains(&words), "{error}");
}

#[test]
fn a_card_of_an_adapter_names_the_network_that_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, "t5");
    let mut recipe: Value = serde_json::from_slice(&fs::read(run.join("recipe.json")).unwrap()).unwrap();
    recipe["adapter"] = json!({ "kind": "lora", "rank": 2 });
    let card = |recipe: &Value, base: &str, start: Option<&str>| {
        fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
        let recipe = Recipe::<TextNetworkConfig>::parse_value(recipe.clone()).unwrap();
        let (network, key) = (recipe.network.init(0, &Default::default()), recipe.network.official_key());
        Weights::of(&network, key).write(run.join("model.safetensors"), &[]).unwrap();
        let config = LoraConfig { rank: 2, ..LoraConfig::default() };
        let file = run.join("pytorch_lora_weights.safetensors");
        Adapter::of(&recipe.adapted(network).unwrap(), key, &config).write(&file).unwrap();
        let mut from = Start::of(&StoredNetwork::File(run.join("model.safetensors"))).unwrap();
        if let Some(file) = start {
            (from.repository, from.files[0].file) = (Some(base.into()), file.into());
        }
        Start::write(Some(&from), &run).unwrap();
        let to = folder.path().join("public");
        let choice = Choice { adapter: true, base_models: vec![base.parse().unwrap()], ..plain() };
        let publication = Publication::<TextNetworkConfig>::of_network(&run, choice, &Default::default()).unwrap();
        publication.write(&to, &repository(), "main", |_| {}).unwrap();
        let card = fs::read_to_string(to.join("README.md")).unwrap();
        fs::remove_dir_all(to).unwrap();
        card
    };
    let weights = "mini-b/transformer/diffusion_pytorch_model.safetensors";
    let mut official = recipe.clone();
    (official["network"]["transformer"]["width"], official["network"]["transformer"]["heads"]) =
        (json!(768), json!(12));
    for (recipe, base, start, named) in [
        (&recipe, "org/both", Some(weights), "org/both/mini-b"),
        (&recipe, "org/one", Some("transformer/diffusion_pytorch_model.safetensors"), "org/one"),
        (&recipe, "org/one", None, "org/one"),
        (&official, "MiniT2I/MiniT2I", None, "MiniT2I/MiniT2I/minit2i-b-16"),
    ] {
        let card = card(recipe, base, start);
        assert!(card.contains(&format!("TextPipeline::from_hub(\"{named}\", &mixflow")), "{card}");
        assert!(card.contains(&format!("cargo xtask sample hf://{named} --adapter hf://org/sit --prompt")), "{card}");
        assert!(card.contains(&format!("base_model:\n  - {base}\n")), "{card}");
    }
}
