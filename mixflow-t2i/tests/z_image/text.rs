//! Prompts to what the network is told of them.

use std::fs;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Precision;
use mixflow_t2i::TextEncoder;
use mixflow_t2i::text::{Tokenizer, ZImageEncoder};
use serde_json::json;

use crate::folder::{change, encoder, length, prompts, write_folder};

#[test]
fn prompts_are_the_turns_of_a_chat_that_diffusers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_folder(folder.path());
    let tokenizer = Tokenizer::from_folder(folder.path().join("tokenizer")).expect("a tokenizer");
    assert_eq!(tokenizer.length(), 131_072);
    let tokenizer = tokenizer.with_length(length(&fixture)).expect("room for tokens");
    let ids: Vec<Vec<u32>> = serde_json::from_value(fixture.manifest["ids"].clone()).expect("numbers");
    let counts: Vec<usize> = serde_json::from_value(fixture.manifest["tokens"].clone()).expect("numbers");
    for ((prompt, ids), count) in prompts(&fixture).iter().zip(ids).zip(counts) {
        let tokens = tokenizer.encode(prompt).expect("any text is tokens");
        assert_eq!((tokens.ids, tokens.count), (ids, count), "{prompt:?}");
        assert_eq!(tokens.cut.is_some(), count == length(&fixture), "{prompt:?}");
    }
}

#[test]
fn what_is_said_of_prompts_is_what_diffusers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_folder(folder.path());
    let encoder = encoder(folder.path(), &fixture);
    let all = prompts(&fixture);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let text = encoder.encode(&all).expect("whole files").tokens;
    let counts: Vec<usize> = serde_json::from_value(fixture.manifest["tokens"].clone()).expect("numbers");
    let check = |text: &Tensor<3>, rows: std::ops::Range<usize>| {
        for (row, prompt) in rows.enumerate() {
            let own = text.clone().narrow(0, row, 1);
            let [_, length, width] = own.dims();
            let told = own.clone().narrow(1, 0, counts[prompt]).squeeze_dim::<2>(0).into_data();
            fixture.assert_close(&format!("out.tokens.{prompt}"), told, fixture.tolerance(None));
            let rest = own.into_data().iter::<f32>().skip(counts[prompt] * width).collect::<Vec<_>>();
            assert_eq!(rest, vec![0.0; (length - counts[prompt]) * width]);
        }
    };
    assert_eq!(text.dims(), [4, length(&fixture), 32]);
    assert_eq!(encoder.widths(), Some([32, 1]));
    check(&text, 0..4);
    // In blocks it is read once, and shorter prompts have as many zeros behind them.
    let mut blocks = vec![];
    let mut sink = |text: mixflow_t2i::TextEmbedding| {
        blocks.push(text.tokens);
        Ok(())
    };
    encoder.encode_blocks(&[&all[..1], &all[1..]], &mut sink).expect("whole files");
    check(&blocks[0], 0..1);
    check(&blocks[1], 1..4);
    // Against the empty prompt.
    let against = encoder.encode_with_negative(&all[..1], "").expect("whole files");
    let null = mixflow::backbones::Condition::null(against).tokens;
    check(&null, 3..4);
    let low = encoder.in_precision(Precision::Bf16).expect("the CPU does").encode(&all).expect("whole files").tokens;
    let norm = |x: Tensor<3>| x.square().sum().sqrt().into_scalar::<f32>();
    let error = norm(low - text.clone()) / norm(text);
    assert!(error > 0.0 && error < 2.0 * 15.0 / 512.0, "{error}");
}

#[test]
fn encoders_are_known_by_their_content_and_say_what_they_leave_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_folder(folder.path());
    let identity = || encoder(folder.path(), &fixture).identity().expect("whole files");
    let first = identity();
    let longer = encoder(folder.path(), &fixture).with_length(61).expect("room");
    assert_ne!(longer.identity().expect("whole files"), first);
    let path = folder.path().join("text_encoder/model.safetensors");
    let bytes = fs::read(&path).expect("a file");
    let mut changed = bytes.clone();
    *changed.last_mut().expect("weights") ^= 1;
    fs::write(&path, changed).expect("room");
    assert_ne!(identity(), first);
    fs::write(&path, bytes).expect("room");
    assert_eq!(identity(), first);

    let long = prompts(&fixture)[1].clone();
    let cuts = encoder(folder.path(), &fixture).truncations(&["a cat", &long]).expect("tokens");
    let [cut] = &cuts[..] else { panic!("one is cut: {cuts:?}") };
    assert_eq!((cut.prompt, cut.encoder, cut.tokens), (1, "Qwen3", length(&fixture)));
    assert!(!cut.unread.is_empty() && long.ends_with(&cut.unread), "{cut}");
    // Of a prompt that fits all but what ends the turn, nothing is unread.
    let tokens = Tokenizer::from_folder(folder.path().join("tokenizer")).expect("a tokenizer");
    let whole = tokens.encode("a cat").expect("tokens").count;
    let short = encoder(folder.path(), &fixture).with_length(whole - 1).expect("room");
    assert_eq!(short.truncations(&["a cat"]).expect("tokens"), []);
}

#[test]
fn folders_that_do_not_fit_are_refused_in_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| folder.path().join(name);
    let refused = |words: &str| {
        let error = ZImageEncoder::from_folder(folder.path(), &Device::default()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    write_folder(folder.path());
    change(&place("tokenizer/tokenizer_config.json"), |config| config["padding_side"] = "left".into());
    refused("padding_side: expected right");
    write_folder(folder.path());
    let text = fs::read_to_string(place("tokenizer/tokenizer.json")).expect("a file");
    fs::write(place("tokenizer/tokenizer.json"), text.replace("<|im_start|>", "<|start|>")).expect("room");
    refused("has no turns of a chat, as that of Qwen3 does");
    write_folder(folder.path());
    change(&place("text_encoder/config.json"), |config| config["vocab_size"] = json!(332));
    refused("vocab_size: 332, but `tokenizer` has a token of number 332");
    write_folder(folder.path());
    change(&place("text_encoder/config.json"), |config| config["model_type"] = json!("qwen2"));
    refused("model_type: not that of a Qwen3");
    write_folder(folder.path());
    fs::remove_dir_all(place("tokenizer")).expect("a folder");
    refused("lacks tokenizer:");
    let fixture = write_folder(folder.path());
    let error = encoder(folder.path(), &fixture).with_length(9).expect_err("the chat alone has nine").to_string();
    assert!(error.contains("a prompt has at least"), "{error}");
}
