//! Runs, as folders that others use.

mod adapter;
mod card;
mod files;
mod refused;
mod run;
#[cfg(feature = "t2i")]
mod text;
mod wire;

use std::fs;
use std::path::Path;

use mixflow::Pipeline;
use mixflow::backbones::weights::Weights;
use mixflow::data::Classes;
use mixflow::numbers::plus_minus;
use mixflow::sampling::Images;
use mixflow::train::{Checkpoints, checkpoint};
use mixflow_hub::{Averaging, Choice, Error, Publication, SampleImages, TransferProgress, Written};
use serde_json::{Value, json};

use crate::allocation::peak;
use crate::shared::repository;
pub(crate) use run::{measure, recipe, train};

/// What is published of `run`, in `to`.
fn written(run: &Path, to: &Path, choice: Choice) -> Result<Written, Error> {
    Publication::of(run, choice, &Default::default())?.write(to, &repository(), "main", |_| {})
}

/// Nothing but the network: no pictures, which take time.
fn plain() -> Choice {
    Choice { samples: SampleImages::None, ..Choice::default() }
}

/// Images of a few classes.
fn images(folder: &Path) -> Images {
    Pipeline::from_folder(folder, &Default::default()).unwrap().images(&[3, 1, 4], 5).unwrap()
}

fn bits(images: &Images) -> Vec<u32> {
    images.pixels.iter().map(|pixel| pixel.to_bits()).collect()
}

/// Names of what was written.
fn names(written: &Written) -> Vec<&str> {
    written.files.iter().map(|(name, _)| name.as_str()).collect()
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What a file of weights says about itself.
fn metadata(file: &Path) -> Value {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice::<Value>(&bytes[8..8 + length]).unwrap()["__metadata__"].take()
}

#[test]
fn what_is_published_makes_the_images_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    // A number that reading and writing again could change, and one that no float has.
    train(
        &run,
        json!({ "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 3, "shift": 1.7320508075688772 } } }),
    );
    measure(&run);
    let written = written(&run, &public, Choice::default()).unwrap();
    let expected = ["README.md", "config.json", "model.safetensors", "results/eval.json", "samples.png"];
    assert_eq!((names(&written).as_slice(), written.left_out.len()), (expected.as_slice(), 0));
    for (name, bytes) in &written.files {
        assert_eq!(fs::metadata(public.join(name)).unwrap().len(), *bytes, "{name}");
    }
    assert_eq!(bits(&images(&public)), bits(&images(&run)));
    // All of the recipe, to the letter.
    assert_eq!(fs::read(public.join("config.json")).unwrap(), fs::read(run.join("recipe.json")).unwrap());
    // The very file of the run, so that what was measured of that was measured of this.
    let model = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(model(&public) == model(&run));
    // Once more, it is the same to the bit, and nothing else is left in the folder.
    let again = folder.path().join("again");
    super::publication::written(&run, &again, Choice::default()).unwrap();
    for name in expected {
        assert_eq!(fs::read(again.join(name)).unwrap(), fs::read(public.join(name)).unwrap(), "{name}");
    }
    assert_eq!(crate::shared::names(folder.path()), ["again", "public", "run"]);
}

#[test]
fn samples_tell_how_far_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    let publication = Publication::of(&run, Choice::default(), &Default::default()).unwrap();
    let mut told = vec![];
    let tell = |event: TransferProgress<'_>| match event {
        TransferProgress::Sampling { images, count: 16 } => told.push(images),
        TransferProgress::Hashing { file: "model.safetensors", .. } => {}
        other => panic!("{other:?}"),
    };
    publication.write(&public, &repository(), "main", tell).unwrap();
    // Heun takes three steps of all sixteen at once, from their noise on.
    assert_eq!((told[0], *told.last().unwrap(), told.is_sorted()), (0, 16, true), "{told:?}");
    assert!(told.len() >= 4 && told.contains(&5), "{told:?}");
}

#[test]
fn the_last_step_can_be_published_instead() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public, average] = ["run", "public", "average"].map(|name| folder.path().join(name));
    let recipe = train(&run, json!({}));
    let last = Choice { averaging: Averaging::Last, ..plain() };
    written(&run, &public, last.clone()).unwrap();
    written(&run, &average, plain()).unwrap();
    let told = metadata(&public.join("model.safetensors"));
    assert_eq!(
        told,
        json!({
            "format": "pt", "library_name": "mixflow", "mixflow_version": env!("CARGO_PKG_VERSION"), "recipe": "tiny",
            "step": "3", "weights": "as the last step left them"
        })
    );

    let mut snapshot = checkpoint::read(&run.join("checkpoints/step-00000003")).unwrap().snapshot;
    snapshot.average = snapshot.weights.clone();
    let network = snapshot.into_average(recipe.network.init(0, &Default::default())).unwrap();
    let expected = recipe.generator(&network, &Classes(recipe.network.classes())).images(&[3, 1, 4], 5).unwrap();
    assert_eq!(bits(&images(&public)), bits(&expected));
    assert_ne!(bits(&images(&average)), bits(&expected));
    // They are in the checkpoint alone.
    fs::write(run.join("checkpoints/step-00000003/weights.safetensors"), "damaged").unwrap();
    let error = Publication::of(&run, last, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("checkpoint only, but") && error.contains("weights.safetensors"), "{error}");
    assert!(Checkpoints::new(run.join("checkpoints"), 2).latest().unwrap().checkpoint.is_none());
    written(&run, &folder.path().join("third"), plain()).unwrap();
}

/// Weights of 12 MB, with their average and two moments in a checkpoint of four times that.
#[test]
fn the_last_step_takes_no_memory_that_grows_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    let recipe = run::stop_at_the_end(
        &run,
        json!({ "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 128, "depth": 16, "heads": 2, "hidden": 256,
            "classes": 10
        } }),
    );
    let last = Choice { averaging: Averaging::Last, ..plain() };
    let (written, held) = peak(|| written(&run, &public, last).unwrap());
    let (_, bytes) = written.files.iter().find(|(name, _)| name == "model.safetensors").unwrap();
    assert!(*bytes > 12_000_000 && (held as u64) < bytes / 4, "{held} of {bytes}");
    let weights = Weights::read(public.join("model.safetensors")).unwrap();
    recipe.network.init(0, &Default::default()).load(weights).unwrap();
}

#[test]
fn an_arm_of_a_comparison_is_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    run::compare(&run);
    for arm in [None, Some("standard-0"), Some("pretraining")] {
        let name = arm.unwrap_or("mixflow-0");
        let public = folder.path().join(name);
        let choice = Choice { arm: arm.map(String::from), ..plain() };
        let written = written(&run, &public, choice).unwrap();
        assert_eq!(names(&written), ["README.md", "config.json", "model.safetensors", "results/comparison.json"]);
        let model = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(model(&public) == model(&run.join(name)));
        // Its numbers are those of its arm: three samplers, of which one is the recipe's.
        let arm = match name {
            "standard-0" => "standard",
            "mixflow-0" => "mix_flow",
            _ => "start",
        };
        let results = read(&run.join("results.json"))["results"].take();
        let all = [&results["table"], &results["others"]].map(|list| list.as_array().unwrap().clone()).concat();
        let card = fs::read_to_string(public.join("README.md")).unwrap();
        let rows: Vec<&str> = card.lines().filter(|line| line.starts_with("| Heun |")).collect();
        let own: Vec<&Value> = all.iter().filter(|scores| scores["arm"] == arm).collect();
        assert_eq!((rows.len(), own.len()), (2, 2), "{card}");
        for (row, (scores, steps)) in rows.iter().zip(own.iter().zip([3, 2])) {
            let generated = &scores["measurement"]["generated"];
            let number = plus_minus(generated["frechet"].as_f64().unwrap(), None);
            let start = format!(
                "| Heun | {steps} | {} | f32 | 16 | as the real images | 0 | {number} |",
                scores["evaluations"]
            );
            assert!(row.starts_with(&start), "{row} {start}");
        }
        assert_eq!(read(&public.join("results/comparison.json"))["results"], results);
        // All arms beside it, with what real images reach.
        let table = card.split("### The arms side by side").nth(1).unwrap();
        let bold = match arm {
            "mix_flow" => "| **MixFlow** |",
            "standard" => "| **standard** |",
            _ => "| **start** |",
        };
        let rows: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("| |")).skip(2).take(5).collect();
        assert!(
            rows.iter().filter(|row| row.contains("**")).eq([rows.iter().find(|row| row.starts_with(bold)).unwrap()])
        );
        assert!(rows[4].starts_with("| real images |") && rows.iter().all(|row| !row.contains("– |")), "{table}");
    }
    // Nor are numbers of other weights: those of another arm in the place of this one's.
    let [own, kept] = ["mixflow-0/model.safetensors", "kept"].map(|name| run.join(name));
    fs::rename(&own, &kept).unwrap();
    fs::copy(run.join("standard-0/model.safetensors"), &own).unwrap();
    let stale = folder.path().join("stale");
    let told = written(&run, &stale, plain()).unwrap().left_out;
    assert!(told[0].starts_with("results.json measured other weights"), "{told:?}");
    assert!(fs::read_to_string(stale.join("README.md")).unwrap().contains("Nothing was measured"));
    fs::rename(&kept, &own).unwrap();
    // Numbers of another recipe are not these.
    let mut recipe = read(&run.join("recipe.json"));
    recipe["sampling"]["grid"]["steps"] = json!(5);
    fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
    let other = folder.path().join("other");
    let written = written(&run, &other, plain()).unwrap();
    assert!(written.left_out[0].starts_with("results.json is of another recipe"), "{written:?}");
    assert!(!fs::read_to_string(other.join("README.md")).unwrap().contains("model-index"));
}
