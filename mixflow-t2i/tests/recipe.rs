//! Trainings and comparisons of networks for text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mixflow::backbones::weights::Weights;
use mixflow::compare::{Study, StudyOutcome, parts};
use mixflow::data::Dataset;
use mixflow::recipe::{NetworkSettings, ObjectiveConfig};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};

/// The recipe that comes along, small enough for a test.
fn small(changes: &[&str]) -> TextRecipe {
    let small = [
        "data.size=8",
        "network.transformer.input_size=8",
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
    assert_eq!(TextRecipe::from_value(recipe.to_value()).unwrap(), recipe);
    assert!(recipe.open().is_ok());
    // Other recipes are for others to read.
    assert_eq!(read_text_recipe("digits", &[]).unwrap(), None);
}

#[test]
fn faults_are_named() {
    for (change, words) in [
        ("network.prompts=0", "network: prompts must be at least 1"),
        ("network.text.width=32", "text.width must be what the transformer takes, context_width 64"),
        ("network.text.words=1", "unknown field `words`"),
        ("network.text={\"kind\":\"letters\"}", "letters"),
        ("network.transformer.heads=5", "transformer: "),
    ] {
        let error = read_text_recipe("words", &[change.into()]).unwrap_err().to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
    let error = small(&["network.prompts=15"]).open().unwrap_err().to_string();
    assert!(error.contains("set network.prompts=16"), "{error}");
}

#[test]
fn both_post_trainings_are_compared_on_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = small(&[]);
    let data: Arc<dyn Dataset> = Arc::new(parts(&recipe, recipe.post_training.as_ref().unwrap()).unwrap().0);
    let prompts = folder.path().join("prompts");
    let network = recipe.network.init(recipe.seed, data.classes(), &prompts, |_| {}).unwrap();
    let stop = AtomicBool::new(false);
    let study = Study {
        recipe: &recipe,
        folder: folder.path().into(),
        key: |path| official_key(path.strip_prefix("network.").unwrap_or(path)),
        autoencoder: None,
        guide: None,
        encoder: None,
        stop: &stop,
    };
    let outcome = study.run(network, None, ObjectiveConfig::flow_matching, |_| {}).unwrap();
    assert!(matches!(outcome, StudyOutcome::Finished(..)));

    // What was trained is a transformer under its published names.
    let weights = |name: &str| Weights::read(folder.path().join(name).join("model.safetensors")).unwrap();
    let again = recipe.network.init(1, data.classes(), &prompts, |_| {}).unwrap();
    let again = again.load(weights("mixflow-0")).unwrap();
    let found = Weights::of(&again.network, official_key).to_safetensors(&[]).unwrap();
    assert_eq!(found, weights("mixflow-0").to_safetensors(&[]).unwrap());
    assert_ne!(found, weights("standard-0").to_safetensors(&[]).unwrap());
    assert_eq!(recipe.network.name(), "MMDiT");
    assert!(Path::new(&folder.path().join("report.html")).is_file());
}
