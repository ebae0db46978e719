use burn::tensor::Tensor;

use super::*;
use crate::sampling::solver::testing::numbers;

const SMALL: [&str; 5] =
    ["network.width=24", "network.depth=1", "network.heads=2", "network.hidden=32", "post_training=null"];

fn recipe(changes: &[String]) -> Recipe {
    let small = SMALL.map(String::from);
    Recipe::read("digits", &[&small[..], changes].concat()).unwrap()
}

/// A finished run with these changes.
fn run(folder: &Path, changes: &[&str]) -> Network {
    let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
    let recipe = recipe(&changes);
    let network = recipe.network.init(1, &Device::default());
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("recipe.json"), recipe.to_value().to_string()).unwrap();
    network.weights().write(folder.join("model.safetensors"), &[]).unwrap();
    network
}

/// A recipe that is guided from a run's folder, with more keys of the guide.
fn guided(weights: &Path, more: Value) -> Result<Recipe, String> {
    let mut guide = json!({ "network": recipe(&[]).network, "weights": weights });
    more.as_object().unwrap().iter().for_each(|(key, value)| guide[key] = value.clone());
    let changes = ["sampling.guidance.scale=3".into(), format!("sampling.guide={guide}")];
    let small = SMALL.map(String::from);
    Recipe::read("digits", &[&small[..], &changes].concat()).map_err(|error| error.to_string())
}

/// By hand: with noise `ε` from a network that counts time backwards, the velocity of the straight path is `(x − ε) / t`.
#[test]
fn a_guide_of_another_prediction_and_direction_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let weak = run(folder.path(), &["objective.schedule.reversed=true", "objective.prediction=noise"]);
    let recipe = guided(folder.path(), json!({})).unwrap();
    let guide = recipe.guide(Path::new(""), &Device::default()).unwrap().unwrap();
    let strong = recipe.network.init(2, &Device::default());

    let (device, t) = (Device::default(), 0.25);
    let labels = Classes(10).conditions(&[3], &device).unwrap();
    let error = recipe.generator(&strong, &Classes(10)).images(&[3], 0).unwrap_err().to_string();
    assert!(error.contains("none was loaded"), "{error}");
    let generator = crate::evaluation::Generator { guide: Some(&guide), ..recipe.generator(&strong, &Classes(10)) };
    let x = crate::objective::noise(0, crate::random::Stream::Sample, 0, [1, 1, 32, 32], &device);
    let say = |network: &Network, time: f32| {
        use mixflow_backbones::Backbone;
        network.forward(x.clone(), Tensor::from_floats([time], &device), labels.clone())
    };
    let (s, w) = (say(&strong, 0.25), (x.clone() - say(&weak, 0.75)) / t);
    let expected = w.clone() + (s - w) * 3.0;
    let found = generator.flow(&[3], &device).unwrap().velocity(x.clone(), t);
    for (found, expected) in numbers(&found).into_iter().zip(numbers(&expected)) {
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} is not {expected}");
    }
    // Named by its run, the same.
    let named = GuideConfig::of_run(folder.path()).unwrap();
    assert_eq!((named.schedule, named.prediction), (guide.schedule, guide.prediction));
    assert_eq!(named.prediction, Some(Prediction::Noise));
}

/// By hand: the velocity of data `x₁` is `(x₁ − x) / (1 − t)`, but divided by no less than the guide was trained with.
#[test]
fn a_guide_keeps_its_floor() {
    let folder = tempfile::tempdir().unwrap();
    let weak = run(folder.path(), &["objective.prediction=data", "objective.floor=0.25"]);
    let recipe = guided(folder.path(), json!({})).unwrap();
    let guide = recipe.guide(Path::new(""), &Device::default()).unwrap().unwrap();
    let (device, t) = (Device::default(), 0.9);
    let flow = guide.flow(&recipe.objective, &[3], &device).unwrap();
    let x = crate::objective::noise(0, crate::random::Stream::Sample, 0, [1, 1, 32, 32], &device);
    let labels = Classes(10).conditions(&[3], &device).unwrap();
    let data = {
        use mixflow_backbones::Backbone;
        weak.forward(x.clone(), Tensor::from_floats([0.9], &device), labels)
    };
    let expected = (data - x.clone()) / 0.25;
    for (found, expected) in numbers(&flow.velocity(x, t)).into_iter().zip(numbers(&expected)) {
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} is not {expected}");
    }
    let error = guided(folder.path(), json!({ "floor": 1 })).unwrap_err();
    assert!(error.contains("guide.floor must be in [0, 1), found 1"), "{error}");
    let error = guided(folder.path(), json!({ "floor": 0.1 }))
        .map(|recipe| recipe.guide(Path::new(""), &device).unwrap_err().to_string())
        .unwrap();
    assert!(error.contains("floor is 0.1") && error.contains("trained with 0.25"), "{error}");
}

#[test]
fn what_cannot_guide_is_refused_with_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    run(&place("cosine"), &["objective.schedule.kind=cosine"]);
    run(&place("plain"), &[]);
    let autoencoder = json!({
        "kind": "kl", "weights": place("a"), "network": {
            "image_channels": 1, "latent_channels": 1, "widths": [8, 8], "depth": 1, "groups": 4, "quant_conv": false,
            "scale": 1.0
        }
    });
    run(&place("latents"), &[&format!("autoencoder={autoencoder}")]);
    let refused = |name: &str, more: Value, change: &dyn Fn(&mut Recipe), words: &[&str]| {
        let error = guided(&place(name), more).and_then(|mut recipe| {
            change(&mut recipe);
            recipe.guide(Path::new(""), &Device::default()).map(|_| ()).map_err(|error| error.to_string())
        });
        let error = error.unwrap_err();
        for word in words {
            assert!(error.contains(word), "{name}: expected `{word}` in: {error}");
        }
    };
    let same = &|_: &mut Recipe| {};
    refused("cosine", json!({}), same, &["cosine/recipe.json", r#""kind":"cosine""#, r#""kind":"linear""#]);
    refused("plain", json!({ "schedule": { "kind": "vp" } }), same, &[r#""kind":"vp""#, r#""kind":"linear""#]);
    refused("plain", json!({ "prediction": "data" }), same, &[r#"prediction is "data""#, r#"trained with "velocity""#]);
    let mut network = json!(recipe(&[]).network);
    network["heads"] = 3.into();
    refused("plain", json!({ "network": network }), same, &["network.heads is 3", "trained with 2"]);
    refused("latents", json!({}), same, &["the guide draws latents, the network that it guides images"]);

    for (name, classes) in [("plain", ["cat", "dog"]), ("own", ["cat", "fox"])] {
        std::fs::create_dir_all(place(name)).unwrap();
        std::fs::write(place(name).join("data.json"), json!({ "classes": classes }).to_string()).unwrap();
    }
    let error =
        guided(&place("plain"), json!({})).unwrap().guide(&place("own"), &Device::default()).unwrap_err().to_string();
    assert!(error.contains("class 1 as `dog`, the network that it guides as `fox`"), "{error}");

    let drawing = |weights: &str| {
        let mut config = autoencoder.clone();
        config["weights"] = json!(place(weights));
        let config: AutoencoderConfig = serde_json::from_value(config).unwrap();
        move |recipe: &mut Recipe| recipe.autoencoder = Some(config.clone())
    };
    let guide = |weights: &str| {
        let mut recipe = guided(&place("latents"), json!({})).unwrap();
        drawing(weights)(&mut recipe);
        recipe.guide(Path::new(""), &Device::default()).map(|guide| guide.is_some())
    };
    refused("plain", json!({}), &drawing("a"), &["the guide draws images, the network that it guides latents"]);
    std::fs::write(place("a"), "one").unwrap();
    std::fs::write(place("b"), "another").unwrap();
    std::fs::write(place("copy"), "one").unwrap();
    assert!(guide("a").unwrap() && guide("copy").unwrap());
    refused(
        "latents",
        json!({}),
        &drawing("b"),
        &["draws latents of", "/a, the network that it guides those of", "/b"],
    );
    // What is not here cannot be told apart.
    assert!(guide("elsewhere").unwrap());
}
