//! From here to there and back, over a line that breaks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use mixflow::Pipeline;
use mixflow_hub::{Error, FromHub, Publication, Published, SampleImages, Token, TransferProgress, Upload};
use serde_json::{Value, json};

use super::{Choice, bits, measure, plain, train};
use crate::server::{Failing, Server};
use crate::shared::{NAME, Setting, repository};
use crate::upload::{TOKEN, empty, writer};

const LABELS: [usize; 2] = [0, 9];

fn publish(setting: &Setting, run: &Path, choice: Choice, upload: &Upload) -> Result<Published, Error> {
    Publication::of(run, choice, &Default::default()).unwrap().publish(&writer(setting), &repository(), upload, |_| {})
}

/// The other process of the next test.
#[test]
#[ignore = "started by what_was_published_makes_the_same_images_elsewhere"]
fn elsewhere() {
    let images = Pipeline::from_hub(NAME, &Default::default()).unwrap().images(&LABELS, 0).unwrap();
    let bytes: Vec<u8> = bits(&images).iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    fs::write(std::env::var("MIXFLOW_IMAGES").unwrap(), bytes).unwrap();
}

/// Images that another process makes, with an empty cache, of what the server has.
fn made_elsewhere(setting: &Setting) -> Vec<u32> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("images");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "publication::wire::elsewhere", "--ignored"]).stdout(Stdio::null()).env_clear();
    command.env("HF_ENDPOINT", &setting.server.endpoint).env("HF_HOME", home.path());
    assert!(command.env("MIXFLOW_IMAGES", &file).status().unwrap().success());
    let bytes = fs::read(file).unwrap();
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn what_was_published_makes_the_same_images_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    measure(&run);
    let expected = bits(&Pipeline::from_folder(&run, &Default::default()).unwrap().images(&LABELS, 0).unwrap());
    let before = crate::shared::names(&run);
    for (fault, back) in [
        (None, None),
        // The weights break off on their way there, somebody else commits meanwhile, and they break off on their way back.
        (Some(("Signature=signed", Failing::Cut(2000))), Some(("Signature=signed", Failing::Cut(3000)))),
        (Some(("Signature=signed", Failing::Corrupt)), Some(("Signature=signed", Failing::Corrupt))),
        (Some(("/commit/", Failing::Another("LICENSE", b"MIT"))), Some(("/resolve/", Failing::Cut(10)))),
        (Some(("/commit/", Failing::Lost)), Some(("/resolve/", Failing::Corrupt))),
    ] {
        let setting = empty();
        if let Some((path, fault)) = &fault {
            setting.server.fail(path, 1, fault.clone());
        }
        let done = publish(&setting, &run, Choice::default(), &Upload::new("a network")).unwrap();
        let files = setting.server.files(NAME, "main");
        assert!(done.written.files.iter().all(|(name, bytes)| files[name].bytes.len() as u64 == *bytes), "{fault:?}");
        if let Some((path, back)) = &back {
            setting.server.fail(path, 1, back.clone());
        }
        assert_eq!(made_elsewhere(&setting), expected, "{fault:?} {back:?}");
        assert!(setting.server.state().faults.iter().all(|fault| fault.times == 0), "{fault:?} {back:?}");
        assert_eq!(crate::shared::names(&run), before);
    }
}

#[test]
fn what_is_the_same_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    let setting = empty();
    let first = publish(&setting, &run, plain(), &Upload::new("a network")).unwrap();
    let second = publish(&setting, &run, plain(), &Upload::new("a network")).unwrap();
    assert_eq!((&second.uploaded.commit, second.uploaded.sent), (&first.uploaded.commit, 0));
    // On another branch, only the card is another: it says which branch.
    let branch = publish(&setting, &run, plain(), &Upload::new("a network").branch("v2")).unwrap();
    assert_eq!((branch.uploaded.files_sent, branch.uploaded.files_kept), (1, 2));
    let card = &setting.server.files(NAME, "v2")["README.md"].bytes;
    assert!(String::from_utf8_lossy(card).contains("@v2\", &mixflow::device::chosen()?)?"));
}

#[test]
fn nothing_is_left_of_what_was_measured_of_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    measure(&run);
    let setting = empty();
    publish(&setting, &run, Choice::default(), &Upload::new("a network")).unwrap();
    let files = || setting.server.files(NAME, "main").into_keys().collect::<Vec<_>>();
    assert!(["results/eval.json", "samples.png"].iter().all(|name| files().iter().any(|file| file == name)));
    fs::remove_file(run.join("eval.json")).unwrap();
    let done = publish(&setting, &run, plain(), &Upload::new("a network")).unwrap();
    assert_eq!((done.uploaded.files_sent, done.uploaded.files_removed), (1, 2), "the card alone is another");
    assert_eq!(files(), [".gitattributes", "README.md", "config.json", "model.safetensors"]);
    // Nor of pictures of another format.
    let picture = folder.path().join("drawn.jpg");
    fs::write(&picture, "a picture").unwrap();
    let own = Choice { samples: SampleImages::Picture(picture), ..Choice::default() };
    publish(&setting, &run, own, &Upload::new("a network")).unwrap();
    let has = |name: &str| files().iter().any(|file| file == name);
    assert!(has("samples.jpg"));
    publish(&setting, &run, Choice::default(), &Upload::new("a network")).unwrap();
    assert!(has("samples.png") && !has("samples.jpg"));
}

#[test]
fn what_is_opened_is_what_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let [run, other] = ["run", "other"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    // Another network of the same shape, in a shard, with its recipe as a run has it.
    train(&other, json!({ "seed": 7, "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 5 } } }));
    let weights = fs::read(other.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    let names = header.keys().filter(|name| *name != "__metadata__");
    let index = json!({ "weight_map": names.map(|name| (name.clone(), json!(shard))).collect::<Value>() }).to_string();
    let recipe = fs::read(other.join("recipe.json")).unwrap();
    let setting = empty();
    let before = [
        ("recipe.json", &recipe[..], false),
        ("model.safetensors.index.json", index.as_bytes(), false),
        (shard, &weights[..], true),
        ("LICENSE", &b"MIT"[..], false),
    ];
    setting.server.commit(NAME, "main", &before);
    let opened = || {
        let address = "hf://org/sit".parse().unwrap();
        let pipeline = Pipeline::open(&setting.client(), &address, &Default::default(), |_| {}).unwrap();
        bits(&pipeline.images(&LABELS, 0).unwrap())
    };
    let drawn = |run: &Path| {
        let pipeline = Pipeline::from_folder(run, &Default::default()).unwrap();
        bits(&pipeline.images(&LABELS, 0).unwrap())
    };
    assert_eq!(opened(), drawn(&other));
    publish(&setting, &run, plain(), &Upload::new("a network")).unwrap();
    assert_eq!(opened(), drawn(&run));
    let files: Vec<String> = setting.server.files(NAME, "main").into_keys().collect();
    assert_eq!(files, ["LICENSE", "README.md", "config.json", "model.safetensors"]);
}

#[test]
fn who_may_not_write_is_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    let setting = Setting { server: Server::start(), folder, commit: String::new() };
    let (publication, upload) =
        (Publication::of(&run, Choice::default(), &Default::default()).unwrap(), Upload::new("a network"));
    let wrong = setting.client().token(Token::new(TOKEN, "a test").unwrap()).unwrap();
    for (client, expected) in [
        (setting.client(), "HF_TOKEN"),
        (wrong, "does not accept the token"),
        (setting.client().offline(true), "HF_HUB_OFFLINE"),
    ] {
        let error = publication.publish(&client, &repository(), &upload, |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(publication.publish(&setting.client(), &"sit".parse().unwrap(), &upload, |_| {}).is_err());
    // Nor does one that fails leave anything there.
    let setting = empty();
    setting.server.fail("/commit/", 99, Failing::Answer(403, vec![], ""));
    assert!(publish(&setting, &run, plain(), &upload).is_err());
    assert!(!setting.server.files(NAME, "main").contains_key("config.json"));
}

/// Where each folder of a run stood when something was last made or removed in it.
fn times(run: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut folders = vec![run.to_path_buf()];
    let inside = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    while let Some(folder) = folders.get(seen).cloned() {
        folders.extend(inside(&folder).filter(|path| path.is_dir()));
        seen += 1;
    }
    folders.into_iter().map(|folder| (folder.clone(), fs::metadata(folder).unwrap().modified().unwrap())).collect()
}

#[test]
fn a_run_that_may_only_be_read_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    measure(&run);
    let open = fs::metadata(&run).unwrap().permissions();
    let mut closed = open.clone();
    closed.set_readonly(true);
    // Who may do everything is not stopped by that; a folder in which something was made and removed has another time.
    let before = times(&run);
    fs::set_permissions(&run, closed).unwrap();
    let setting = empty();
    let done = publish(&setting, &run, Choice::default(), &Upload::new("a network"));
    let written = super::written(&run, &public, Choice::default());
    let after = times(&run);
    fs::set_permissions(&run, open).unwrap();
    assert_eq!(after, before);
    assert_eq!(done.unwrap().written, written.unwrap());
}

#[test]
fn images_that_are_there_are_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    measure(&run);
    let setting = empty();
    let made = |choice: Choice| {
        let publication = Publication::of(&run, choice, &Default::default()).unwrap();
        let mut made = false;
        let tell = |event: TransferProgress<'_>| made |= matches!(event, TransferProgress::Sampling { .. });
        let upload = Upload::new("a network");
        let done = publication.publish(&writer(&setting), &repository(), &upload, tell).unwrap();
        (made, done)
    };
    let (first, done) = made(Choice::default());
    let (again, same) = made(Choice::default());
    assert_eq!((first, again), (true, false));
    assert_eq!((same.uploaded.commit, same.uploaded.sent, same.uploaded.files_kept), (done.uploaded.commit, 0, 5));
    assert_eq!(same.written, done.written);
    // Another picture in the place, another card, other weights: then they are.
    let picture = folder.path().join("own.png");
    fs::write(&picture, "a picture").unwrap();
    let own = || Choice { samples: SampleImages::Picture(picture.clone()), ..Choice::default() };
    let content = || setting.server.files(NAME, "main")["samples.png"].bytes.clone();
    let drawn = content();
    assert!(!made(own()).0 && content() == b"a picture");
    assert!(made(Choice::default()).0 && content() == drawn);
    assert!(made(Choice { license: Some("mit".into()), ..Choice::default() }).0);
    let network = super::recipe(json!({})).network.init(9, &Default::default());
    network.weights().write(run.join("model.safetensors"), &[("format", "pt")]).unwrap();
    assert!(made(Choice::default()).0 && content() != drawn);
}

#[test]
fn weights_that_are_no_numbers_are_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    let file = run.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    for choice in [plain(), Choice::default()] {
        let setting = empty();
        let error = publish(&setting, &run, choice, &Upload::new("a network")).unwrap_err().to_string();
        assert!(error.contains("no finite number"), "{error}");
        assert!(setting.server.state().repositories.is_empty());
    }
}
