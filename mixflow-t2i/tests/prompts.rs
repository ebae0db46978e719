//! Prompts as the classes of a data set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use mixflow::backbones::{Backbone, ClassLabels};
use mixflow_t2i::prompts::{PromptTable, Prompted};
use mixflow_t2i::{Error, TextEmbedding, TextEncoder, Words};

const WORDS: Words = Words { width: 8, tokens: 3 };

/// Counts the prompts that are encoded.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl TextEncoder for Counted {
    fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
        self.0.fetch_add(prompts.len(), Ordering::Relaxed);
        WORDS.encode(prompts)
    }
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("cat number {number}")).collect()
}

/// The table of a folder, and how many prompts were encoded for it.
fn prepare(folder: &Path, prompts: &[String], name: &str) -> Result<(PromptTable, usize), Error> {
    let encoder = Counted::default();
    let table = PromptTable::prepare(folder, prompts, &encoder, name, |_| {})?;
    Ok((table, encoder.0.into_inner()))
}

/// All numbers of some embeddings.
fn numbers(text: TextEmbedding) -> Vec<f32> {
    let [tokens, pooled] = [text.tokens.into_data(), text.pooled.into_data()];
    tokens.iter().chain(pooled.iter()).collect()
}

#[test]
fn rows_are_what_the_encoder_says() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(300);
    let (table, _) = prepare(folder.path(), &prompts, "words").unwrap();
    assert_eq!(table.prompts(), 300);
    // Of both files, in any order and as often as asked for; the number after the last stands for none.
    let found = table.rows(&[299, 0, 255, 256, 300, 0], &Device::default());
    let asked = [299, 0, 255, 256].map(|number: usize| prompts[number].as_str());
    let asked = [asked[0], asked[1], asked[2], asked[3], "", asked[1]];
    assert_eq!(numbers(found), numbers(WORDS.encode(&asked).unwrap()));
}

#[test]
fn prompts_are_encoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(300);
    assert_eq!(prepare(folder.path(), &prompts, "words").unwrap().1, 301);
    assert_eq!(prepare(folder.path(), &prompts, "words").unwrap().1, 0);
    // As if it had been stopped.
    fs::remove_file(folder.path().join("00001.safetensors")).unwrap();
    assert_eq!(prepare(folder.path(), &prompts, "words").unwrap().1, 301 - 256);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &prompts(3), "words").unwrap();
    let complain = |prompts: &[String], name: &str, words: &str| {
        let error = prepare(folder.path(), prompts, name).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    complain(&prompts(2), "words", "of other prompts");
    // Where one ends and the next begins counts.
    let joined = ["cat number 0,cat number 1".to_string(), "cat number 2".into()];
    complain(&joined, "words", "of other prompts");
    complain(&prompts(3), "letters", "of another encoder");

    let file = folder.path().join("00000.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 4]).unwrap();
    complain(&prompts(3), "words", "00000.safetensors is damaged");
    PromptTable::prepare(&folder.path().join("other"), &[], &WORDS, "words", |_| {}).unwrap();
    fs::copy(folder.path().join("other/00000.safetensors"), &file).unwrap();
    complain(&prompts(3), "words", "has a `tokens` of F32 [1, 3, 8]");
}

/// Adds what it is told to every pixel.
#[derive(Module, Debug)]
struct Told {
    pooled: Linear,
    tokens: Linear,
}

impl Backbone for Told {
    type Condition = TextEmbedding;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        let batch = x.dims()[0];
        let told = self.pooled.forward(text.pooled) + self.tokens.forward(text.tokens.flatten(1, 2));
        x + told.reshape([batch, 1, 1, 1]) + time.reshape([batch, 1, 1, 1])
    }
}

#[test]
fn a_network_for_text_is_one_for_classes() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(5);
    let (table, _) = prepare(folder.path(), &prompts, "words").unwrap();
    let device = Device::default().autodiff();
    let told = Told { pooled: LinearConfig::new(8, 1).init(&device), tokens: LinearConfig::new(24, 1).init(&device) };
    let network = Prompted::new(told, Arc::new(table));
    mixflow_backbones::testing::check(&network, [3, 1, 2, 2], ClassLabels::new(&[4, 0, 2], 5, &device));

    let x = Tensor::zeros([2, 1, 2, 2], &device);
    let time = Tensor::zeros([2], &device);
    let text = WORDS.encode(&[&prompts[4], ""]).unwrap();
    let text = TextEmbedding::new(text.tokens.to_device(&device), text.pooled.to_device(&device));
    let expected = network.network.forward(x.clone(), time.clone(), text);
    let found = network.forward(x, time, ClassLabels::new(&[4, 5], 5, &device));
    assert_eq!(found.into_data(), expected.into_data());
}
