//! Trainings that leave out what single encoders say.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Condition;
use mixflow::data::Conditioner;
use mixflow::launch::{Finish, Launch};
use mixflow::train::RunFolder;
use mixflow_t2i::TextEmbedding;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};
use mixflow_t2i::text::TextEncoder;
use serde_json::json;

use super::pipeline::{opened, write_pipeline};

fn numbers(text: TextEmbedding) -> [Vec<f32>; 2] {
    [text.tokens.into_data().iter().collect(), text.pooled.into_data().iter().collect()]
}

/// What is left out of one of three encoders is what that says of the empty prompt, and nothing else changes: the numbers of a
/// prompt and of the empty one are told apart by where they stand.
#[test]
fn each_of_three_encoders_is_replaced_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    write_pipeline(folder.path());
    let encoders = opened(folder.path());
    let (prompts, device) = (["a red circle".to_string(), "two birds".into()], Device::default());
    let table = PromptTable::prepare(&folder.path().join("table"), &prompts, &encoders, |_| Ok(())).expect("a table");
    let told = table.conditions(&[0, 1], &device).expect("two prompts");
    let [_, tokens, width] = told.tokens.dims();
    let pooled = told.pooled.dims()[1];
    let parts = encoders.parts();
    assert_eq!(parts.len(), 3);
    let first = |part: usize| told.clone().mask_part(part, Tensor::from_data([true, false], &device));
    let (whole, none) = (numbers(told.clone()), numbers(told.clone().null()));
    let mut seen = [vec![0; tokens * width], vec![0; pooled]];
    for (number, part) in parts.iter().enumerate() {
        let found = numbers(first(number));
        for at in 0..2 * tokens * width {
            let [row, token, place] = [at / (tokens * width), at / width % tokens, at % width];
            let own = part.tokens.contains(&token) && part.channels.contains(&place);
            let expected = if row == 0 && own { &none } else { &whole };
            assert_eq!(
                found[0][at], expected[0][at],
                "encoder {number}, token {token}, number {place} of prompt {row}"
            );
            seen[0][token * width + place] += usize::from(own && row == 0);
        }
        for at in 0..2 * pooled {
            let own = part.pooled.contains(&(at % pooled));
            let expected = if at < pooled && own { &none } else { &whole };
            assert_eq!(found[1][at], expected[1][at], "encoder {number}, pooled number {at}");
            seen[1][at % pooled] += usize::from(own && at < pooled);
        }
        assert_ne!(found, whole, "encoder {number} says something");
    }
    // No number is of two encoders, and what is of none is zero for every prompt.
    for (seen, [whole, none]) in seen.iter().zip([0, 1].map(|which| [&whole[which], &none[which]])) {
        for (at, seen) in seen.iter().enumerate() {
            assert!(
                *seen == 1 || *seen == 0 && whole[at] == 0.0 && none[at] == 0.0,
                "number {at} is of {seen} encoders"
            );
        }
    }
    // All three together are none.
    let all = (0..3).fold(told, |told, part| told.mask_part(part, Tensor::from_data([true, true], &device)));
    assert_eq!(numbers(all), none);
}

/// A small network that learns shapes by what the encoders of a folder say.
fn recipe(encoders: &Path, changes: &[&str]) -> Result<TextRecipe, mixflow_t2i::Error> {
    let widths = opened(encoders).widths().expect("they are known");
    let text = format!("network.text={}", json!({ "kind": "stable-diffusion-3", "folder": encoders }));
    let transformer = json!({ "input_size": 16, "patch": 4, "channels": 3, "width": 24, "depth": 2, "heads": 2,
        "context_width": widths[0], "pooled_width": widths[1], "table": 4 });
    let small = [
        &format!("network.transformer={transformer}")[..],
        &text,
        "data.size=16",
        "training.steps=6",
        "training.checkpoint_every=2",
        "training.batch=4",
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
        "post_training=null",
        "objective.condition_dropout=0",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    Ok(read_text_recipe("words", &changes)?.expect("it is for text"))
}

#[test]
fn encoders_are_left_out_by_seed_and_position_whatever_computes_them() {
    let root = tempfile::tempdir().expect("a folder");
    write_pipeline(root.path());
    let train = |name: &str, changes: &[&str], devices: usize| {
        let recipe = recipe(root.path(), changes).expect("a recipe");
        let (stop, device, folder) = (AtomicBool::new(false), Device::flex(), root.path().join(name));
        let beside = vec![Device::flex(); devices - 1];
        let run = match folder.exists() {
            true => RunFolder::resume(&folder, recipe.to_value(), &[]),
            false => RunFolder::begin(&folder, recipe.to_value()),
        };
        let launch = Launch { beside: &beside, ..Launch::new(&recipe, &device, &stop) };
        let ready = launch.check(run.expect("a folder"), &mut |_| {}).expect("a run");
        let Some(Finish::Trained(file)) = ready.run(&mut |_| {}).expect("a whole run") else { panic!("it ends") };
        let log = fs::read_to_string(folder.join("metrics.jsonl")).expect("a log");
        let losses = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        (fs::read(file).expect("weights"), losses.filter_map(|line| line["loss"].as_f64()).collect::<Vec<_>>())
    };
    let dropout = r#"objective.encoder_dropout=[0.5,0.5,0.5]"#;
    let whole = train("whole", &[dropout], 1);
    train("parts", &[dropout, "training.steps=2"], 1);
    assert!(train("parts", &[dropout], 1) == whole);
    let none = train("none", &[], 1);
    assert!(none.0 != whole.0 && train("zeros", &["objective.encoder_dropout=[0,0,0]"], 1).0 == none.0);
    let apart = |losses: &[f64]| losses.iter().zip(&whole.1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (beside, accumulated) =
        (train("beside", &[dropout], 2), train("more", &[dropout, "training.accumulation=4"], 1));
    assert!(
        apart(&beside.1) < 1e-5 && apart(&accumulated.1) < 1e-5,
        "{:?} {:?} {:?}",
        whole.1,
        beside.1,
        accumulated.1
    );
    // All three always are none: what dropping the condition does.
    let never = train("never", &["objective.encoder_dropout=[1,1,1]"], 1);
    assert!(never.0 == train("dropped", &["objective.condition_dropout=1"], 1).0);

    for (changes, words) in [
        (&["objective.encoder_dropout=[0.5,0.5]"][..], "must have a probability for each of 3 encoders, found 2"),
        (&["objective.encoder_dropout=[0.5,0.5,2]"], "a probability must be in [0, 1], found 2"),
        (
            &[
                "objective.encoder_dropout=[0.5]",
                r#"network.text={"kind":"words","width":64,"tokens":4}"#,
                "network.transformer.context_width=64",
                "network.transformer.pooled_width=64",
            ],
            "is for networks that several encoders tell of a prompt, and a multimodal transformer",
        ),
    ] {
        let error = recipe(root.path(), changes).expect_err("it is refused").to_string();
        assert!(error.contains("objective.encoder_dropout") && error.contains(words), "{error}");
    }
}
