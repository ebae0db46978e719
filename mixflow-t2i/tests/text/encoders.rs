//! The encoders together.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use mixflow_backbones::Condition;
use mixflow_backbones::weights::Weights;
use mixflow_t2i::TextEmbedding;
use mixflow_t2i::text::{StableDiffusion3Encoders, TextEncoder, Truncation};
use mixflow_tests::{Fixture, close};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::pipeline::{opened, prompts, write_pipeline};

fn assert_recorded(fixture: &Fixture, prefix: &str, text: TextEmbedding) {
    let tolerance = fixture.tolerance(None);
    fixture.assert_close(&format!("{prefix}tokens"), text.tokens.into_data(), tolerance);
    fixture.assert_close(&format!("{prefix}pooled"), text.pooled.into_data(), tolerance);
}

#[test]
fn prompts_are_what_diffusers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_pipeline(folder.path());
    let negative = fixture.manifest["negative"].as_str().expect("a prompt");
    let check = |prefix: &str, encoders: &StableDiffusion3Encoders| {
        let text = encoders.encode_with_negative(&prompts(&fixture), negative).expect("whole files");
        let null = text.clone().select(Tensor::from_data([0], &Device::default())).null();
        assert_recorded(&fixture, &format!("{prefix}null."), null);
        assert_recorded(&fixture, prefix, text);
    };
    check("out.", &opened(folder.path()));
    check("out.without_t5.", &opened(folder.path()).without_t5());
    std::fs::remove_dir_all(folder.path().join("text_encoder_3")).expect("a folder");
    check("out.without_t5.", &opened(folder.path()));
}

/// Writes `weights` in the type `dtype` as Transformers does: in one file or two, of the variant `variant` or of none.
fn store(folder: &Path, weights: &Weights, dtype: DType, variant: Option<&str>, shards: usize) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().contains("model.") || path.to_string_lossy().contains("model-") {
            std::fs::remove_file(path).expect("a file");
        }
    }
    let variant = variant.map(|variant| format!(".{variant}")).unwrap_or_default();
    let tensors: Vec<_> =
        weights.iter().map(|(name, tensor)| (name, tensor.data().expect("values").convert_dtype(dtype))).collect();
    let kind = match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    };
    let mut map = serde_json::Map::new();
    for (index, part) in tensors.chunks(tensors.len().div_ceil(shards)).enumerate() {
        let file = match shards {
            1 => format!("model{variant}.safetensors"),
            _ => format!("model{variant}-{:05}-of-{shards:05}.safetensors", index + 1),
        };
        let views = part.iter().map(|(name, data)| {
            map.insert(name.to_string(), json!(file));
            (*name, TensorView::new(kind, data.shape().to_vec(), data.bytes()).expect("a tensor"))
        });
        let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).expect("tensors");
        std::fs::write(folder.join(file), bytes).expect("a file");
    }
    if shards > 1 {
        let index = folder.join(format!("model.safetensors.index{variant}.json"));
        std::fs::write(index, json!({ "metadata": {}, "weight_map": map }).to_string()).expect("a file");
    }
}

const ENCODERS: [&str; 3] = ["text_encoder", "text_encoder_2", "text_encoder_3"];

#[test]
fn weights_may_be_in_half_precision_and_in_shards() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_pipeline(folder.path());
    let encoded = |dtype, variant, shards, rounded: bool| {
        for name in ENCODERS {
            let weights = fixture.weights(&format!("weights.{name}."));
            store(&folder.path().join(name), &weights, dtype, variant, shards);
            if rounded {
                // Values of half precision in full precision.
                let weights = Weights::read(folder.path().join(name).join("model.safetensors")).expect("a file");
                store(&folder.path().join(name), &weights, DType::F32, None, 1);
            }
        }
        let text = opened(folder.path()).encode(&["a photo of a cat"]).expect("whole files");
        [text.tokens.into_data(), text.pooled.into_data()]
    };
    for dtype in [DType::F16, DType::BF16] {
        let expected = encoded(dtype, None, 1, true);
        for (variant, shards) in [(None, 1), (None, 2), (Some("fp16"), 1), (Some("fp16"), 2)] {
            assert_eq!(encoded(dtype, variant, shards, false), expected, "{dtype:?}, {variant:?}, {shards} files");
        }
    }
}

#[test]
fn a_prompt_does_not_depend_on_those_beside_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_pipeline(folder.path());
    let encoders = opened(folder.path());
    // More than the networks see at a time.
    let many: Vec<&str> = prompts(&fixture).into_iter().cycle().take(19).collect();
    let all = encoders.encode(&many).expect("whole files");
    let last = all.select(Tensor::from_data([18], &Device::default()));
    let alone = encoders.encode(&many[18..]).expect("whole files");
    let values = |text: &TextEmbedding| text.tokens.to_data().iter::<f64>().collect::<Vec<_>>();
    close("tokens", &values(&last), &values(&alone), fixture.tolerance(None));
}

#[test]
fn blocks_are_encoded_with_one_read_of_the_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_pipeline(folder.path());
    let tolerance = fixture.tolerance(None);
    let prompts = prompts(&fixture);
    let blocks: Vec<&[&str]> = prompts.chunks(prompts.len().div_ceil(2)).collect();
    let values = |text: TextEmbedding| {
        let [tokens, pooled] = [text.tokens.into_data(), text.pooled.into_data()];
        tokens.iter::<f64>().chain(pooled.iter()).collect::<Vec<_>>()
    };
    for t5 in [true, false] {
        write_pipeline(folder.path());
        let encoders = opened(folder.path());
        let encoders = if t5 { encoders } else { encoders.without_t5() };
        let expected: Vec<_> =
            blocks.iter().map(|block| values(encoders.encode(block).expect("whole files"))).collect();
        let mut found = vec![];
        let mut sink = |text| {
            found.push(values(text));
            // Who reads these again finds zeros.
            for name in ENCODERS {
                let path = folder.path().join(name).join("model.safetensors");
                let mut file = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
                let bytes = std::fs::read(&path).expect("a file");
                let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                file.seek(SeekFrom::Start(header)).expect("a file");
                file.write_all(&vec![0; bytes.len() - header as usize]).expect("a file");
            }
            Ok(())
        };
        encoders.encode_blocks(&blocks, &mut sink).expect("whole files");
        assert_eq!(found.len(), 2);
        found.iter().zip(&expected).for_each(|(found, expected)| close("blocks", found, expected, tolerance));
        let again = values(encoders.encode(blocks[1]).expect("whole files"));
        assert_ne!(again, expected[1], "zeros are read");
    }
}

#[test]
fn encoders_are_known_by_their_content() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    write_pipeline(&here);
    let identity = |folder: &Path| opened(folder).identity().expect("whole files");
    let first = identity(&here);
    std::fs::rename(&here, &there).expect("a folder");
    assert_eq!(identity(&there), first);
    let encoders = || opened(&there);
    assert_ne!(encoders().with_t5_length(25).expect("room for tokens").identity().expect("whole files"), first);
    assert_ne!(encoders().without_t5().identity().expect("whole files"), first);

    for name in [
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        "text_encoder_3/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer_2/special_tokens_map.json",
        "tokenizer_3/tokenizer.json",
    ] {
        let path = there.join(name);
        let bytes = std::fs::read(&path).expect("a file");
        let mut changed = bytes.clone();
        match name.ends_with("safetensors") {
            // A bit of the last weight.
            true => *changed.last_mut().expect("weights") ^= 1,
            false => changed.push(b'\n'),
        }
        std::fs::write(&path, changed).expect("a file");
        assert_ne!(identity(&there), first, "{name}");
        std::fs::write(&path, bytes).expect("a file");
    }
    assert_eq!(identity(&there), first);
}

#[test]
fn cut_prompts_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_pipeline(folder.path());
    let encoders = opened(folder.path());
    let prompts = ["a cat", "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat, blue and red"];
    let cuts = encoders.truncations(&prompts).expect("tokens");
    assert_eq!(
        cuts.iter().map(|cut| cut.to_string()).collect::<Vec<_>>(),
        [
            "CLIP-L reads 20 tokens and does not see the end of prompt 2: `a cat, blue and red`",
            "CLIP-G reads 20 tokens and does not see the end of prompt 2: `a cat, blue and red`",
            "T5 reads 24 tokens and does not see the end of prompt 2: `e and red`",
        ]
    );
    // One prompt, whichever encoders cut it.
    let first = "CLIP-L reads 20 tokens and does not see the end of prompt 2: `a cat, blue and red`";
    let told = format!("1 of 2 prompts is longer than the encoders read; the first: {first}");
    assert_eq!(Truncation::summary(&cuts, 2), Some(told));
    assert_eq!(Truncation::summary(&[], 2), None);
    assert!(encoders.without_t5().truncations(&prompts[..1]).expect("tokens").is_empty());
}

#[test]
fn a_folder_that_is_not_whole_is_refused_before_weights_are_read() {
    let remove: fn(&Path, &str) = |folder, name| {
        let path = folder.join(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it was there");
    };
    let edit: fn(&Path, &str, &str, Value) = |folder, name, key, value| {
        let path = folder.join(name);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        match value {
            Value::Null => drop(json.as_object_mut().expect("an object").remove(key)),
            value => json[key] = value,
        }
        std::fs::write(path, json.to_string()).expect("a file");
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let cases: &[Damage<'_>] = &[
        ("lacks text_encoder:", &|folder| remove(folder, "text_encoder")),
        ("lacks tokenizer_2:", &|folder| remove(folder, "tokenizer_2")),
        ("lacks tokenizer_3:", &|folder| remove(folder, "tokenizer_3")),
        ("text_encoder_3 lacks model.safetensors or", &|folder| remove(folder, "text_encoder_3/model.safetensors")),
        ("text_encoder/config.json", &|folder| remove(folder, "text_encoder/config.json")),
        ("the key `hidden_size` is missing", &|folder| {
            edit(folder, "text_encoder/config.json", "hidden_size", Value::Null)
        }),
        ("num_attention_heads, 3", &|folder| edit(folder, "text_encoder/config.json", "num_attention_heads", json!(3))),
        ("num_hidden_layers: expected 1 to", &|folder| {
            edit(folder, "text_encoder_2/config.json", "num_hidden_layers", json!(0));
        }),
        ("hidden_act: unknown value `relu`", &|folder| {
            edit(folder, "text_encoder/config.json", "hidden_act", json!("relu"))
        }),
        ("feed_forward_proj: unknown value `relu`", &|folder| {
            edit(folder, "text_encoder_3/config.json", "feed_forward_proj", json!("relu"));
        }),
        ("vocab_size: 300, but `tokenizer_3`", &|folder| {
            edit(folder, "text_encoder_3/config.json", "vocab_size", json!(300))
        }),
        ("are not those of this network", &|folder| edit(folder, "text_encoder_3/config.json", "d_ff", json!(65))),
        ("text_model.encoder.layers.2", &|folder| {
            edit(folder, "text_encoder/config.json", "num_hidden_layers", json!(3))
        }),
        ("joint_attention_dim: 39 is less than the widths of both CLIPs, [16, 24]", &|folder| {
            remove(folder, "text_encoder_3");
            edit(folder, "transformer/config.json", "joint_attention_dim", json!(39));
        }),
    ];
    for (complaint, damage) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_pipeline(folder.path());
        damage(folder.path());
        let error =
            StableDiffusion3Encoders::from_folder(folder.path(), &Device::default()).expect_err("a fault").to_string();
        assert!(error.contains(complaint), "expected `{complaint}`, found: {error}");
    }
}
