//! Files that a recipe names.

use std::fs;
use std::path::Path;

use mixflow::Pipeline;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::weights::Weights;
use mixflow::data::Classes;
use mixflow_hub::{Choice, Provision, Publication};
use serde_json::{Value, json};

use super::{bits, images, names, plain, read, train, written};

fn autoencoder() -> KlAutoencoderConfig {
    KlAutoencoderConfig { widths: vec![32, 32], depth: 1, ..KlAutoencoderConfig::stable_diffusion() }
}

/// Weights of an autoencoder in a file.
fn write_autoencoder(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    Weights::of(&autoencoder().init(2, &Default::default()), official_key).write(file, &[]).unwrap();
}

/// A run whose network makes latents. It is not trained: what is tested is what becomes of its files.
fn latent_run(run: &Path, weights: &Path) {
    fs::create_dir_all(run).unwrap();
    let recipe = super::recipe(json!({
        "data": { "kind": "folder", "path": "/home/me/photos", "size": 8 },
        "autoencoder": { "kind": "kl", "network": autoencoder(), "weights": weights },
        "network": {
            "kind": "sit", "input_size": 4, "patch": 2, "channels": 4, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        }
    }));
    recipe.network.init(1, &Default::default()).weights().write(run.join("model.safetensors"), &[]).unwrap();
    fs::write(run.join("recipe.json"), serde_json::to_string_pretty(&recipe).unwrap()).unwrap();
}

fn with(provision: Provision) -> Choice {
    Choice { files: [("autoencoder.weights".to_string(), provision)].into(), ..plain() }
}

#[test]
fn an_autoencoder_is_copied_or_referred_to_but_not_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let [run, copied, referred, cached] = ["run", "copied", "referred", "cached"].map(|name| folder.path().join(name));
    let file = folder.path().join("secret/vae.safetensors");
    write_autoencoder(&file);
    latent_run(&run, &file);
    let error = Publication::of(&run, plain(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("may not be yours to publish") && error.contains("autoencoder.weights=hf://"), "{error}");

    let done = written(&run, &copied, with(Provision::Copy)).unwrap();
    assert_eq!(names(&done), ["README.md", "autoencoder.safetensors", "config.json", "model.safetensors"]);
    assert_eq!(bits(&images(&copied)), bits(&images(&run)));
    let config = read(&copied.join("config.json"));
    assert_eq!(config["autoencoder"]["weights"], "autoencoder.safetensors");
    assert_eq!(config["data"]["path"], "photos");
    // It stands alone.
    fs::rename(&file, folder.path().join("secret/moved")).unwrap();
    assert_eq!(images(&copied).shape, [3, 3, 8, 8]);
    let error = Publication::of(&run, with(Provision::Copy), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("vae.safetensors, is not there"), "{error}");

    let address = "hf://org/vae/vae.safetensors";
    let done = written(&run, &referred, with(Provision::refer(address).unwrap())).unwrap();
    assert_eq!(names(&done), ["README.md", "config.json", "model.safetensors"]);
    assert_eq!(read(&referred.join("config.json"))["autoencoder"]["weights"], address);
    let card = fs::read_to_string(referred.join("README.md")).unwrap();
    assert!(card.contains(&format!("fetches from other repositories: {address}")), "{card}");

    // What the run had from the Hub is named at the commit that it had.
    let commit = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";
    let file = folder.path().join(format!("hub/models--org--vae/snapshots/{commit}/x/vae.safetensors"));
    write_autoencoder(&file);
    latent_run(&run, &file);
    let address = format!("hf://org/vae@{commit}/x/vae.safetensors");
    for (choice, public) in [
        (plain(), cached),
        (with(Provision::refer("hf://org/vae/x/vae.safetensors").unwrap()), folder.path().join("said")),
    ] {
        written(&run, &public, choice).unwrap();
        assert_eq!(read(&public.join("config.json"))["autoencoder"]["weights"], address);
    }

    let unknown = Choice { files: [("autoencoder.statistics".to_string(), Provision::Copy)].into(), ..plain() };
    let error = Publication::of(&run, unknown, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("names no file autoencoder.statistics") && error.contains("autoencoder.weights"), "{error}");
}

#[test]
fn a_guide_goes_along_whatever_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let [weak, run] = ["weak", "run"].map(|name| folder.path().join(name));
    let guide = train(&weak, json!({ "seed": 5 })).network;
    let file = weak.join("model.safetensors");
    let sampling = |weights: &Path| -> Value {
        json!({ "sampling": {
            "solver": { "kind": "heun" }, "grid": { "steps": 3 }, "guidance": { "scale": 2.0 },
            "guide": { "network": guide, "weights": weights }
        } })
    };
    for (name, weights) in
        [("file", file.clone()), ("folder", weak.clone()), ("step", weak.join("checkpoints/step-00000003"))]
    {
        let _ = fs::remove_dir_all(&run);
        let recipe = train(&run, sampling(&weights));
        let public = folder.path().join(name);
        let done = written(&run, &public, plain()).unwrap();
        assert_eq!(names(&done), ["README.md", "config.json", "guide.safetensors", "model.safetensors"]);
        assert_eq!(read(&public.join("config.json"))["sampling"]["guide"]["weights"], "guide.safetensors");
        let loaded = recipe.sampling.guide.as_ref().unwrap().load(&Default::default()).unwrap();
        let own = Weights::read(run.join("model.safetensors")).unwrap();
        let network = recipe.network.init(0, &Default::default()).load(own).unwrap();
        let classes = Classes(recipe.network.classes());
        let generator = mixflow::evaluation::Generator { guide: Some(&loaded), ..recipe.generator(&network, &classes) };
        let expected = generator.images(&[3, 1, 4], 5).unwrap();
        assert_eq!(bits(&images(&public)), bits(&expected), "{name}");
        assert_eq!(bits(&images(&run)), bits(&expected), "{name}");
    }
    // Beside it, no other file is asked for.
    let _ = fs::remove_dir_all(&weak);
    assert!(Pipeline::from_folder(folder.path().join("step"), &Default::default()).is_ok());
    let recipe = super::recipe(sampling(&file));
    fs::write(run.join("recipe.json"), recipe.to_value().to_string()).unwrap();
    // Nor is the network taken for its own guide, whose file has the same name.
    let error = Pipeline::from_folder(&run, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("weak/model.safetensors, which is not there"), "{error}");
    let error = Publication::of(&run, plain(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("sampling.guide.weights") && error.contains("is not there"), "{error}");
}

/// The recipe beside the guide, which says so, stays behind.
#[test]
fn a_guide_says_what_it_predicts_where_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let [weak, run, public] = ["weak", "run", "public"].map(|name| folder.path().join(name));
    let guide = train(&weak, json!({ "objective": { "prediction": "noise" } })).network;
    train(
        &run,
        json!({ "sampling": {
            "solver": { "kind": "heun" }, "grid": { "steps": 3, "start": 0.01 }, "guidance": { "scale": 2.0 },
            "guide": { "network": guide, "weights": weak }
        } }),
    );
    written(&run, &public, plain()).unwrap();
    let guide = &read(&public.join("config.json"))["sampling"]["guide"];
    assert_eq!((&guide["prediction"], &guide["schedule"]), (&"noise".into(), &Value::Null));
    assert_eq!(bits(&images(&public)), bits(&images(&run)));

    // Nor is it known elsewhere by what its predictions are clipped.
    let clipped = folder.path().join("clipped");
    let guide = train(&clipped, json!({ "objective": { "prediction": "data", "floor": 0.25 } })).network;
    let [run, public] = ["run-2", "public-2"].map(|name| folder.path().join(name));
    train(
        &run,
        json!({ "sampling": {
            "solver": { "kind": "heun" }, "grid": { "steps": 3 }, "guidance": { "scale": 2.0 },
            "guide": { "network": guide, "weights": clipped }
        } }),
    );
    written(&run, &public, plain()).unwrap();
    assert_eq!(read(&public.join("config.json"))["sampling"]["guide"]["floor"], 0.25);
    assert_eq!(bits(&images(&public)), bits(&images(&run)));
}
