//! The encoders of a tiny FLUX.1.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow_t2i::text::{FluxEncoders, TextEncoder};
use mixflow_t2i::TextEmbedding;
use mixflow_tests::{Fixture, close};

use crate::pipeline::{prompts, write_pipeline};

/// The encoders of the recorded pipeline that FLUX has, where it has them.
fn write_encoders(folder: &Path) -> Fixture {
    let fixture = write_pipeline(folder);
    for name in ["text_encoder_2", "tokenizer_2"] {
        fs::remove_dir_all(folder.join(name)).expect("a folder");
    }
    for name in ["text_encoder", "tokenizer"] {
        fs::rename(folder.join(format!("{name}_3")), folder.join(format!("{name}_2"))).expect("a folder");
    }
    // Its CLIP has no projection.
    let clip =
        fixture.weights("weights.text_encoder.").rename(|name| (!name.contains("projection")).then(|| name.into()));
    clip.write(folder.join("text_encoder/model.safetensors"), &[]).expect("a file");
    fixture
}

fn opened(folder: &Path) -> FluxEncoders {
    let encoders = FluxEncoders::from_folder(folder, &Device::default()).expect("a whole folder");
    encoders.with_t5_length(24).expect("room for tokens")
}

fn values(text: &TextEmbedding) -> Vec<f64> {
    text.tokens.to_data().iter::<f64>().chain(text.pooled.to_data().iter()).collect()
}

#[test]
fn prompts_are_what_diffusers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_encoders(folder.path());
    let recorded = Fixture::read("text/flux_prompt");
    let tolerance = recorded.tolerance(None);
    let (encoders, all) = (opened(folder.path()), prompts(&fixture));
    let text = encoders.encode(&all).expect("whole files");
    recorded.assert_close("out.tokens", text.tokens.clone().into_data(), tolerance);
    recorded.assert_close("out.pooled", text.pooled.clone().into_data(), tolerance);
    assert_eq!(encoders.widths(), Some([text.tokens.dims()[2], text.pooled.dims()[1]]));
    // The file of a CLIP that has the projection serves, too.
    let clip = fixture.weights("weights.text_encoder.");
    clip.write(folder.path().join("text_encoder/model.safetensors"), &[]).expect("a file");
    assert_eq!(values(&opened(folder.path()).encode(&all).expect("whole files")), values(&text));
    // In blocks they are read once.
    let mut blocks = vec![];
    let mut sink = |text: TextEmbedding| {
        blocks.push(text);
        Ok(())
    };
    encoders.encode_blocks(&[&all[..3], &all[3..]], &mut sink).expect("whole files");
    let tokens = Tensor::cat(blocks.iter().map(|text| text.tokens.clone()).collect(), 0);
    let pooled = Tensor::cat(blocks.iter().map(|text| text.pooled.clone()).collect(), 0);
    close("blocks", &values(&TextEmbedding::new(tokens, pooled)), &values(&text), tolerance);
}

#[test]
fn encoders_are_known_by_their_content() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_encoders(folder.path());
    let identity = || opened(folder.path()).identity().expect("whole files");
    let first = identity();
    assert_ne!(opened(folder.path()).with_t5_length(25).expect("room").identity().expect("whole files"), first);
    for name in ["text_encoder/model.safetensors", "text_encoder_2/model.safetensors"] {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).expect("a file");
        let mut changed = bytes.clone();
        *changed.last_mut().expect("weights") ^= 1;
        fs::write(&path, changed).expect("a file");
        assert_ne!(identity(), first, "{name}");
        fs::write(&path, bytes).expect("a file");
    }
    assert_eq!(identity(), first);
    let long = "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat, blue and red";
    let cuts = opened(folder.path()).cuts(&["a cat", long]).expect("tokens");
    assert_eq!(cuts.iter().map(|cut| (cut.prompt, cut.encoder)).collect::<Vec<_>>(), [(1, "CLIP-L"), (1, "T5")]);
    fs::remove_dir_all(folder.path().join("tokenizer_2")).expect("a folder");
    let error = FluxEncoders::from_folder(folder.path(), &Device::default()).expect_err("a fault").to_string();
    assert!(error.contains("lacks tokenizer_2:"), "{error}");
}
