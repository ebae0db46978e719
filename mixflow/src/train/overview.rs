//! How runs stand, by the small files in their folders.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mixflow_backbones::json::explain;
use serde::Serialize;
use serde_json::Value;

use super::checkpoint::check_sizes;
use super::run_folder::run_has_begun;
use crate::{Error, FolderLock};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "because")]
pub enum RunState {
    /// A process works in its folder; this one, in words.
    Training(String),
    /// All that its recipe asks for is there.
    Finished,
    /// It can be continued.
    Stopped,
    /// It cannot be continued, for this reason.
    Damaged(String),
}

/// What the folder of a run tells without its weights being read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOverview {
    /// The run.
    pub folder: PathBuf,
    /// How the run stands.
    pub state: RunState,
    /// Steps of all its trainings that were taken.
    pub taken: u64,
    /// Steps that its recipe asks for.
    pub asked: u64,
    /// Mean loss of the last hundred steps of the newest training.
    pub loss: Option<f64>,
    /// Distances that were measured, of which smaller is better: the weights, the distance's name and its value, the best
    /// first.
    pub measured: Vec<(String, String, f64)>,
}

/// What a comparison and `eval` without `--inception` measure by.
const DISTANCE: &str = "Fréchet distance";

/// Steps whose mean loss is told.
const STEPS: usize = 100;

impl RunOverview {
    /// The run of a folder; none if no run is in it. Content of checkpoints is not compared with its hashes, as continuing
    /// does, only with its sizes.
    pub fn of(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join("recipe.json"));
        if text.is_err() && !run_has_begun(folder) {
            return None;
        }
        let recipe: Result<Value, String> = match &text {
            Ok(text) => serde_json::from_slice(text).map_err(|error| explain(&error)).and_then(|recipe: Value| {
                let steps = recipe["training"]["steps"].as_u64();
                steps.map(|_| recipe).ok_or_else(|| "expected a recipe with training.steps".into())
            }),
            Err(error) => Err(error.to_string()),
        };
        let recipe = recipe.map_err(|reason| format!("recipe.json: {reason}"));
        let trainings = recipe.as_ref().map_or_else(|_| vec![], |recipe| trainings(folder, recipe));
        let taken = |training: &Training| last_rows(&training.folder).last().map_or(0, |(step, _)| step + 1);
        let steps: Vec<u64> = trainings.iter().map(taken).collect();
        let asked = trainings.iter().map(|training| training.steps).sum();
        let newest = trainings.iter().zip(&steps).rfind(|(_, taken)| **taken > 0);
        let rows = newest.map_or_else(Vec::new, |(training, _)| last_rows(&training.folder));
        let losses: Vec<f64> = rows.iter().rev().take(STEPS).filter_map(|(_, loss)| *loss).collect();
        let fault = trainings.iter().find_map(|training| check_sizes(&training.folder.join("checkpoints")).err());
        let ended = recipe.as_ref().is_ok_and(|recipe| is_finished(folder, recipe, &trainings, &steps));
        let state = match (FolderLock::holder(folder), recipe.as_ref(), fault) {
            (Some(holder), ..) => RunState::Training(holder),
            (None, Err(reason), _) => RunState::Damaged(reason.clone()),
            (None, Ok(_), _) if ended => RunState::Finished,
            (None, Ok(_), Some(damaged)) => RunState::Damaged(damaged.to_string()),
            (None, Ok(_), None) => RunState::Stopped,
        };
        Some(Self {
            folder: folder.into(),
            state,
            taken: steps.iter().sum(),
            asked,
            loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
            measured: measured(folder, &trainings, ended),
        })
    }

    /// The run in a folder, or all runs below it, by path; what lies in the folder of a run is part of it.
    ///
    /// # Errors
    /// If the folder cannot be listed. One below it that cannot be is listed as damaged.
    pub fn below(folder: &Path) -> Result<Vec<Self>, Error> {
        if let Some(run) = Self::of(folder).filter(|_| folder.join("recipe.json").is_file()) {
            return Ok(vec![run]);
        }
        let mut found = vec![];
        let mut entries = fs::read_dir(folder)
            .map_err(Error::io("list", folder))?
            .map(|entry| Ok(entry.map_err(Error::io("list", folder))?.path()))
            .collect::<Result<Vec<PathBuf>, Error>>()?;
        entries.sort();
        for path in entries.into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
            let closed = |error: Error| Self {
                folder: path.clone(),
                state: RunState::Damaged(error.to_string()),
                taken: 0,
                asked: 0,
                loss: None,
                measured: vec![],
            };
            match Self::of(&path) {
                Some(run) => found.push(run),
                None => found.extend(Self::below(&path).unwrap_or_else(|error| vec![closed(error)])),
            }
        }
        Ok(found)
    }
}

/// A training of a run.
struct Training {
    folder: PathBuf,
    /// How a comparison calls it; empty where it is the only one.
    name: String,
    steps: u64,
}

/// The trainings that a recipe asks for, in their order.
fn trainings(run: &Path, recipe: &Value) -> Vec<Training> {
    let of =
        |name: String, steps: &Value| Training { folder: run.join(&name), name, steps: steps.as_u64().unwrap_or(0) };
    let (first, post) = (&recipe["training"]["steps"], &recipe["post_training"]);
    // What images are encoded by, or aligned with, is trained first.
    let before = ["autoencoder", "target_encoder"].map(|key| &recipe[key]["training"]["steps"]);
    let is_stored = recipe["data"]["kind"] == "latents";
    let before = before.into_iter().find(|steps| !steps.is_null() && !is_stored);
    let mut all: Vec<Training> = before.map(|steps| of("autoencoder".into(), steps)).into_iter().collect();
    if post.is_null() {
        all.push(of(String::new(), first));
        return all;
    }
    if !run.join("start.json").is_file() {
        all.push(of("pretraining".into(), first));
    }
    // Those that only sample train nothing.
    let named = post["arms"].as_array().map(|arms| {
        let trained = arms.iter().filter(|arm| arm.get("of").is_none() && *arm != "control");
        trained.filter_map(|arm| arm.as_str().or(arm["name"].as_str())).map(str::to_lowercase).collect()
    });
    let arms: Vec<String> = named.unwrap_or_else(|| ["standard", "mixflow"].map(String::from).into());
    for seed in 0..post["seeds"].as_u64().unwrap_or(1) {
        all.extend(arms.iter().map(|arm| of(format!("{arm}-{seed}"), &post["steps"])));
    }
    all
}

/// Whether everything that a run leaves is there.
fn is_finished(run: &Path, recipe: &Value, trainings: &[Training], taken: &[u64]) -> bool {
    let whole = trainings.iter().zip(taken).all(|(training, taken)| *taken >= training.steps);
    let there = match trainings {
        [.., last] if last.name.is_empty() => {
            ["model.safetensors", "decoder.safetensors"].iter().any(|file| run.join(file).is_file())
        }
        // Those of before are there until a comparison that goes on is measured again.
        _ => json(run.join("results.json")).is_some_and(|results| results["report"]["recipe"] == *recipe),
    };
    whole && there
}

fn json(file: PathBuf) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Steps and losses of the last whole lines of a training's log: [`STEPS`], if there are as many.
fn last_rows(training: &Path) -> Vec<(u64, Option<f64>)> {
    // A line has less than this.
    const LINE: u64 = 512;
    let read = || {
        let mut file = File::open(training.join("metrics.jsonl"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(STEPS as u64 * LINE)))?;
        let mut text = vec![];
        file.read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().unwrap_or_default();
    let rows = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let row: Value = serde_json::from_slice(line).ok()?;
        Some((row["step"].as_u64()?, row["loss"].as_f64()))
    });
    rows.collect()
}

/// The distances in the results beside the weights: of a comparison that has ended each arm's mean over seeds, and what `eval` has
/// left.
fn measured(run: &Path, trainings: &[Training], ended: bool) -> Vec<(String, String, f64)> {
    let mut found = vec![];
    if let Some(results) = json(run.join("results.json")).filter(|_| ended) {
        let table = results["results"]["table"].as_array().cloned().unwrap_or_default();
        let arms: BTreeSet<&str> = table.iter().filter_map(|row| row["arm"].as_str()).collect();
        for arm in arms {
            let rows = table.iter().filter(|row| row["arm"] == arm);
            let values: Vec<f64> = rows.filter_map(|row| row["measurement"]["generated"]["frechet"].as_f64()).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            // As reports call them.
            let name = match arm {
                "mix_flow" => "MixFlow",
                "control" => "λ control",
                other => other,
            };
            found.push((name.to_string(), DISTANCE.to_string(), mean));
        }
    }
    let compared = !found.is_empty();
    for Training { folder, name, .. } in trainings {
        for (file, place, weights, measure) in [
            ("eval.json", "/evaluation/measurement/generated/frechet", "/weights/file", DISTANCE),
            ("inception.json", "/inception/fid", "/inception/setting/checkpoint/file", "FID"),
        ] {
            // Of other images, and of another number of them, it is not to be compared with that of a comparison.
            if compared && measure == DISTANCE {
                continue;
            }
            let is_own = |value: &Value| {
                let file = value.pointer(weights).and_then(Value::as_str);
                file.is_none_or(|file| Path::new(file).ends_with("model.safetensors"))
            };
            let found_of = json(folder.join(file)).filter(is_own);
            let number = found_of.and_then(|value| value.pointer(place)?.as_f64());
            found.extend(number.map(|number| (name.clone(), measure.to_string(), number)));
        }
    }
    found.retain(|(.., number)| number.is_finite());
    found.sort_by(|a, b| a.1.cmp(&b.1).then(a.2.total_cmp(&b.2)));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::Arm;

    fn write(file: PathBuf, text: impl AsRef<[u8]>) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn log(steps: u64) -> String {
        (0..steps).map(|step| format!("{}\n", json!({ "step": step, "loss": step as f64 }))).collect()
    }

    #[test]
    fn a_run_is_training_finished_stopped_or_damaged() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("a/digits");
        let state = || RunOverview::of(&run).map(|run| (run.state, run.taken, run.asked));
        fs::create_dir_all(&run).unwrap();
        assert_eq!(state(), None);
        for (recipe, words) in [
            ("{", "the text ends in the middle of an object"),
            ("[]", "expected a recipe with training.steps"),
            ("{\"training\": {\"steps\": \"many\"}}", "expected a recipe with training.steps"),
        ] {
            write(run.join("recipe.json"), recipe);
            let Some((RunState::Damaged(reason), 0, 0)) = state() else { panic!("{recipe}") };
            assert!(reason.starts_with(&format!("recipe.json: {words}")), "{reason}");
        }
        write(run.join("recipe.json"), json!({ "training": { "steps": 300 } }).to_string());
        assert_eq!(state(), Some((RunState::Stopped, 0, 300)));
        write(run.join("metrics.jsonl"), log(200) + "{\"step\": 200, \"lo");
        let found = RunOverview::of(&run).unwrap();
        assert_eq!((found.taken, found.loss), (200, Some(149.5)));
        let checkpoint = run.join("checkpoints/step-00000200");
        let manifest = json!({ "format": 1, "files": { "state.json": { "bytes": 2, "sha256": "" } } });
        write(checkpoint.join("manifest.json"), manifest.to_string());
        write(checkpoint.join("state.json"), "{}");
        assert_eq!(state(), Some((RunState::Stopped, 200, 300)));
        write(checkpoint.join("state.json"), "{");
        let damaged = |words: &str| match state() {
            Some((RunState::Damaged(why), ..)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        };
        damaged("state.json");
        // An older one that is whole is gone on from.
        let older = run.join("checkpoints/step-00000100");
        write(older.join("manifest.json"), json!({ "format": 1, "files": {} }).to_string());
        assert_eq!(state().unwrap().0, RunState::Stopped);
        write(run.join("metrics.jsonl"), log(300));
        assert_eq!(state().unwrap().0, RunState::Stopped);
        write(run.join("model.safetensors"), "");
        assert_eq!(state().unwrap(), (RunState::Finished, 300, 300));
        let lock = FolderLock::take(&run).unwrap();
        assert!(matches!(state().unwrap().0, RunState::Training(_)));
        drop(lock);
        write(run.join("recipe.json"), "{");
        damaged("recipe.json");
        fs::remove_file(run.join("recipe.json")).unwrap();
        damaged("recipe.json");
        let all = RunOverview::below(place.path()).unwrap();
        assert_eq!(all.iter().map(|run| &run.folder).collect::<Vec<_>>(), [&run]);
        // One beside others whose name ends as that of an arm.
        write(place.path().join("shapes-2/metrics.jsonl"), log(1));
        assert_eq!(RunOverview::below(place.path()).unwrap().len(), 2);
        // The run itself, and not the trainings in it.
        write(run.join("recipe.json"), "{");
        let itself = RunOverview::below(&run).unwrap();
        assert_eq!(itself.iter().map(|run| &run.folder).collect::<Vec<_>>(), [&run]);
    }

    #[test]
    fn a_comparison_counts_the_steps_of_all_arms_and_tells_the_best_first() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path();
        let post = json!({ "steps": 20, "seeds": 2 });
        let recipe = json!({ "training": { "steps": 100 }, "post_training": post });
        write(run.join("recipe.json"), recipe.to_string());
        write(run.join("pretraining/metrics.jsonl"), log(100));
        write(run.join("standard-0/metrics.jsonl"), log(20));
        let found = RunOverview::of(run).unwrap();
        assert_eq!((found.taken, found.asked, found.loss), (120, 180, Some(9.5)));
        for arm in ["mixflow-0", "standard-1", "mixflow-1"] {
            write(run.join(arm).join("metrics.jsonl"), log(20));
        }
        assert_eq!(RunOverview::of(run).unwrap().state, RunState::Stopped);
        let row =
            |arm: &str, frechet: f64| json!({ "arm": arm, "measurement": { "generated": { "frechet": frechet } } });
        let table = [row("start", 3.0), row("mix_flow", 1.0), row("standard", 4.0), row("mix_flow", 2.0)];
        let results =
            |recipe: &Value| json!({ "results": { "table": table }, "report": { "recipe": recipe } }).to_string();
        // Of a comparison that goes on with more seeds the old ones are there still.
        write(run.join("results.json"), results(&json!({ "training": { "steps": 90 }, "post_training": post })));
        let found = RunOverview::of(run).unwrap();
        assert_eq!((found.state, found.measured), (RunState::Stopped, vec![]));
        write(run.join("results.json"), results(&recipe));
        // Of other images, and of so many more that the distance is less.
        let eval = json!({ "evaluation": { "measurement": { "generated": { "frechet": 0.5 } } } });
        write(run.join("standard-0/eval.json"), eval.to_string());
        write(run.join("mixflow-0/inception.json"), json!({ "inception": { "fid": 7.5 } }).to_string());
        // Of weights that lie beside those of the end.
        let other = json!({ "checkpoint": { "file": "runs/a/standard-0/other.safetensors" } });
        let other = json!({ "inception": { "fid": 1.5, "setting": other } });
        write(run.join("standard-0/inception.json"), other.to_string());
        let found = RunOverview::of(run).unwrap();
        assert_eq!(found.state, RunState::Finished);
        let measured: Vec<_> = found.measured.iter().map(|(of, by, value)| (&of[..], &by[..], *value)).collect();
        let distance = |of, value| (of, "Fréchet distance", value);
        assert_eq!(
            measured,
            [
                ("mixflow-0", "FID", 7.5),
                distance(Arm::MixFlow.name(), 1.5),
                distance(Arm::Start.name(), 3.0),
                distance(Arm::Standard.name(), 4.0)
            ]
        );
        // Arms of weights that were given.
        write(run.join("start.json"), "{}");
        assert_eq!(RunOverview::of(run).unwrap().asked, 80);
    }

    #[test]
    fn an_autoencoder_that_a_run_trains_first_counts() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path();
        let of = |kind: &str| {
            let autoencoder = json!({ "kind": "trained-rae", "training": { "steps": 40 } });
            let recipe = json!({ "training": { "steps": 100 }, "autoencoder": autoencoder, "data": { "kind": kind } });
            write(run.join("recipe.json"), recipe.to_string());
            RunOverview::of(run).unwrap()
        };
        write(run.join("autoencoder/metrics.jsonl"), log(20));
        let found = of("digits");
        assert_eq!((found.taken, found.asked, found.loss), (20, 140, Some(9.5)));
        assert_eq!(of("latents").asked, 100);
        write(run.join("autoencoder/metrics.jsonl"), log(40));
        write(run.join("metrics.jsonl"), log(100));
        write(run.join("model.safetensors"), "");
        assert_eq!(of("digits").state, RunState::Finished);
    }
}
