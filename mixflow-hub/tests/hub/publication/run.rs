//! Runs that last a moment.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mixflow::compare::{Study, StudyOutcome};
use mixflow::data::Classes;
use mixflow::evaluation::{Measures, evaluate};
use mixflow::files::WeightsFile;
use mixflow::recipe::{ObjectiveConfig, Recipe};
use mixflow::train::{Checkpoints, Outcome, Run, Snapshot, TrainState};
use serde_json::{Value, json};

static GO_ON: AtomicBool = AtomicBool::new(false);

/// The recipe of a network that makes images of 8 x 8, with other values for some keys.
pub(crate) fn recipe(changes: Value) -> Recipe {
    let mut value = json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 3, "batch": 4, "checkpoint_every": 3, "optimizer": { "average": 0.5 } },
        "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 3 } }
    });
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    Recipe::from_value(value).unwrap()
}

/// What `cargo xtask train` leaves of a recipe without comparison.
pub(crate) fn train(folder: &Path, changes: Value) -> Recipe {
    let recipe = recipe(changes);
    let run = Run {
        folder: folder.into(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: recipe.seed,
        data: recipe.open().unwrap(),
        conditioner: Arc::new(Classes(recipe.network.classes())),
        flip: false,
        encoder: None,
        beside: &[],
        stop: &GO_ON,
    };
    let network = recipe.network.init(recipe.seed, &Default::default());
    let outcome = run.train(network, &recipe.objective.objective(), |_| {}).unwrap();
    let Outcome::Finished(state) = outcome else { panic!("it was not asked to stop") };
    let average = state.average();
    average.weights().write(folder.join("model.safetensors"), &[("format", "pt")]).unwrap();
    write_recipe(folder, &recipe);
    recipe
}

/// The same of a training whose network stayed as it was.
pub(crate) fn stop_at_the_end(folder: &Path, changes: Value) -> Recipe {
    let recipe = recipe(changes);
    let state = TrainState::new(recipe.network.init(recipe.seed, &Default::default()));
    let snapshot = Snapshot { step: recipe.training.steps, ..state.snapshot() };
    fs::create_dir_all(folder).unwrap();
    Checkpoints::new(folder.join("checkpoints"), 2).save(&snapshot, &recipe.to_value()).unwrap();
    state.average().weights().write(folder.join("model.safetensors"), &[("format", "pt")]).unwrap();
    write_recipe(folder, &recipe);
    recipe
}

fn write_recipe(folder: &Path, recipe: &Recipe) {
    fs::write(folder.join("recipe.json"), serde_json::to_string_pretty(recipe).unwrap()).unwrap();
}

/// What `cargo xtask train` leaves of a comparison.
pub(crate) fn compare(folder: &Path) {
    let recipe = recipe(json!({
        "post_training": { "steps": 2, "gamma": 0.8, "seeds": 1, "images": 16, "solver_steps": [2] }
    }));
    fs::create_dir_all(folder).unwrap();
    write_recipe(folder, &recipe);
    let network = recipe.network.init(recipe.seed, &Default::default());
    let study = Study {
        recipe: &recipe,
        local: &recipe.network,
        folder: folder.into(),
        conditioner: Arc::new(Classes(recipe.network.classes())),
        autoencoder: None,
        guide: None,
        encoder: None,
        measures: Measures::default(),
        seen: None,
        beside: &[],
        stop: &GO_ON,
    };
    let outcome = study.run(network, None, ObjectiveConfig::objective, |_| {}).unwrap();
    assert!(matches!(outcome, StudyOutcome::Finished(..)));
}

/// What `cargo xtask eval` leaves; returns the Fréchet distance.
pub(crate) fn measure(folder: &Path) -> f64 {
    let recipe = Recipe::from_value(super::read(&folder.join("recipe.json"))).unwrap();
    let file = folder.join("model.safetensors");
    let weights = mixflow::backbones::weights::Weights::read(&file).unwrap();
    let network = recipe.network.init(0, &Default::default()).load(weights).unwrap();
    let evaluation =
        evaluate(&recipe, &recipe.generator(&network, &Classes(10)), 16, &Measures::default(), None, &mut |_| {})
            .unwrap();
    let found = json!({
        "evaluation": evaluation, "weights": WeightsFile::read(&file).unwrap(), "autoencoder": [], "version": "0.1.0"
    });
    fs::write(folder.join("eval.json"), serde_json::to_vec_pretty(&found).unwrap()).unwrap();
    evaluation.measurement.generated.frechet
}

/// A number as a card shows it.
pub(crate) fn shown(number: f64) -> String {
    format!("{number:.5e}").parse::<f64>().unwrap().to_string()
}
