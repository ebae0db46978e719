use mixflow_schedules::TimestepConfig;

use super::*;
use crate::plan::{Machine, Plan};
use crate::sampling::Rounding;

fn refuse(change: &str) -> String {
    Recipe::read("digits", &[change.into()]).unwrap_err().to_string()
}

#[test]
fn recipes_that_come_along_are_valid_and_survive_a_round_trip() {
    for name in Recipe::names() {
        let recipe = Recipe::read(name, &[]).unwrap();
        assert_eq!(recipe.name, name.trim_start_matches("paper/"));
        assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
    }
}

/// The recipes of the paper, by file name without ending.
fn paper() -> Vec<(String, Recipe)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/paper");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    // That of a decoder has a test of its own.
    files.retain(|file| DecoderRecipe::read(file.to_str().unwrap(), &[]).unwrap().is_none());
    files.sort();
    let read = |file: &PathBuf| {
        let recipe = Recipe::read(file.to_str().unwrap(), &[]).unwrap();
        (file.file_stem().unwrap().to_str().unwrap().to_string(), recipe)
    };
    files.iter().map(read).collect()
}

/// The text says the recipe's own command and what it costs, as `plan` tells it.
#[test]
fn recipes_of_the_paper_have_a_text_that_is_true() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/paper");
    let index = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    for (name, recipe) in paper() {
        assert_eq!(recipe.name, name);
        let text = std::fs::read_to_string(format!("{folder}/{name}.md")).unwrap();
        assert!(text.starts_with(&format!("# {name}\n")) && index.contains(&format!("]({name}.md)")), "{name}");
        let command = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
        let file = format!(" mixflow/recipes/paper/{name}.json");
        assert!(command.starts_with("cargo xtask ") && command.contains(&file), "{name}: {command}");
        for part in ["Hardware", "Published", "Not run here"] {
            assert!(text.contains(&format!("\n- {part}")), "{name}: {part}");
        }
        let plan = Plan::new(&recipe, Machine::named("h100").unwrap()).unwrap().to_string();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for key in ["parameters", "together", "training ", "sampling:"] {
            let line = plan.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim();
            // Of the training its time, not its images.
            let told = if key == "training " { line.split(',').next().unwrap() } else { line };
            assert!(words.contains(told), "{name}: {key} is {told}");
        }
        assert!(words.contains("of its 32-bit peak"), "{name}");
    }
}

#[test]
fn guided_recipes_of_the_paper_differ_in_sampling_alone() {
    let recipes = paper();
    let guided: Vec<_> = recipes.iter().filter(|(name, _)| name.contains("-guided")).collect();
    assert_eq!(guided.len(), 4);
    for (name, guided) in guided {
        let plain = name.replace("-guided", "");
        let (_, plain) = recipes.iter().find(|(other, _)| *other == plain).unwrap();
        let sampling = SamplingConfig { guidance: None, guide: None, ..guided.sampling.clone() };
        assert_eq!(&Recipe { name: plain.name.clone(), sampling, ..guided.clone() }, plain);
        let guide = guided.sampling.active_guide().unwrap();
        // DiT^DH-S: 196,455,764 parameters at 256 px, with a larger position table at 512.
        let table = 384 * (guide.network.token_grid().iter().product::<usize>() as u64 - 256);
        assert_eq!(guide.network.parameters(), 196_455_764 + table, "{name}");
    }
}

#[test]
fn recipes_of_the_paper_have_the_published_networks_and_laws() {
    for (name, parameters, shape) in [
        ("sit-b-2-256", 130_512_416, [4, 32, 32]),
        ("sit-xl-2-256", 675_129_632, [4, 32, 32]),
        ("sit-xl-2-512", 676_014_368, [4, 64, 64]),
        ("repa-b-2-256", 137_845_008, [4, 32, 32]),
        ("repa-l-2-256", 465_955_600, [4, 32, 32]),
        ("repa-xl-2-256", 683_242_512, [4, 32, 32]),
        ("dit-dh-xl-256", 838_675_796, [768, 16, 16]),
        ("dit-dh-xl-512", 839_560_532, [768, 32, 32]),
        ("dit-dh-xl-256-guided", 838_675_796, [768, 16, 16]),
        ("dit-dh-xl-512-guided", 839_560_532, [768, 32, 32]),
        ("lightning-dit-xl-256", 677_248_384, [768, 16, 16]),
    ] {
        for (suffix, slowed) in [("", false), ("-mixflow", true)] {
            let file = format!("{}/recipes/paper/{name}{suffix}.json", env!("CARGO_MANIFEST_DIR"));
            let recipe = Recipe::read(&file, &[]).unwrap();
            assert_eq!(recipe.name, format!("{name}{suffix}"));
            assert_eq!(recipe.network.parameters(), parameters, "{name}");
            assert_eq!(matches!(recipe.objective.timesteps, TimestepConfig::MixFlow(_)), slowed, "{name}");
            // The latents that the recipe trains on are those that its autoencoder decodes.
            let side = if name.contains("512") { 512 } else { 256 };
            assert_eq!(recipe.autoencoder.unwrap().latent_shape([3, side, side]).unwrap(), shape, "{name}");
            assert_eq!(recipe.network.shape(), shape, "{name}");
        }
    }
}

#[test]
fn overrides_change_the_recipe() {
    let set = ["training.steps=7", "name=other", "objective.timesteps={\"kind\":\"mixflow\",\"gamma\":0.5}"];
    let recipe = Recipe::read("digits", &set.map(String::from)).unwrap();
    assert_eq!((recipe.training.steps, recipe.name.as_str()), (7, "other"));
    assert!(matches!(recipe.objective.timesteps, TimestepConfig::MixFlow(_)));
}

#[test]
fn data_that_the_network_cannot_learn_is_refused() {
    for (change, words) in [
        ("data.size=16", "the data has 1 x 16 x 16"),
        ("data.channels=3", "the data has 3 x 32 x 32"),
        ("network.classes=4", "set network.classes=10"),
        ("post_training.images=1797", "post_training.images"),
    ] {
        let message = Recipe::read("digits", &[change.into()]).unwrap().parts(1).unwrap_err().to_string();
        assert!(message.contains(words), "{change}: {message}");
    }
    assert!(Recipe::read("shapes", &[]).unwrap().open().is_ok());
}

#[test]
fn a_guide_takes_the_place_of_the_null_class() {
    let guide = |network: &str| format!(r#"sampling.guide={{"weights":"w.pt","network":{network}}}"#);
    let network = r#"{"kind":"sit","input_size":32,"patch":8,"channels":1,"width":24,"depth":1,"heads":3,"hidden":96,
        "classes":10,"null_class":false}"#;
    let scale = || "sampling.guidance.scale=1.5".to_string();
    let unlabelled = ["network.null_class=false", "objective.condition_dropout=0"].map(String::from);
    let read = |changes: &[String]| Recipe::read("digits", &[&unlabelled[..], changes].concat());
    assert!(read(&[scale()]).unwrap_err().to_string().contains("null_class, or sampling.guide"));
    let recipe = read(&[scale(), guide(network)]).unwrap();
    assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
    for (changes, words) in [
        (vec![guide(network)], "no effect without sampling.guidance"),
        (vec![scale(), guide(&network.replace("\"classes\":10", "\"classes\":9"))], "knows 9 classes"),
        (vec![scale(), guide(&network.replace("32", "16"))], "makes 1 x 16 x 16"),
        (vec![scale(), guide(&network.replace("\"heads\":3", "\"heads\":7"))], "sampling.guide.network.width must"),
        (vec![scale(), guide(&network.replace("\"width\"", "\"wide\""))], "wide"),
    ] {
        let message = read(&changes).unwrap_err().to_string();
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn faults_are_named() {
    for (change, words) in [
        ("training.stepz=7", "stepz"),
        ("training.steps=many", "--set training.steps=many"),
        ("network.kind=foo", "network.kind: unknown value `foo`"),
        ("network.dept=3", "network.dept: unknown key `dept`, perhaps `depth`"),
        ("training.steps=0", "steps"),
        ("training.optimizer.betas=[0.9,1.5]", "betas"),
        ("objective.condition_dropout=2", "condition_dropout"),
        ("objective.timesteps={\"kind\":\"mixflow\",\"gamma\":1.5}", "gamma"),
        ("network.heads=7", "7 heads"),
        ("objective.alignment={}", "of kind repa"),
        ("name=../up", "name"),
        ("seed.a=1", "set it as a whole"),
        ("seed", "key=value"),
    ] {
        assert!(refuse(change).contains(words), "{change}: {}", refuse(change));
    }
    assert!(Recipe::read("nothing", &[]).unwrap_err().to_string().contains("digits"));
}

#[test]
fn a_variance_is_learned_by_networks_that_say_one() {
    let read = |changes: &[&str]| {
        let dit = [
            "network.kind=dit",
            "network.learn_sigma=true",
            "objective.schedule={\"kind\":\"ddpm\"}",
            "objective.prediction=noise",
            "objective.learned_variance=true",
            "sampling.solver.kind=ancestral",
            "post_training=null",
        ];
        let changes: Vec<String> = dit.iter().chain(changes).map(|change| (*change).into()).collect();
        Recipe::read("digits", &changes)
    };
    let recipe = read(&[]).unwrap();
    assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
    assert!(
        matches!(recipe.objective.objective(), ConfiguredObjective::Hybrid(hybrid) if hybrid.condition_dropout == 0.1)
    );
    for (change, words) in [
        ("network.learn_sigma=false", "needs a network that says a variance, such as dit with learn_sigma"),
        ("network.kind=sit", "needs a network that says a variance"),
        ("objective.prediction=velocity", "is for {\"kind\": \"ddpm\"} and noise"),
        ("objective.schedule={\"kind\":\"vp\"}", "is for {\"kind\": \"ddpm\"} and noise"),
        ("objective.timesteps={\"kind\":\"mixflow\",\"gamma\":0.8}", "with uniform times"),
        (
            "post_training={\"steps\":1,\"gamma\":0.8,\"seeds\":1,\"images\":9,\"solver_steps\":[]}",
            "leave out objective",
        ),
    ] {
        let message = read(&[change]).unwrap_err().to_string();
        assert!(message.contains(words), "{change}: {message}");
    }
}

#[test]
fn a_sampler_is_described_with_all_of_its_guidance() {
    let describe = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
        Recipe::read("digits", &changes).unwrap().sampling.describe()
    };
    let scale = "sampling.guidance.scale=1.5";
    assert_eq!(describe(&["sampling.guidance.scale=1"]), "Heun");
    assert_eq!(describe(&[scale]), "Heun, guidance 1.5");
    assert_eq!(
        describe(&[scale, "sampling.guidance.interval=[0.1,0.7]", "sampling.guidance.channels=1"]),
        "Heun, guidance 1.5 from t = 0.1 to 0.7 in channels 1 to 1"
    );
}

#[test]
fn a_program_can_tell_what_is_wrong_with_a_recipe() {
    let fault = |change: &str| match Recipe::read("digits", &[change.into()]).unwrap_err() {
        Error::Recipe { origin, fault } => {
            assert_eq!(origin, format!("--set {change}"));
            fault
        }
        other => panic!("{other}"),
    };
    assert!(matches!(fault("training.stepz=1"), Fault::Unreadable { key, .. } if key == "training.stepz"));
    assert!(matches!(fault("training.batch=0"), Fault::Invalid(invalid) if invalid.key == "training.batch"));
    assert!(matches!(fault("kind=rae-decoder"), Fault::OtherKind(_)));
    assert!(matches!(Recipe::read("digit", &[]), Err(Error::NoRecipe { .. })));
    let too_small = Recipe::read("digits", &["data.size=8".into()]).unwrap().open();
    assert!(matches!(too_small, Err(Error::Unfit { .. })));
    let unfit = Recipe::read("digits", &[]).unwrap().check_memory(1, false).unwrap_err();
    assert!(matches!(unfit, Error::TooLarge { available: 1, .. }));
}

#[test]
fn sampling_that_makes_no_sense_is_refused() {
    let refused = |changes: &[&str], words: &str| {
        let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
        let error = Recipe::read("digits", &changes).unwrap_err().to_string();
        assert!(error.contains(words), "{changes:?}: {error}");
    };
    let stochastic = r#"sampling.solver={"kind":"euler-maruyama","diffusion":{"kind":"sigma"},"last_step":"tweedie"}"#;
    refused(&["sampling.batch=0"], "sampling.batch must be at least 1, found 0");
    refused(
        &["sampling.guidance.scale=2", "sampling.guidance.channels=3"],
        "sampling.guidance.channels must be at most 1, all that there are, found 3",
    );
    refused(&[r#"sampling.grid={"steps":5,"start":1,"end":0}"#], "sampling.grid runs from data to noise");
    refused(&[stochastic, "sampling.grid.end=0.96"], "the grid ends at t = 0.96");
    // Said before anything is trained.
    refused(
        &[r#"sampling.grid={"steps":5,"end":0.96,"last":1}"#, "post_training.solver_steps=[4,1]"],
        "post_training.solver_steps do not fit the grid of sampling: `steps` must be from 2 to 100001",
    );
    refused(&["post_training.solver_steps=[2,4,2]"], "post_training.solver_steps have 2 twice");
    // Without effect: each measurement would count as another.
    let adaptive = r#"sampling.solver={"kind":"adaptive","pair":"heun-euler","atol":1e-3,"rtol":1e-3}"#;
    refused(&[adaptive], "post_training.solver_steps are for a solver of fixed steps");
    let validation = r#"validation={"every":5,"solver_steps":4}"#;
    refused(&[adaptive, "post_training=null", validation], "validation.solver_steps are for a solver of fixed steps");
    // Weights that change nothing, of the recipe and of an arm.
    refused(&["objective.weighting=likelihood"], "objective.weighting is for predictions of noise, score and data");
    let arms = r#"post_training.arms=["standard",{"name":"weighted","objective":{"weighting":"velocity"}}]"#;
    refused(&[arms], "objective.weighting is for predictions of noise, score and data");
}

#[test]
fn every_recipe_that_comes_along_is_known_by_name() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut files = vec![];
    for (folder, start) in [(root.to_string(), ""), (format!("{root}/paper"), "paper/")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            files.extend(file.strip_suffix(".json").map(|name| format!("{start}{name}")));
        }
    }
    let mut known: Vec<String> = names().map(String::from).collect();
    for names in [&mut files, &mut known] {
        names.sort();
    }
    assert_eq!(known, files);
    for name in ["paper/sit-xl-2-256", "paper/sit-xl-2-256-mixflow"] {
        assert_eq!(Recipe::read(name, &[]).unwrap().name, &name[6..]);
    }
    assert!(DecoderRecipe::read("paper/rae-decoder-xl", &[]).unwrap().is_some());
    let error = Recipe::read("paper/rae-decoder-xl", &[]).unwrap_err().to_string();
    assert!(error.contains("`train` and `plan` alone"), "{error}");
}

#[test]
fn a_wrong_name_lists_small_recipes_and_the_one_that_was_meant() {
    let listed = "; recipes are emoji, digits, shapes, repa, rae, rivals and 24 of published networks";
    assert_eq!(names().filter(|name| name.starts_with("paper/")).count(), 24);
    for (name, meant) in [
        ("digit", "perhaps digits;"),
        ("digits.json", "perhaps digits;"),
        ("sit-xl-2-256-mixflow", "perhaps paper/sit-xl-2-256-mixflow;"),
        ("paper/sit-xl-2-256-mixflw", "perhaps paper/sit-xl-2-256-mixflow;"),
        ("nothing like it", "of that name;"),
    ] {
        let error = Recipe::read(name, &[]).unwrap_err().to_string();
        assert!(error.contains(meant) && error.ends_with(listed), "{name}: {error}");
    }
}

/// Every value of a recipe, by its key.
fn keys(value: &Value, key: String, all: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
        _ => vec![],
    };
    for (name, value) in inner {
        let key = if key.is_empty() { name } else { format!("{key}.{name}") };
        all.push(key.clone());
        keys(value, key, all);
    }
}

/// What only a programmer of this crate knows: names of types, and Serde's words.
fn foreign(message: &str) -> Option<&str> {
    const WORDS: [&str; 18] = [
        "struct", "enum", "u8", "u16", "u32", "u64", "usize", "i64", "f32", "f64", "tuple", "newtype", "variant",
        "map", "sequence", "Option", "field", "invalid",
    ];
    let mut words = message.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.find(|word| {
        let capitals = word.chars().filter(char::is_ascii_uppercase).count();
        let of_a_type =
            capitals > 1 && word.ends_with("Config") || word.ends_with("Training") || word.ends_with("Kind");
        WORDS.contains(word) || of_a_type
    })
}

#[test]
fn a_wrong_value_of_any_key_is_told_in_words_of_the_recipe() {
    let wrong = ["null", "true", "-1", "1.5", "1e300", "\"x\"", "[]", "[1]", "{}", "{\"x\":1}"];
    let mut refused = 0;
    for name in names() {
        let text = read::embedded(name).unwrap();
        let recipe = serde_json::from_str::<Value>(text).unwrap();
        let decoder = DecoderRecipe::is_one(&recipe);
        let full = if decoder {
            DecoderRecipe::from_value(recipe).unwrap().to_value()
        } else {
            Recipe::from_value(recipe).unwrap().to_value()
        };
        let mut all = vec![];
        keys(&full, String::new(), &mut all);
        for key in all {
            for change in wrong.iter().map(|value| format!("{key}={value}")).chain([format!("{key}_.x=1")]) {
                let error = match decoder {
                    true => DecoderRecipe::read(name, std::slice::from_ref(&change)).err(),
                    false => Recipe::read(name, std::slice::from_ref(&change)).err(),
                };
                let Some(message) = error.map(|error| error.to_string()) else { continue };
                refused += 1;
                assert_eq!(foreign(&message), None, "{name}: {message}");
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn what_a_message_is_about_is_named_inside_of_a_value_of_several_kinds() {
    for (change, words) in [
        (
            r#"training.optimizer.learning_rate={"kind":"constant","rate":"fast"}"#,
            "learning_rate.rate: expected a number, found the text \"fast\"",
        ),
        (r#"network={"kind":"sit","input_size":32,"patch":"8"}"#, "network.patch: expected a whole number"),
        ("post_training.solver_steps.0=3", "`post_training.solver_steps` is a list: set it as a whole"),
        ("data={\"kind\":\"digits\"", "the value is not JSON: the text ends in the middle of an object"),
        ("training..steps=1", "an empty part"),
        ("trainign.steps=1", "unknown key `trainign`, perhaps `training`"),
        ("training.steps.x=1", "`training.steps` is 800: set it as a whole"),
    ] {
        assert!(refuse(change).contains(words), "{change}: {}", refuse(change));
    }
}

#[test]
fn recipes_of_the_paper_round_as_the_code_of_their_networks() {
    for name in Recipe::names().filter_map(|name| name.strip_prefix("paper/")) {
        let floor = ["repa-", "dit-dh-", "lightning-dit-"].iter().any(|network| name.starts_with(network));
        let expected = if floor { Rounding::Floor } else { Rounding::Nearest };
        assert_eq!(Recipe::read(&format!("paper/{name}"), &[]).unwrap().sampling.bytes, expected, "{name}");
    }
}
