//! What the card says.

use std::fs;
use std::path::Path;

use mixflow::evaluation::inception::{EvaluationOptions, InceptionEvaluation, InceptionNetwork, Resize, Set, Setting};
use mixflow::files::WeightsFile;
use mixflow::numbers::plus_minus;
use mixflow::train::{Start, StoredNetwork};
use mixflow_hub::{Choice, Publication, SampleImages};
use serde_json::{Value, json};

use super::run::{shown, stop_at_the_end};
use super::{measure, plain, read, train, written};
use crate::python::{printed, python};
use crate::shared::{Setting as Wire, repository};

/// A choice with everything, in words that a careless writer would break on.
fn told() -> Choice {
    Choice {
        license: Some("cc-by-nc-4.0".into()),
        base_models: vec!["org/base".parse().unwrap()],
        datasets: vec!["datasets/org/digits".parse().unwrap()],
        tags: vec!["no".into(), "a: b # \"c\" é".into(), "mixflow".into(), "1e3".into()],
        ..plain()
    }
}

/// What Inception may have found of the weights in `run`.
fn inception(run: &Path, published: bool) -> InceptionEvaluation {
    let set = |name: &str| Set { name: name.into(), images: Some(50_000), given_statistics: false };
    InceptionEvaluation {
        fid: 2.2712345678,
        sfid: Some(4.5),
        inception_score: None,
        precision: Some(0.25),
        recall: None,
        kid: None,
        generated: set("/home/me/runs/tiny/model.safetensors"),
        reference: set("/data/VIRTUAL_imagenet256.npz"),
        network: InceptionNetwork {
            weights: "/home/me/inception.pth".into(),
            sha256: "0".repeat(64),
            published,
            resize: Resize::Adm,
        },
        options: EvaluationOptions::default(),
        setting: Setting {
            seed: Some(7),
            sampler: Some(json!({ "solver": { "kind": "euler" }, "grid": { "steps": 250 } }).to_string()),
            evaluations: Some(500),
            guidance: Some(json!({ "scale": 1.5 }).to_string()),
            precision: Some("f32".into()),
            checkpoint: Some(WeightsFile::read(run.join("model.safetensors")).unwrap()),
            ..Setting::default()
        },
    }
}

fn write_inception(run: &Path, published: bool) {
    let found = json!({ "inception": inception(run, published), "version": "0.1.0" });
    fs::write(run.join("inception.json"), found.to_string()).unwrap();
}

fn card(folder: &Path) -> String {
    fs::read_to_string(folder.join("README.md")).unwrap()
}

#[test]
fn every_number_is_one_that_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    let frechet = measure(&run);
    write_inception(&run, true);
    written(&run, &public, told()).unwrap();
    let text = card(&public);
    let row = format!("| Heun | 3 | 6 | f32 | 16 | as the real images | 0 | {} |", plus_minus(frechet, None));
    assert!(text.contains(&row) && text.contains("was trained on these real images too"), "{text}");
    assert!(text.contains("started from [org/base](https://huggingface.co/org/base)"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| real images | –")).count(), 1);
    let row = "| Euler, guidance 1.5 | 250 | 500 | f32 | 50000 | – | 7 | 2.271 | 4.500 | 0.2500 | \
               [results/inception.json](results/inception.json) |";
    assert!(text.contains(row), "{text}");
    // What the evaluation lacks has no column.
    assert!(text.contains("published Inception network") && text.contains("| sFID ↓ | precision ↑ | file |"), "{text}");
    // The results are those of the published file, and tell nothing about this machine.
    let model = WeightsFile::read(public.join("model.safetensors")).unwrap().sha256;
    let model = json!({ "file": "model.safetensors", "sha256": model });
    let [pixels, inception] = ["eval", "inception"].map(|name| read(&public.join(format!("results/{name}.json"))));
    assert_eq!((&pixels["weights"], &inception["inception"]["setting"]["checkpoint"]), (&model, &model));
    assert_eq!(pixels["evaluation"], read(&run.join("eval.json"))["evaluation"]);
    assert_eq!(inception["inception"]["reference"]["name"], "VIRTUAL_imagenet256.npz");
    for file in ["README.md", "results/eval.json", "results/inception.json", "config.json"] {
        let text = fs::read_to_string(public.join(file)).unwrap();
        assert!(!text.contains("/home/me") && !text.contains(folder.path().to_str().unwrap()), "{text}");
    }
    // What the network was told and how its images were decoded, of both kinds of numbers.
    let mut other = self::inception(&run, true);
    other.setting.distilled_guidance = Some(3.5);
    other.setting.guide = other.setting.checkpoint.clone();
    other.setting.tiles = Some(serde_json::from_value(json!({ "side": 64, "overlap": 8 })).unwrap());
    fs::write(run.join("inception.json"), json!({ "inception": other, "version": "0.1.0" }).to_string()).unwrap();
    let tiled = folder.path().join("tiled");
    written(&run, &tiled, told()).unwrap();
    let text = card(&tiled);
    let row =
        "| Euler, guidance 1.5 by a weaker network, told guidance 3.5, decoded in tiles of 64 latents a side | 250 |";
    assert!(text.contains(row), "{text}");
    let setting = &read(&tiled.join("results/inception.json"))["inception"]["setting"];
    assert_eq!((&setting["distilled_guidance"], &setting["tiles"]["side"]), (&json!(3.5), &json!(64)));
    // Another network than Inception has no place among what is compared.
    write_inception(&run, false);
    let other = folder.path().join("other");
    written(&run, &other, told()).unwrap();
    let text = card(&other);
    assert!(text.contains("these compare with no paper") && !text.contains("type: fid"), "{text}");
}

#[test]
fn what_a_training_started_from_is_told_as_the_run_says() {
    let folder = tempfile::tempdir().unwrap();
    let [run, base, hub, said, local] = ["run", "base", "hub", "said", "local"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    fs::rename(run.join("model.safetensors"), &base).unwrap();
    let mut start = Start::of(&StoredNetwork::File(base.clone())).unwrap();
    fs::rename(&base, run.join("model.safetensors")).unwrap();
    (start.repository, start.commit, start.part) = (Some("org/base".into()), Some("c0ffee".into()), Some("ema".into()));
    Start::write(Some(&start), &run).unwrap();

    written(&run, &hub, plain()).unwrap();
    let text = card(&hub);
    assert!(text.contains("base_model:\n  - org/base\n"), "{text}");
    let from = "from `base` (`ema`) of [org/base](https://huggingface.co/org/base/tree/c0ffee) at `c0ffee`.";
    assert!(text.contains(from) && !text.contains("The training started from"), "{text}");
    // Who says more is believed.
    let choice = Choice { base_models: vec!["org/first".parse().unwrap()], ..plain() };
    written(&run, &said, choice).unwrap();
    let text = card(&said);
    assert!(text.contains("base_model:\n  - org/first\n") && text.contains("started from [org/first]"), "{text}");
    // A file of one's own has a name and a hash, and no address.
    (start.repository, start.commit) = (None, None);
    Start::write(Some(&start), &run).unwrap();
    written(&run, &local, plain()).unwrap();
    let (text, hash) = (card(&local), &start.files[0].sha256);
    assert!(
        text.contains(&format!("from `base` (`ema`), SHA-256 `{hash}`.")) && !text.contains("base_model"),
        "{text}"
    );
}

/// Each arm by what it minimised, and a training by all of that.
#[test]
fn a_training_is_told_by_its_own_objective() {
    let folder = tempfile::tempdir().unwrap();
    let arms = json!([
        "standard", "mixflow",
        { "name": "MF04", "objective": { "timesteps": { "kind": "mixflow", "gamma": 0.4 } } },
        { "name": "perturbed", "objective": { "perturbation": { "kind": "input", "gamma": 0.1 } } },
        { "name": "off", "objective": { "perturbation": { "kind": "off-path", "strength": 0.2 } } },
        { "name": "defar", "objective": { "defar": { "beta": 0.5 } } },
        { "name": "blind", "objective": { "timesteps": { "kind": "independent", "base": { "kind": "uniform" } } } },
    ]);
    let run = folder.path().join("compared");
    let post = json!({ "steps": 2, "gamma": 0.8, "seeds": 1, "images": 16, "solver_steps": [2], "arms": arms });
    stop_at_the_end(&run, json!({ "post_training": post }));
    for (arm, method) in [
        ("pretraining", "steps of 4 images with flow matching."),
        ("standard-0", "steps of 4 images with flow matching, from "),
        ("mixflow-0", "with MixFlow Training (γ = 0.8), from "),
        ("mf04-0", "with MixFlow Training (γ = 0.4), from "),
        ("perturbed-0", "with flow matching and Input Perturbation (γ = 0.1), from "),
        ("off-0", "with flow matching and noise off the path (strength 0.2), from "),
        ("defar-0", "with flow matching and DEFAR (β = 0.5), from "),
        ("blind-0", "with flow matching at times that its labels do not tell, from "),
    ] {
        fs::create_dir(run.join(arm)).unwrap();
        fs::copy(run.join("model.safetensors"), run.join(arm).join("model.safetensors")).unwrap();
        let public = folder.path().join(arm);
        written(&run, &public, Choice { arm: Some(arm.into()), ..plain() }).unwrap();
        let text = card(&public);
        assert!(text.contains(method) && text.contains("  - flow-matching\n"), "{arm}: {text}");
    }

    let mut network = json!(super::recipe(json!({})).network);
    (network["kind"], network["learn_sigma"]) = (json!("dit"), json!(true));
    let objective = json!({ "schedule": { "kind": "ddpm" }, "prediction": "noise", "learned_variance": true });
    let [run, public] = ["dit", "public"].map(|name| folder.path().join(name));
    stop_at_the_end(&run, json!({ "network": network, "objective": objective }));
    written(&run, &public, plain()).unwrap();
    let text = card(&public);
    assert!(text.contains("steps of 4 images with the loss of DDPM and a learned variance."), "{text}");
    assert!(!text.contains("flow-matching") && !text.contains("with flow matching"), "{text}");
}

#[test]
fn what_was_not_measured_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public, stale] = ["run", "public", "stale"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    fs::write(run.join("notes.json"), "[1, 2").unwrap();
    written(&run, &public, plain()).unwrap();
    let text = card(&public);
    assert!(text.contains("Nothing was measured of these weights.") && !text.contains("model-index"), "{text}");
    for absent in ["license:", "base_model", "datasets", "samples.png", "| Heun"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    // What was measured before the weights became these.
    measure(&run);
    write_inception(&run, true);
    let mut other = inception(&run, true);
    other.setting.checkpoint = None;
    fs::write(run.join("images.json"), json!({ "inception": other }).to_string()).unwrap();
    let network = super::recipe(json!({})).network.init(9, &Default::default());
    network.weights().write(run.join("model.safetensors"), &[]).unwrap();
    let written = written(&run, &stale, plain()).unwrap();
    let expected = [
        "eval.json measured other weights: run eval again",
        "images.json does not say which weights it measured",
        "inception.json measured other weights: run eval again",
    ];
    assert_eq!(written.left_out, expected);
    let text = card(&stale);
    assert!(text.contains("Nothing was measured") && !stale.join("results").exists(), "{text}");
    // Nor are numbers of these weights by another recipe, with other data, those of this one.
    measure(&run);
    let mut measured = read(&run.join("eval.json"));
    measured["recipe"] = json!("heldout.json");
    fs::write(run.join("eval.json"), measured.to_string()).unwrap();
    let by_other = folder.path().join("by-other");
    let written = super::written(&run, &by_other, plain()).unwrap();
    assert_eq!(written.left_out[0], "eval.json measured by another recipe, heldout.json: run eval without --recipe");
    assert!(card(&by_other).contains("Nothing was measured") && !by_other.join("results").exists());
    // Nor is a result that cannot be read passed over.
    fs::write(run.join("eval.json"), "{\"evaluation\": 1}").unwrap();
    let publication = Publication::of(&run, plain(), &Default::default()).unwrap();
    let error = publication.write(&folder.path().join("next"), &repository(), "main", |_| {}).unwrap_err().to_string();
    assert!(error.contains("eval.json: is no result"), "{error}");
}

#[test]
fn classes_and_makers_of_the_data_have_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    let data = json!({ "kind": "emoji", "size": 8, "groups": ["face", "Flags"] });
    let mut network = json!(super::recipe(json!({})).network);
    (network["channels"], network["classes"]) = (json!(3), json!(2));
    let recipe = train(&run, json!({ "data": data, "network": network }));
    recipe.open().unwrap().fingerprint().unwrap().write(&run).unwrap();
    written(&run, &public, Choice::default()).unwrap();
    let text = card(&public);
    for words in [
        "\n“face”, “Flags” in turn with Heun",
        "in 2 classes (0 “face”, 1 “Flags”), trained on",
        "[Noto Emoji](https://github.com/googlefonts/noto-emoji) by Google, under the [Apache License",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_card_says_how_to_load_it() {
    let folder = tempfile::tempdir().unwrap();
    let [run, main, branch, nested] = ["run", "main", "branch", "nested"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    let picture = folder.path().join("grid.PNG");
    fs::write(&picture, "picture").unwrap();
    let publication =
        Publication::of(&run, Choice { samples: SampleImages::Picture(picture), ..plain() }, &Default::default())
            .unwrap();
    publication.write(&main, &repository(), "main", |_| {}).unwrap();
    publication.write(&branch, &repository(), "v2", |_| {}).unwrap();
    let text = card(&main);
    assert!(
        text.contains("let pipeline = Pipeline::from_hub(\"org/sit\", &mixflow::device::chosen()?)?;\n")
            && text.contains("(samples.png)")
    );
    assert!(text.contains("cargo xtask sample hf://org/sit --out images.png\n"), "{text}");
    assert!(text.contains("load_file(hf_hub_download(\"org/sit\", \"model.safetensors\"))"), "{text}");
    // Pictures and the program first, the recipe folded and last.
    let places = ["(samples.png)", "cargo add", "from_hub(", "## Model", "## Results", "## Limits", "<details>"];
    let places = places.map(|words| text.find(words).unwrap_or_else(|| panic!("{words}: {text}")));
    assert!(places.is_sorted() && text.trim_end().ends_with("</details>"), "{text}");
    assert!(text.contains("10.24432/C50P49") && text.contains("CC BY"), "{text}");
    let text = card(&branch);
    assert!(text.contains("Pipeline::from_hub(\"org/sit@v2\", &mixflow::device::chosen()?)?;\n"), "{text}");
    assert!(text.contains("sample hf://org/sit@v2 --out") && text.contains(", revision=\"v2\"))"), "{text}");
    // A slash of a branch is none of an address.
    publication.write(&nested, &repository(), "refs/pr/1", |_| {}).unwrap();
    assert!(card(&nested).contains("from_hub(\"org/sit@refs%2Fpr%2F1\","), "{}", card(&nested));
}

#[test]
fn pythons_huggingface_hub_reads_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    let frechet = measure(&run);
    write_inception(&run, true);
    written(&run, &public, told()).unwrap();
    let program = "import json, os\n\
                   from huggingface_hub import ModelCard, metadata_load\n\
                   file = os.environ['CARD']\n\
                   data = ModelCard.load(file).data\n\
                   results = [[r.task_type, r.dataset_type, r.dataset_name, r.metric_type, r.metric_name, \
                   r.metric_value, r.metric_args] for r in data.eval_results]\n\
                   print(json.dumps({'data': metadata_load(file), 'model': data.model_name, 'results': results}))";
    let wire = Wire::new();
    let Some(mut command) = python(&wire, program) else { return };
    command.env("CARD", public.join("README.md"));
    let found: Value = serde_json::from_str(&printed(command)).unwrap();
    let data = &found["data"];
    for (key, value) in [
        ("library_name", json!("mixflow")),
        ("license", json!("cc-by-nc-4.0")),
        ("base_model", json!(["org/base"])),
        ("datasets", json!(["org/digits"])),
        ("pipeline_tag", json!("unconditional-image-generation")),
    ] {
        assert_eq!(data[key], value);
    }
    let tags: Vec<&str> = data["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    assert_eq!(tags[tags.len() - 3..], ["no", "a: b # \"c\" é", "1e3"]);
    let results = found["results"].as_array().unwrap();
    let result = |kind: &str| results.iter().find(|result| result[3] == kind).unwrap();
    assert_eq!((found["model"].as_str().unwrap(), results.len()), ("sit", 5 + 3));
    let pixels = result("pixel_frechet_distance");
    assert_eq!((&pixels[0], &pixels[1]), (&json!("unconditional-image-generation"), &json!("org/digits")));
    assert_eq!(pixels[4], "Fréchet distance on pixels (Heun, 6 network evaluations)");
    assert_eq!((shown(pixels[5].as_f64().unwrap()), &pixels[6]["images"]), (shown(frechet), &json!(16)));
    let fid = result("fid");
    assert_eq!((&fid[2], &fid[5]), (&json!("VIRTUAL_imagenet256.npz"), &json!(2.27123)));
    let arguments = json!({
        "sampler": "Euler, guidance 1.5", "steps": 250, "network_evaluations": 500, "images": 50000, "seed": 7,
        "precision": "f32"
    });
    assert_eq!(fid[6], arguments);
}
