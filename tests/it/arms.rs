//! Comparisons of any arms, from a recipe to its results.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use mixflow::compare::{Progress, Study, StudyOutcome};
use mixflow::data::Classes;
use mixflow::evaluation::{Measures, Measuring, evaluate};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::report::Arm;
use mixflow::train::{Event, Start};
use mixflow_backbones::weights::Weights;
use serde_json::{Value, json};

fn recipe(arms: &Value) -> Recipe {
    let post = json!({ "steps": 2, "gamma": 0.8, "seeds": 2, "images": 16, "solver_steps": [2], "arms": arms });
    let set = ["network.width=24", "network.depth=1", "training.steps=3", "training.batch=8", "sampling.grid.steps=3"];
    let set: Vec<String> = set.iter().map(ToString::to_string).chain([format!("post_training={post}")]).collect();
    Recipe::read("digits", &set).expect("it is a recipe")
}

fn study<'a>(recipe: &'a Recipe, folder: &Path, stop: &'a AtomicBool) -> Study<'a> {
    Study {
        recipe,
        local: &recipe.network,
        folder: folder.into(),
        conditioner: Arc::new(Classes(recipe.network.classes())),
        autoencoder: None,
        guide: None,
        encoder: None,
        measures: Measures::default(),
        seen: None,
        beside: &[],
        stop,
    }
}

/// Runs until it ends, or until so many steps were taken; how many were, and the results if it ended.
fn run(recipe: &Recipe, folder: &Path, most: Option<usize>) -> (usize, Option<Value>) {
    let stop = AtomicBool::new(false);
    let told = AtomicUsize::new(0);
    let study = study(recipe, folder, &stop);
    let network = recipe.network.init(recipe.seed, &Device::default());
    let objective = |config: &_| NetworkSettings::objective(&recipe.network, config);
    let tell = |event: Progress| {
        let stepped = matches!(event, Progress::Training { event: Event::Stepped(_), .. });
        if stepped && Some(told.fetch_add(1, Ordering::Relaxed)) == most {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let results = match study.run(network, None, objective, tell).expect("nothing is wrong") {
        StudyOutcome::Finished(..) => {
            let text = std::fs::read_to_string(folder.join("results.json")).expect("it was written");
            Some(serde_json::from_str(&text).expect("it is JSON"))
        }
        StudyOutcome::Interrupted => None,
    };
    (told.into_inner(), results)
}

fn arms() -> Value {
    json!([
        "standard",
        "mixflow",
        { "name": "perturbed", "objective": { "perturbation": { "kind": "input", "gamma": 0.1 } } },
        { "name": "start-es", "of": "start", "correction": { "kind": "epsilon-scaling", "scale": 1.01 } },
        {
            "name": "mixflow-ssc", "of": "mixflow",
            "correction": { "kind": "schedule-corrector", "a": 0, "b": 0 },
            "search": { "a": [-0.5, 0.1], "b": [0, 2] }
        },
    ])
}

#[test]
fn any_arms_are_compared_and_a_stopped_comparison_goes_on() {
    let (recipe, root) = (recipe(&arms()), tempfile::tempdir().expect("a folder"));
    let (told, whole) = run(&recipe, &root.path().join("whole"), None);
    let folder = root.path().join("stopped");
    let (before, stopped) = run(&recipe, &folder, Some(told / 2));
    assert!(stopped.is_none());
    // As it was stopped when files of weights did not name their format.
    let weights = Weights::read(folder.join("pretraining/model.safetensors")).expect("it was trained");
    let former = Start::of_weights("pretraining/model.safetensors", &weights, &[("library_name", "mixflow")]);
    let former = serde_json::to_value(former.expect("it has a hash")).expect("plain data");
    let begun = folder.join("standard-0/start.json");
    let now: Value = serde_json::from_slice(&std::fs::read(&begun).expect("it began")).expect("it is JSON");
    assert_ne!(now["files"][0]["sha256"], former["files"][0]["sha256"]);
    std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path().join("start.json")).for_each(
        |file| {
            if file.is_file() {
                std::fs::write(file, former.to_string()).expect("it can be written");
            }
        },
    );
    let (after, resumed) = run(&recipe, &folder, None);
    // Three of the pre-training, and two of each of two seeds of three trainings.
    assert_eq!((told, before + after), (3 + 2 * 2 * 3, told), "what is trained is not trained again");
    let [whole, resumed] = [whole, resumed].map(|results| results.expect("it ended"));
    assert_eq!(resumed["results"], whole["results"]);
    let table = whole["results"]["table"].as_array().expect("a list");
    let of = |arm: &str| table.iter().filter(|scores| scores["arm"] == arm).collect::<Vec<_>>();
    // One start, and two seeds of all else that its networks are of.
    for (arm, count) in
        [("start", 1), ("standard", 2), ("mix_flow", 2), ("perturbed", 2), ("start-es", 1), ("mixflow-ssc", 2)]
    {
        assert_eq!(of(arm).len(), count, "{arm}");
        assert!(of(arm).iter().all(|scores| scores["evaluations"] == 6), "{arm}: no correction evaluates a network");
    }
    assert_eq!(whole["results"]["others"].as_array().map(Vec::len), Some(table.len()), "every arm at two steps, too");
    let chosen = &of("mixflow-ssc")[0]["correction"];
    assert!([-0.5, 0.1].contains(&chosen["a"].as_f64().expect("a number")), "{chosen}");
    assert_ne!(of("perturbed")[0]["measurement"], of("standard")[0]["measurement"]);
    assert_ne!(of("start-es")[0]["measurement"], of("start")[0]["measurement"]);
    assert!(of("mixflow-ssc")[0]["measurement"]["generated"]["coverage"].is_number());

    let report: mixflow::report::Report = serde_json::from_value(whole["report"].clone()).expect("a report");
    let named = |name: &str| Arm::Other(name.into());
    let order = [Arm::Start, Arm::Standard, Arm::MixFlow, named("start-es"), named("perturbed"), named("mixflow-ssc")];
    assert_eq!(report.order().len(), order.len());
    assert!(order.iter().all(|arm| report.order().contains(arm)), "{:?}", report.order());
    // Fifteen pairs in nine measures, and in one of them at two steps.
    assert_eq!(report.differences.len(), 15 * (9 + 1));
    let pair = report.differences.iter().find(|found| found.arm == named("perturbed") && found.than == Arm::Standard);
    assert!(pair.is_some_and(|pair| pair.values.count() == 2 && pair.interval.is_some()));
    assert!(report.notes.iter().any(|note| note.starts_with("mixflow-ssc chose of 4 candidates")));
    let ratio = report.table.metrics(&Arm::MixFlow).expect("a row").frechet_ratio.mean().expect("a number");
    let measured = &of("mix_flow")[0]["measurement"];
    assert!(ratio > 0.0 && measured["floor"]["frechet"].as_f64().expect("a number") > 0.0);
    for (arm, trained) in [(Arm::Start, 0), (Arm::MixFlow, 1), (named("mixflow-ssc"), 0)] {
        let metrics = report.table.metrics(&arm).expect("a row");
        assert_eq!(metrics.training_seconds.count(), trained, "{arm:?}");
        assert!(metrics.sampling_seconds.count() > 0, "{arm:?}");
    }
    assert_eq!(report.slow_flow[0].bands.len(), 6);
    assert!(report.html().contains("mixflow-ssc"));
}

/// Each training by its folder: the order of its steps among those of all, and its weights.
fn trained(recipe: &Recipe, threads: usize) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let root = tempfile::tempdir().expect("a folder");
    let (steps, stop) = (Mutex::new(vec![]), AtomicBool::new(false));
    let study = study(recipe, root.path(), &stop);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let network = recipe.network.init(recipe.seed, &Device::default());
        let objective = |config: &_| NetworkSettings::objective(&recipe.network, config);
        let tell = |event: Progress| {
            if let Progress::Training { folder, event: Event::Stepped(_) } = event {
                steps.lock().expect("nothing panics").push(folder.to_path_buf());
            }
        };
        study.run(network, None, objective, tell).expect("nothing is wrong");
    });
    let mut found = BTreeMap::new();
    for (place, folder) in steps.into_inner().expect("nothing panics").into_iter().enumerate() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let weights = std::fs::read(folder.join("model.safetensors")).expect("it was trained");
        found.entry(name).or_insert((vec![], weights)).0.push(place);
    }
    found
}

#[test]
fn trainings_at_once_are_the_same_bits_as_one_after_another() {
    let mut recipe = recipe(&json!(["standard", "mixflow"]));
    recipe.post_training.as_mut().expect("a comparison").steps = 40;
    let [one, several] = [1, 3].map(|threads| trained(&recipe, threads));
    let overlap = |all: &BTreeMap<String, (Vec<usize>, Vec<u8>)>| {
        let arms = all.iter().filter(|(name, _)| *name != "pretraining").map(|(_, (steps, _))| steps);
        arms.filter(|steps| steps[39] - steps[0] > 39).count()
    };
    assert_eq!((overlap(&one), one.len()), (0, 5));
    assert!(overlap(&several) > 1, "they take turns");
    for (name, (_, weights)) in one {
        assert!(several[&name].1 == weights, "{name}");
    }
}

/// Runs with two threads and hears of all events with the folder's name; `heard` may stop the study.
fn heard(
    recipe: &Recipe,
    root: &Path,
    heard: impl Fn(&str, &Event, &AtomicBool) + Sync,
) -> Result<StudyOutcome, String> {
    let stop = AtomicBool::new(false);
    let study = study(recipe, root, &stop);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    pool.install(|| {
        let network = recipe.network.init(recipe.seed, &Device::default());
        let objective = |config: &_| NetworkSettings::objective(&recipe.network, config);
        let tell = |event: Progress| {
            if let Progress::Training { folder, event } = event {
                heard(&folder.file_name().expect("a name").to_string_lossy(), &event, &stop);
            }
        };
        study.run(network, None, objective, tell).map_err(|error| error.to_string())
    })
}

#[test]
fn a_training_that_fails_stops_those_beside_it_at_a_checkpoint() {
    let mut recipe = recipe(&json!(["standard", "mixflow"]));
    recipe.post_training.as_mut().expect("a comparison").steps = 400;
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(root.path().join("mixflow-0/metrics.jsonl")).expect("a folder in the place of a file");
    let (steps, saved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let count = |name: &str, event: &Event, _: &AtomicBool| match event {
        Event::Stepped(_) if name != "pretraining" => drop(steps.fetch_add(1, Ordering::Relaxed)),
        Event::Saved(_) if name == "standard-0" => drop(saved.fetch_add(1, Ordering::Relaxed)),
        _ => {}
    };
    let error = heard(&recipe, root.path(), count).expect_err("it fails");
    assert!(error.contains("mixflow-0"), "{error}");
    assert!(steps.into_inner() < 400, "nothing is trained to its end for a comparison that has failed");
    assert!(saved.into_inner() <= 1);
    assert!(!root.path().join("standard-1").exists(), "none is begun any more");
}

#[test]
fn arms_that_are_none_are_refused() {
    for (arms, words) in [
        (json!(["standart"]), "no arm `standart` is known: standard, mixflow, control"),
        (
            json!(["standard", { "name": "standard" , "objective": { "defar": { "beta": 1 } } }]),
            "two arms have its name",
        ),
        (json!([{ "name": "a b" }]), "letters, digits"),
        (json!([{ "name": "start" }]), "its name is taken"),
        (json!([]), "at least one arm"),
        (
            json!([{ "name": "Standard" }, "mixflow"]),
            "`Standard`: its name stands for an arm that is described already",
        ),
        (json!([{ "name": "MixFlow" }]), "`MixFlow`: its name stands for"),
        (json!([{ "name": "x", "objectiv": {} }]), "unknown key `objectiv`"),
        (json!([{ "name": "x", "objective": { "prediction": "noise" } }]), "arms may differ in timesteps"),
        (
            json!([{ "name": "x", "objective": { "defar": { "beta": -1 } } }]),
            "objective.defar.beta must be a number above 0",
        ),
        (
            json!([{ "name": "x", "of": "standard", "correction": { "kind": "dcw" } }]),
            "there is no training `standard` among the arms",
        ),
        (json!(["standard", { "name": "x", "of": "standard" }]), "needs a `correction`"),
        (json!([{ "name": "x", "correction": { "kind": "dcw" } }]), "it needs `of`"),
        (json!([{ "name": "x", "of": "start", "correction": { "kind": "dc" } }]), "unknown value `dc`"),
        (
            json!([{ "name": "x", "of": "start", "correction": { "kind": "epsilon-scaling", "scale": 0 } }]),
            "sampling.correction.scale must be a number above 0",
        ),
        (
            json!([{ "name": "x", "of": "start", "correction": { "kind": "dcw", "low": 0 }, "search": { "hihg": [1] } }]),
            "searches `hihg`",
        ),
        (
            json!([{ "name": "x", "of": "start", "correction": { "kind": "dcw", "low": 0 }, "search": { "low": [] } }]),
            "searches no value of `low`",
        ),
    ] {
        let change = format!("post_training.arms={arms}");
        let error = Recipe::read("digits", &[change]).expect_err("it is refused").to_string();
        assert!(error.contains(words), "{arms}: {error}");
    }
    // A recipe that names none reads, writes and compares as before.
    let usual = Recipe::read("digits", &[]).expect("it is a recipe");
    assert!(usual.to_value()["post_training"].get("arms").is_none());
    let named = Recipe::read("digits", &[r#"post_training.arms=["standard","mixflow","control"]"#.into()]);
    assert_eq!(named.expect("it is a recipe"), usual);
}

#[test]
fn networks_that_are_told_scenes_are_scored_by_what_they_show() {
    let post = json!({
        "steps": 1, "gamma": 0.8, "seeds": 2, "images": 160, "solver_steps": [1], "slow_flow": false,
        "arms": ["standard", "mixflow", { "name": "less", "of": "start", "correction": { "kind": "epsilon-scaling", "scale": 1.01 } }],
    });
    let set = [
        r#"data={"kind":"scenes","size":16}"#,
        "network.input_size=16",
        "network.patch=8",
        "network.width=24",
        "network.depth=1",
        "network.heads=2",
        "network.classes=158",
        "training.steps=1",
        "training.batch=4",
        "sampling.grid.steps=2",
    ];
    let set: Vec<String> = set.iter().map(ToString::to_string).chain([format!("post_training={post}")]).collect();
    let recipe = Recipe::read("shapes", &set).expect("it is a recipe");
    let root = tempfile::tempdir().expect("a folder");
    let results = run(&recipe, root.path(), None).1.expect("it ended");
    let report: mixflow::report::Report = serde_json::from_value(results["report"].clone()).expect("a report");
    let names: Vec<&str> = report.table.floor.more.iter().map(|own| own.name.as_str()).collect();
    let six = ["single object", "two objects", "counting", "colours", "position", "binding"];
    assert_eq!(names[..6], six);
    assert_eq!(
        names[6..],
        [
            "overall",
            "unseen two objects",
            "unseen counting",
            "unseen colours",
            "unseen position",
            "unseen binding",
            "unseen overall"
        ]
    );
    // True images are right, those of networks that have learned nothing wrong.
    assert!(report.table.floor.more.iter().all(|own| own.values.0 == [1.0]), "{:?}", report.table.floor.more);
    for (arm, seeds) in [(Arm::Start, 1), (Arm::Standard, 2), (Arm::MixFlow, 2), (Arm::Other("less".into()), 1)] {
        let more = &report.table.metrics(&arm).expect("a row").more;
        assert_eq!(more.len(), 13, "{arm:?}");
        assert!(more.iter().all(|own| own.values.0 == vec![0.0; seeds]), "{arm:?}: {more:?}");
    }
    let others = results["results"]["others"].as_array().expect("a list");
    assert!(!others.is_empty() && others.iter().all(|scores| scores["more"].as_array().map(Vec::len) == Some(7)));
    let overall = |name: &str| report.differences.iter().filter(|found| found.measure == name).count();
    assert_eq!([overall("overall"), overall("unseen overall")], [6, 6]);
    assert!(!report.notes.iter().any(|note| note.contains("a yellow circle")), "{:?}", report.notes);
    let network = recipe.network.init(recipe.seed, &Device::default());
    let generator = recipe.generator(&network, &Classes(158));
    let mut begun = vec![];
    let found = evaluate(&recipe, &generator, 160, &Measures::default(), None, &mut |event| {
        if let Measuring::Begin(name, _) = event {
            begun.push(name);
        }
    });
    let more = found.expect("it can be measured").more;
    assert!(more.iter().map(|found| found.name.as_str()).eq(names), "{more:?}");
    assert!(more.iter().all(|found| (found.generated, found.floor) == (0.0, 1.0)), "{more:?}");
    assert_eq!(begun.last(), Some(&"sampling unseen captions"));
    let page = std::fs::read_to_string(root.path().join("report.html")).expect("it was written");
    assert!(page.contains("captions that training has no example of") && page.contains("unseen overall</th>"));
}
