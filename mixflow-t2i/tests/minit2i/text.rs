//! From captions to images.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Backbone, Condition};
use mixflow_t2i::mmjit::official_key;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::text::{FlanT5, T5Config, TextEncoder};
use mixflow_t2i::{Error, TextEmbedding, TextPipeline};
use mixflow_tests::Fixture;
use serde_json::json;

use crate::{CASE, config, network};

#[test]
fn captions_lead_to_the_official_predictions() {
    let (fixture, device) = (Fixture::read("minit2i/t5_to_mmjit"), Device::default());
    let t5: T5Config = serde_json::from_value(fixture.manifest["config"]["t5"].clone()).expect("a configuration");
    let t5 = t5.init(&device).load(fixture.weights("weights.t5.")).expect("the weights of this network");
    let net = network(&device);
    let ids = fixture.integers::<2>("in.input_ids", &device);
    let mask = fixture.integers::<2>("in.attention_mask", &device);
    let (x, time): (Tensor<4>, Tensor<1>) = (fixture.tensor("in.x", &device), fixture.tensor("in.t", &device));
    let check = |name: &str, tokens: Tensor<3>, null: bool| {
        let seen = mask.clone().float().unsqueeze_dim::<3>(2);
        let told = TextEmbedding::of_tokens(tokens * seen);
        let told = if null { told.null() } else { told };
        let found = net.forward(x.clone(), time.clone(), told).into_data();
        fixture.assert_close(name, found, fixture.tolerance(None));
    };
    let said = t5.forward_masked(ids.clone(), Some(mask.clone()));
    check("out.x0", said.clone(), false);
    check("out.x0_null", said, true);
    let other = ids.clone().mask_fill(mask.clone().equal_elem(0), 5);
    check("out.x0_changed_padding", t5.forward_masked(other, Some(mask.clone())), false);
    check("out.x0_no_t5_mask", t5.forward(ids), false);
}

/// A T5 of 24 numbers a token with the vocabulary of the recorded tokenizer, as Transformers stores it.
fn write_encoder(folder: &Path) {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/text/tokenizer_t5.json");
    std::fs::copy(text, folder.join("tokenizer.json")).expect("a fixture");
    let write = |name: &str, value: serde_json::Value| std::fs::write(folder.join(name), value.to_string());
    write("tokenizer_config.json", json!({ "pad_token": "<pad>", "model_max_length": 512 })).expect("room");
    let value = json!({
        "vocab_size": 4096, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4,
        "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6
    });
    let config: T5Config = serde_json::from_value(value.clone()).expect("a configuration");
    write("config.json", value).expect("room");
    let weights = Weights::of(&config.init(&Device::default()), mixflow_t2i::text::t5_key);
    weights.write(folder.join("model.safetensors"), &[]).expect("room");
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

#[test]
fn padding_is_no_token_and_the_empty_prompt_is_a_prompt() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_encoder(folder.path());
    let encoder =
        FlanT5::from_folder(folder.path(), &Device::default()).and_then(|t5| t5.with_length(12)).expect("whole");
    let prompts: Vec<&str> = ["a cat", "", "two foxes under the moon"].into_iter().cycle().take(10).collect();
    let text = encoder.encode(&prompts).expect("whole");
    assert_eq!(text.tokens.dims(), [10, 12, 24]);
    let none = |row: usize| -> Vec<bool> {
        let row = numbers(text.tokens.clone().narrow(0, row, 1));
        row.chunks(24).map(|token| token.iter().all(|value| *value == 0.0)).collect()
    };
    // The end token is one, and then there is nothing.
    assert_eq!(none(1), [vec![false], vec![true; 11]].concat());
    assert!(!none(0)[1] && none(0)[11]);
    // No prompt is zeros; a negative one is what it says.
    let against = |negative| numbers(encoder.encode_with_negative(&["a cat"], negative).expect("whole").null().tokens);
    assert!(against("").iter().all(|value| *value == 0.0));
    assert!(against("blurry").iter().any(|value| *value != 0.0));
    // Blocks are read at once, and say the same.
    let mut blocks = vec![];
    let mut sink = |text: TextEmbedding| {
        blocks.push(text.tokens);
        Ok(())
    };
    encoder.encode_blocks(&[&prompts[..9], &prompts[9..]], &mut sink).expect("whole");
    let apart = numbers(Tensor::cat(blocks, 0) - text.tokens).into_iter().fold(0.0, |all: f32, v| all.max(v.abs()));
    assert!(apart < 1e-5, "{apart}");
    let cuts = encoder.truncations(&["one two three four five six seven eight nine ten eleven twelve"]).expect("words");
    assert_eq!(cuts.len(), 1);
    // Kept for training: no prompt is zeros there, too.
    let known = ["a cat".to_string()];
    let table = PromptTable::prepare(&folder.path().join("prompts"), &known, &encoder, |_| Ok(())).expect("room");
    assert!(!table.null_is_empty_prompt());
    let told = mixflow::data::Conditioner::conditions(&table, &[0], &Device::default()).expect("known");
    assert!(numbers(told.null().tokens).iter().all(|value| *value == 0.0));
}

#[test]
fn an_encoder_of_another_width_is_refused_before_it_reads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_encoder(folder.path());
    let text = json!({ "kind": "flan-t5", "folder": folder.path(), "tokens": 4 });
    let recipe = read_text_recipe("minit2i", &[format!("network.text={text}")]).expect("a recipe").expect("for text");
    let (prompts, kept) = (["a cat".to_string()], folder.path().join("prompts"));
    let table = recipe.network.prompt_table(&prompts, &kept, &Device::default(), |_| Ok(()));
    let error = table.expect_err("24 are not 64").to_string();
    assert!(error.contains("have widths [24, 1], the transformer takes context_width 64"), "{error}");
    assert!(!kept.exists());
}

/// An encoder that is asked in vain.
struct Unasked;

impl TextEncoder for Unasked {
    fn identity(&self) -> Result<String, Error> {
        Ok("unasked".into())
    }

    fn encode(&self, _: &[&str]) -> Result<TextEmbedding, Error> {
        panic!("no prompt is to be read")
    }
}

#[test]
fn a_published_folder_makes_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let part = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("room");
        path
    };
    let (encoder, vocabulary, transformer) = (part("text_encoder"), part("tokenizer"), part("transformer"));
    write_encoder(&encoder);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::rename(encoder.join(name), vocabulary.join(name)).expect("room");
    }
    let fixture = Fixture::read(CASE);
    let mut config_json = fixture.manifest["config"].clone();
    config_json["_class_name"] = "MiniT2IMMJiTModel".into();
    std::fs::write(transformer.join("config.json"), config_json.to_string()).expect("room");
    let device = Device::default();
    let weights = Weights::of(&network(&device), official_key);
    weights.write(transformer.join("diffusion_pytorch_model.safetensors"), &[]).expect("room");

    let mut pipeline = TextPipeline::from_folder(folder.path(), &device).expect("a published folder");
    assert_eq!(pipeline.pipeline.recipe.network.transformer, config(&fixture).into());
    pipeline.pipeline.recipe.sampling = pipeline.pipeline.recipe.sampling.with_steps(3).expect("steps");
    let images = pipeline.images(&["a cat", "two foxes"], 0).expect("finite");
    assert_eq!((images.shape, images.evaluations), ([2, 3, 16, 16], 2 * 3));
    let (one, other) = images.pixels.split_at(3 * 256);
    assert!(one != other && images.pixels.iter().all(|pixel| pixel.is_finite()));
    pipeline.size = [8, 20];
    assert_eq!(pipeline.images(&["a cat"], 0).expect("any rectangle").shape, [1, 3, 8, 20]);
    // No prompt is read in vain.
    pipeline.encoder = Box::new(Unasked);
    pipeline.size = [16, 18];
    let error = pipeline.images(&["a cat"], 0).expect_err("patches have 4 pixels").to_string();
    assert!(error.contains("width must be a multiple of 4 pixels, at most 262144, found 18"), "{error}");
}
