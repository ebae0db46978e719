//! Images of what was downloaded.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mixflow::Pipeline;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::sit::SitConfig;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Network, NetworkConfig};
use mixflow::data::Classes;
use mixflow::evaluation::Generator;
use mixflow::recipe::Recipe;
use mixflow::schedules::TimeGrid;
use mixflow_hub::{Error, FromHub};
use serde_json::{Value, json};

use crate::shared::Setting;

/// A recipe of a network that makes images of 8 x 8 in a moment.
fn recipe() -> Value {
    json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 1, "batch": 1, "checkpoint_every": 1, "optimizer": {} },
        "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 3 } }
    })
}

fn network(recipe: &Recipe) -> Network {
    recipe.network.init(7, &Default::default())
}

/// Files of a folder as a repository has them.
pub(crate) fn published(setting: &Setting, repository: &str, folder: &Path) {
    let mut files = vec![];
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_string();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let large = |name: &str| name.ends_with(".safetensors") || name.ends_with(".pt");
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), large(name))).collect();
    setting.server.commit(repository, "main", &files);
}

fn open(setting: &Setting) -> Result<Pipeline, Error> {
    Pipeline::open(&setting.client(), &"hf://org/tiny".parse().unwrap(), &Default::default(), |_| {})
}

/// `config.json` and `model.safetensors` in a folder.
fn write_ours(folder: &Path) -> Recipe {
    let recipe = Recipe::from_value(recipe()).unwrap();
    fs::write(folder.join("config.json"), recipe.to_value().to_string()).unwrap();
    network(&recipe).weights().write(folder.join("model.safetensors"), &[]).unwrap();
    recipe
}

#[test]
fn our_layout_gives_the_same_images_from_everywhere() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let recipe = write_ours(folder.path());
    fs::write(folder.path().join("README.md"), "# tiny").unwrap();
    published(&setting, "org/tiny", folder.path());

    let labels = [3, 1, 4];
    let expected = recipe.generator(&network(&recipe), &Classes(recipe.network.classes())).images(&labels, 5).unwrap();
    assert_eq!(
        Pipeline::from_folder(folder.path(), &Default::default()).unwrap().images(&labels, 5).unwrap(),
        expected
    );
    let pipeline = open(&setting).unwrap();
    assert_eq!(pipeline.images(&labels, 5).unwrap(), expected);
    assert_eq!((pipeline.image_channels(), pipeline.sources().len()), (1, 1));
    // What is not needed is not fetched, and nobody is asked offline.
    assert!(setting.server.asked("README.md").is_empty());
    let offline =
        Pipeline::open(&setting.client().offline(true), &"hf://org/tiny".parse().unwrap(), &Default::default(), |_| {});
    assert_eq!(offline.unwrap().images(&labels, 5).unwrap(), expected);

    let error = pipeline.images(&[10], 0).unwrap_err().to_string();
    assert_eq!(error, "labels are classes from 0 to 9, found 10");
}

/// The other process of other tests.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let name = std::env::var("MIXFLOW_NAME").unwrap_or("org/tiny".into());
    let pipeline = Pipeline::from_hub(&name, &Default::default()).unwrap_or_else(|error| panic!("{error}"));
    let images = pipeline.images(&[0, 9], 0).unwrap();
    let bytes: Vec<u8> = images.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    fs::write(std::env::var("MIXFLOW_IMAGES").unwrap(), bytes).unwrap();
}

#[test]
fn another_process_makes_the_same_images() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write_ours(folder.path());
    published(&setting, "org/tiny", folder.path());
    let file = folder.path().join("images");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "pipeline::child", "--ignored"]).stdout(Stdio::null()).env_clear();
    command.env("HF_ENDPOINT", &setting.server.endpoint).env("HF_HOME", setting.folder.path());
    assert!(command.env("MIXFLOW_IMAGES", &file).status().unwrap().success());
    let expected = Pipeline::from_folder(folder.path(), &Default::default()).unwrap().images(&[0, 9], 0).unwrap();
    assert!(floats(&file).iter().map(|pixel| pixel.to_bits()).eq(expected.pixels.iter().map(|pixel| pixel.to_bits())));
}

/// Numbers that the other process has written.
fn floats(file: &Path) -> Vec<f32> {
    let bytes = fs::read(file).unwrap();
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn shards_are_one_network() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let recipe = write_ours(folder.path());
    let expected = Pipeline::from_folder(folder.path(), &Default::default()).unwrap().images(&[2], 0).unwrap();
    // Half of the tensors each, as `save_pretrained` splits them.
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    let names: Vec<String> = network(&recipe).weights().iter().map(|(name, _)| name.to_string()).collect();
    let mut map = serde_json::Map::new();
    for (index, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", index + 1);
        fs::write(folder.path().join(&file), part(&whole, names)).unwrap();
        map.extend(names.iter().map(|name| (name.clone(), json!(file))));
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    published(&setting, "org/tiny", folder.path());
    assert_eq!(Pipeline::from_folder(folder.path(), &Default::default()).unwrap().images(&[2], 0).unwrap(), expected);
    assert_eq!(open(&setting).unwrap().images(&[2], 0).unwrap(), expected);
}

/// Some tensors of a safetensors file, as a file.
fn part(whole: &[u8], names: &[String]) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let (mut part, mut data) = (serde_json::Map::new(), vec![]);
    for name in names {
        let mut entry = header[name].clone();
        let [from, to] = [0, 1].map(|end| entry["data_offsets"][end].as_u64().unwrap() as usize);
        entry["data_offsets"] = json!([data.len(), data.len() + to - from]);
        data.extend(&whole[8 + length + from..8 + length + to]);
        part.insert(name.clone(), entry);
    }
    let header = Value::Object(part).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// A small network of a published width, and an autoencoder as `diffusers` has it.
fn write_published(folder: &Path, vae: &Path) {
    let sit = SitConfig { input_size: 4, depth: 1, hidden: 64, classes: 3, ..SitConfig::small(2) };
    let network = NetworkConfig::Sit(sit).init(1, &Default::default());
    network.weights().write(folder.join("SiT-S-2-32.safetensors"), &[]).unwrap();
    fs::create_dir_all(vae).unwrap();
    let config = KlAutoencoderConfig { widths: vec![32, 32], depth: 1, ..KlAutoencoderConfig::stable_diffusion() };
    let weights = Weights::of(&config.init(2, &Default::default()), official_key);
    weights.write(vae.join("diffusion_pytorch_model.safetensors"), &[]).unwrap();
    let config = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [32, 32], "latent_channels": 4, "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"]
    });
    fs::write(vae.join("config.json"), config.to_string()).unwrap();
}

fn two_steps(mut pipeline: Pipeline) -> Vec<f32> {
    pipeline.recipe.sampling.sampler.grid = TimeGrid::new(2).unwrap();
    let images = pipeline.images(&[0, 2], 0).unwrap();
    assert_eq!((images.shape, pipeline.image_channels()), ([2, 3, 8, 8], 3));
    images.pixels
}

#[test]
fn a_published_network_is_known_by_its_tensors() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write_published(folder.path(), &folder.path().join("vae"));
    published(&setting, "org/tiny", folder.path());
    let expected = two_steps(Pipeline::from_folder(folder.path(), &Default::default()).unwrap());
    assert_eq!(two_steps(open(&setting).unwrap()), expected);
    // A DiT has the same tensors: what the name of the file does not tell is said.
    let sources = || Pipeline::from_folder(folder.path(), &Default::default()).unwrap().sources().to_vec();
    assert!(sources()[0].ends_with("SiT-S-2-32.safetensors"), "{:?}", sources());
    fs::rename(folder.path().join("SiT-S-2-32.safetensors"), folder.path().join("small.safetensors")).unwrap();
    assert!(sources()[0].contains("small.safetensors, taken for a SiT: a DiT has"), "{:?}", sources());

    // Without autoencoder beside it: a folder says what is missing, a repository takes the one it was trained with.
    let (setting, alone, vae) = (Setting::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_published(alone.path(), vae.path());
    published(&setting, "org/tiny", alone.path());
    let error = Pipeline::from_folder(alone.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("a folder `vae`") && error.contains("stabilityai/sd-vae-ft-ema"), "{error}");
    assert!(matches!(open(&setting), Err(Error::NoRepository { .. })));
    let files = ["config.json", "diffusion_pytorch_model.safetensors"]
        .map(|name| (name, fs::read(vae.path().join(name)).unwrap()));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice(), true)).collect();
    setting.server.commit("stabilityai/sd-vae-ft-ema", "main", &files);
    let pipeline = open(&setting).unwrap();
    assert!(pipeline.sources()[1].contains("models--stabilityai--sd-vae-ft-ema"), "{:?}", pipeline.sources());
    assert_eq!(two_steps(pipeline), expected);
}

#[test]
fn a_checkpoint_of_training_says_which_part_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pt");
    for (file, part) in [("nested.pt", ", part `ema`"), ("bare.pt", "bare.pt")] {
        let _ = fs::remove_file(folder.path().join("nested.pt"));
        fs::copy(fixtures.join(file), folder.path().join(file)).unwrap();
        // The recorded tensors are no network's: what is missing is named with the part.
        fs::write(folder.path().join("config.json"), recipe().to_string()).unwrap();
        let error = Pipeline::from_folder(folder.path(), &Default::default()).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("missing"), "{error}");
    }
}

#[test]
fn a_downloaded_recipe_names_files_of_its_folder_only() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write_published(folder.path(), &folder.path().join("secret"));
    let secret = folder.path().join("secret/diffusion_pytorch_model.safetensors");
    let mut recipe = Recipe::read("paper/sit-xl-2-256", &[]).unwrap().to_value();
    let weights = folder.path().join("SiT-S-2-32.safetensors");
    recipe["network"] = json!({
        "kind": "sit", "input_size": 4, "patch": 2, "channels": 4, "width": 384, "depth": 1, "heads": 6, "hidden": 64,
        "classes": 3, "learn_sigma": true
    });
    recipe["autoencoder"]["network"] = serde_json::to_value(KlAutoencoderConfig {
        widths: vec![32, 32],
        depth: 1,
        ..KlAutoencoderConfig::stable_diffusion()
    })
    .unwrap();
    for (path, ours) in [(secret.to_str().unwrap(), true), ("../../../secret", false), ("hf://org/vae", false)] {
        recipe["autoencoder"]["weights"] = json!(path);
        let text = recipe.to_string();
        setting.server.commit(
            "org/tiny",
            "main",
            &[("config.json", text.as_bytes(), false), ("model.safetensors", &fs::read(&weights).unwrap(), true)],
        );
        let error = open(&setting).unwrap_err();
        let names_none = matches!(error, Error::Name { what: "the address", .. }) && path.starts_with("hf://");
        assert!(matches!(error, Error::NoRepository { .. }) || names_none, "{path}: {error}");
        // In a folder of one's own, the same path is fine.
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("config.json"), &text).unwrap();
        fs::copy(&weights, own.path().join("model.safetensors")).unwrap();
        assert_eq!(Pipeline::from_folder(own.path(), &Default::default()).is_ok(), ours, "{path}");
    }
    // Another repository is named as such.
    recipe["autoencoder"]["weights"] = json!("hf://org/vae/diffusion_pytorch_model.safetensors");
    let vae = fs::read(&secret).unwrap();
    let commit = setting.server.commit("org/vae", "main", &[("diffusion_pytorch_model.safetensors", &vae, true)]);
    let text = recipe.to_string();
    setting.server.commit(
        "org/tiny",
        "main",
        &[("config.json", text.as_bytes(), false), ("model.safetensors", &fs::read(&weights).unwrap(), true)],
    );
    let expected = two_steps(open(&setting).unwrap());

    // At a commit it stays what it was, whatever becomes of the branch.
    let (address, pinned) = ("hf://org/vae/", format!("hf://org/vae@{commit}/"));
    setting.server.commit("org/vae", "main", &[("diffusion_pytorch_model.safetensors", b"others", true)]);
    assert!(open(&setting).is_err());
    let text = text.replace(address, &pinned);
    setting.server.commit(
        "org/tiny",
        "main",
        &[("config.json", text.as_bytes(), false), ("model.safetensors", &fs::read(&weights).unwrap(), true)],
    );
    assert_eq!(two_steps(open(&setting).unwrap()), expected);
}

#[test]
fn a_repository_is_named_with_its_revision() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write_ours(folder.path());
    published(&setting, "org/tiny", folder.path());
    let expected = Pipeline::from_folder(folder.path(), &Default::default()).unwrap().images(&[0, 9], 0).unwrap();
    let commit = setting.server.state().repositories["org/tiny"].refs["main"].clone();
    setting.server.commit("org/tiny", "main", &[("README.md", b"nothing", false)]);
    for (name, complaint) in [
        (format!("org/tiny@{commit}"), ""),
        (format!("hf://org/tiny@{commit}"), ""),
        ("org/tiny".into(), "expected config.json"),
        ("hf://org/tiny@v9".into(), "has no revision v9"),
        ("org/tiny@../x".into(), "cannot be a branch, tag or commit"),
        (format!("hf://org/tiny@{commit}/model.safetensors"), "names a file, which alone is no pipeline"),
    ] {
        let file = folder.path().join("images");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "pipeline::child", "--ignored", "--nocapture"])
            .env_clear()
            .env("MIXFLOW_IMAGES", &file);
        command.env("HF_ENDPOINT", &setting.server.endpoint).env("HF_HOME", setting.folder.path());
        let output = command.env("MIXFLOW_NAME", &name).output().unwrap();
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), complaint.is_empty(), "{name}: {told}");
        assert!(told.contains(complaint), "{name}: {told}");
        if complaint.is_empty() {
            assert_eq!(floats(&file), expected.pixels);
        }
    }
}

#[test]
fn a_network_is_never_its_own_guide() {
    let (setting, folder, weak) = (Setting::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut recipe = recipe();
    let weights = weak.path().join("model.safetensors");
    recipe["sampling"]["guidance"] = json!({ "scale": 2.0 });
    recipe["sampling"]["guide"] = json!({ "network": recipe["network"], "weights": weights });
    let read = Recipe::from_value(recipe.clone()).unwrap();
    network(&read).weights().write(folder.path().join("model.safetensors"), &[]).unwrap();
    read.network.init(8, &Default::default()).weights().write(&weights, &[]).unwrap();
    let guide = read.sampling.guide.as_ref().unwrap().load(&Default::default()).unwrap();
    let own = network(&read);
    let expected = Generator { guide: Some(&guide), ..read.generator(&own, &Classes(read.network.classes())) }
        .images(&[2], 0)
        .unwrap();

    // Of the same name as the network; and named by its folder, as a run's.
    for weights in [weights.as_path(), weak.path()] {
        recipe["sampling"]["guide"]["weights"] = json!(weights);
        fs::write(folder.path().join("config.json"), recipe.to_string()).unwrap();
        let pipeline = Pipeline::from_folder(folder.path(), &Default::default()).unwrap();
        assert_eq!(pipeline.images(&[2], 0).unwrap(), expected, "{weights:?}");
    }
    recipe["sampling"]["guide"]["weights"] = json!(weights);
    fs::write(folder.path().join("config.json"), recipe.to_string()).unwrap();
    published(&setting, "org/tiny", folder.path());
    let error = open(&setting).unwrap_err().to_string();
    assert!(error.contains("model.safetensors, which is not there"), "{error}");
}

#[test]
fn folders_that_hold_no_network_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Pipeline::from_folder(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("found no files"), "{error}");
    let error = Pipeline::from_folder(folder.path().join("missing"), &Default::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
    write_ours(folder.path());
    let mut wrong = recipe();
    wrong["network"]["depth"] = json!(2);
    fs::write(folder.path().join("config.json"), wrong.to_string()).unwrap();
    let error = Pipeline::from_folder(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("missing: blocks.1."), "{error}");
    wrong["network"]["colour"] = json!(1);
    fs::write(folder.path().join("config.json"), wrong.to_string()).unwrap();
    let error = Pipeline::from_folder(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("config.json: network") && error.contains("colour"), "{error}");
}
