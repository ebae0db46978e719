//! Adapters without their networks.

use std::fs;

use mixflow::Pipeline;
use mixflow::backbones::lora::{Adapter, LoraConfig};
use mixflow::files::WeightsFile;
use mixflow_hub::{Averaging, Choice, FromHub, Publication, Upload};
use serde_json::json;

use super::{bits, measure, names, plain, read, train, written};
use crate::upload::{empty, writer};

const FILE: &str = "pytorch_lora_weights.safetensors";

fn adapter() -> Choice {
    Choice { adapter: true, base_models: vec!["org/base".parse().unwrap()], ..Choice::default() }
}

#[test]
fn an_adapter_is_published_alone_and_added_to_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let [base, run, public] = ["base", "run", "public"].map(|name| folder.path().join(name));
    let key = train(&base, json!({})).network.official_key();
    let lora = json!({ "kind": "lora", "rank": 2, "alpha": 4, "targets": ["attn.qkv"] });
    let recipe = train(&run, json!({ "adapter": lora }));
    // Factors that are not zero, and the network that has them in it.
    let network = Pipeline::from_folder(&base, &Default::default()).unwrap().network;
    let config = LoraConfig { rank: 2, alpha: Some(4.0), targets: vec!["attn.qkv".into()], ..LoraConfig::default() };
    let file = run.join(FILE);
    Adapter::of(&recipe.adapted(network.clone()).unwrap(), key, &config).write(&file).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[start..].chunks_exact_mut(4).enumerate().for_each(|(place, number)| {
        number.copy_from_slice(&(0.01 * (place % 7) as f32).to_le_bytes());
    });
    fs::write(&file, &bytes).unwrap();
    let network = Adapter::read(&file).unwrap().fuse(network, key, 1.0).unwrap();
    network.weights().write(run.join("model.safetensors"), &[]).unwrap();
    measure(&run);

    let done = written(&run, &public, adapter()).unwrap();
    assert_eq!(names(&done), ["README.md", FILE, "results/eval.json", "samples.png"]);
    assert!(fs::read(public.join(FILE)).unwrap() == bytes);
    // What was measured is the network with the adapter.
    let whole = WeightsFile::read(run.join("model.safetensors")).unwrap().sha256;
    assert_eq!(read(&public.join("results/eval.json"))["weights"]["sha256"], whole.as_str());
    let card = fs::read_to_string(public.join("README.md")).unwrap();
    for words in [
        "base_model:\n  - org/base\nbase_model_relation: adapter\n",
        "  - lora\n",
        "(LoRA) of rank 2 and scale 2 at `attn.qkv`, for the SiT of [org/base](https://huggingface.co/org/base).",
        "adapter(&\"hf://org/sit\".parse()?, |_| {})?, 1.0)?;\n",
        "sample hf://org/base --adapter hf://org/sit --out images.png\n",
        "hf_hub_download(\"org/sit\", \"pytorch_lora_weights.safetensors\")",
        "<code>recipe.json</code>",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    assert!(!card.contains("config.json") && !card.contains("`model.safetensors`"), "{card}");

    let setting = empty();
    for (run, name, choice) in [(&base, "org/base", plain()), (&run, "org/sit", adapter())] {
        let publication = Publication::of(run, choice, &Default::default()).unwrap();
        publication.publish(&writer(&setting), &name.parse().unwrap(), &Upload::new("a"), |_| {}).unwrap();
    }
    let client = setting.client();
    let mut pipeline = Pipeline::open(&client, &"hf://org/base".parse().unwrap(), &Default::default(), |_| {}).unwrap();
    let before = bits(&pipeline.images(&[1, 2], 0).unwrap());
    pipeline.add_adapter(client.adapter(&"hf://org/sit".parse().unwrap(), |_| {}).unwrap(), 1.0).unwrap();
    let images = bits(&pipeline.images(&[1, 2], 0).unwrap());
    let expected = Pipeline::from_folder(&run, &Default::default()).unwrap().images(&[1, 2], 0).unwrap();
    assert!(images != before && images == bits(&expected));
}

#[test]
fn an_adapter_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, run] = ["whole", "run"].map(|name| folder.path().join(name));
    train(&whole, json!({}));
    let error = Publication::of(&whole, adapter(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("trained all of the network"), "{error}");
    let complaint = |choice: Choice| Publication::of(&run, choice, &Default::default()).unwrap_err().to_string();
    train(&run, json!({ "adapter": { "kind": "lora" } }));
    assert!(complaint(adapter()).contains("has no adapter"));
    fs::write(run.join(FILE), "").unwrap();
    assert!(complaint(Choice { averaging: Averaging::Last, ..adapter() }).contains("moving average alone"));
    assert!(complaint(Choice { base_models: vec![], ..adapter() }).contains("name the base model"));
    assert!(complaint(adapter()).contains(FILE));
}
