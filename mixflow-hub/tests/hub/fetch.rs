//! Weights and named files of repositories, without all that is beside them.

use mixflow_hub::{Address, Error};
use serde_json::json;

use crate::server::Failing;
use crate::shared::{NAME, Setting, names};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A repository of ours in shards, with what others do not need.
fn sharded(setting: &Setting) -> String {
    setting.server.commit(
        NAME,
        "main",
        &[
            ("README.md", b"# a model", false),
            ("autoencoder.safetensors", b"autoencoder", true),
            ("config.json", b"{}", false),
            ("last.pt", b"pickle", true),
            ("model-00001-of-00002.safetensors", b"one", true),
            ("model-00002-of-00002.safetensors", b"two", true),
            ("model.safetensors.index.json", b"{}", false),
        ],
    )
}

#[test]
fn a_training_gets_the_weights_alone_and_their_whole_address() {
    for (asked, file, fetched) in [
        (
            "hf://org/sit",
            "model.safetensors.index.json",
            &["model-00001", "model-00002", "model.safetensors.index"][..],
        ),
        ("hf://org/sit@main/last.pt", "last.pt", &["last.pt"]),
        ("hf://org/sit/model-00002-of-00002.safetensors", "model-00002-of-00002.safetensors", &["model-00002"]),
    ] {
        let setting = Setting::new();
        let commit = sharded(&setting);
        let (path, pinned) = setting.client().weights(&address(asked), |_| {}).unwrap();
        assert_eq!(pinned.to_string(), format!("hf://org/sit@{commit}/{file}"));
        let snapshot = setting.stored().join("snapshots").join(&commit);
        assert_eq!(path, snapshot.join(file));
        let found = names(&snapshot);
        assert!(found.len() == fetched.len() && found.iter().zip(fetched).all(|(a, b)| a.starts_with(b)), "{found:?}");
        // What it is called then is the same for ever, and needs nobody.
        setting.server.commit(NAME, "main", &[("last.pt", b"others", true)]);
        let again = setting.client().offline(true).weights(&pinned, |_| {}).unwrap();
        assert_eq!(again, (path, pinned));
    }
}

/// What is here of a branch serves until something newer is here whole.
#[test]
fn a_newer_commit_takes_the_place_of_a_cached_one_once_it_is_there() {
    let (setting, address) = (Setting::new(), address("hf://org/sit"));
    let offline = || setting.client().offline(true).weights(&address, |_| {});
    let (old, _) = setting.client().weights(&address, |_| {}).unwrap();
    let commit = setting.server.commit(NAME, "main", &[("model.safetensors", b"newer", true)]);
    setting.server.fail("Signature=signed", 1, Failing::Answer(404, vec![], "gone"));
    assert!(matches!(setting.client().weights(&address, |_| {}), Err(Error::Status { .. })));
    assert_eq!(offline().unwrap().0, old);
    // Nor does it by a file that it has not.
    assert!(matches!(setting.file("nothing.bin"), Err(Error::NoFile { .. })));
    assert_eq!(offline().unwrap().0, old);
    let (new, _) = setting.client().weights(&address, |_| {}).unwrap();
    assert!(new != old && offline().unwrap().0 == new);
    assert_eq!(std::fs::read_to_string(setting.stored().join("refs/main")).unwrap(), commit);
}

#[test]
fn a_cache_that_has_all_need_not_be_written() {
    let setting = Setting::new();
    let pinned = format!("hf://org/sit@{}", setting.commit);
    let (path, _) = setting.client().weights(&address(&pinned), |_| {}).unwrap();
    // Nothing can be kept there.
    std::fs::write(setting.stored().join("refs"), "").unwrap();
    assert_eq!(setting.client().weights(&address("hf://org/sit"), |_| {}).unwrap().0, path);
}

#[test]
fn sampling_gets_what_lies_beside_too() {
    let setting = Setting::new();
    let commit = sharded(&setting);
    setting.client().published(&address("hf://org/sit"), |_| {}).unwrap();
    let found = names(&setting.stored().join("snapshots").join(&commit));
    assert!(found.len() == 6 && !found.contains(&"README.md".to_string()), "{found:?}");
}

#[test]
fn an_adapter_comes_with_its_settings_and_nothing_else() {
    for (files, asked, wanted) in [
        (
            &["pytorch_lora_weights.safetensors", "model.safetensors"][..],
            "hf://org/sit",
            Ok("pytorch_lora_weights.safetensors"),
        ),
        (
            &["adapter_model.safetensors", "adapter_config.json", "a.safetensors"],
            "hf://org/sit",
            Ok("adapter_model.safetensors"),
        ),
        (&["adapter_model.bin", "adapter_config.json"], "hf://org/sit", Ok("adapter_model.bin")),
        (&["style.safetensors", "README.md"], "hf://org/sit@main", Ok("style.safetensors")),
        (&["a.safetensors", "b/c.safetensors"], "hf://org/sit/b/c.safetensors", Ok("b/c.safetensors")),
        (&["a.safetensors", "b.safetensors"], "hf://org/sit", Err("several files .safetensors; name the file")),
        (&["a.bin"], "hf://org/sit", Err("no file .safetensors")),
        (&["a.bin"], "hf://org/sit/b.safetensors", Err("has no b.safetensors")),
    ] {
        let setting = Setting::new();
        let stored: Vec<(&str, &[u8], bool)> = files.iter().map(|name| (*name, name.as_bytes(), false)).collect();
        let commit = setting.server.commit(NAME, "main", &stored);
        match (setting.client().adapter(&address(asked), |_| {}), wanted) {
            (Ok(path), Ok(name)) => {
                let snapshot = setting.stored().join("snapshots").join(&commit);
                assert_eq!(path, snapshot.join(name));
                let settings = files.contains(&"adapter_config.json");
                assert_eq!(names(&snapshot).len(), if settings { 2 } else { 1 }, "{asked}");
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, wanted) => panic!("{asked}: {found:?}, expected {wanted:?}"),
        }
    }
}

#[test]
fn weights_that_are_not_there_are_named() {
    let setting = Setting::new();
    sharded(&setting);
    let get = |text: &str| setting.client().weights(&address(text), |_| {}).unwrap_err();
    let error = get("hf://org/sit/sit.pt");
    assert!(matches!(&error, Error::NoFile { .. }) && error.to_string().contains("it has README.md"), "{error}");
    assert!(matches!(get("hf://org/sit@v9"), Error::NoRevision { .. }));
    assert!(matches!(get("hf://org/none"), Error::NoRepository { .. }));
    setting.server.commit(NAME, "main", &[("a.pt", b"a", true), ("b.pt", b"b", true)]);
    let error = get("hf://org/sit").to_string();
    assert!(error.contains("several networks, a.pt, b.pt") && error.contains("hf://org/sit/FILE"), "{error}");
}

#[test]
fn files_that_a_recipe_names_are_fetched_and_pinned() {
    let setting = Setting::new();
    let commit = setting.server.commit("org/vae", "v1", &[("x/vae.pt", b"a vae", true)]);
    let recipe = json!({ "a": [{ "weights": "hf://org/vae@v1/x/vae.pt" }], "b": "vae.pt", "c": 0.1, "d": "org/vae" });
    let [pinned, local] = setting.client().named_files(&recipe, |_| {}).unwrap();
    let address = format!("hf://org/vae@{commit}/x/vae.pt");
    let mut expected = recipe.clone();
    expected["a"][0]["weights"] = json!(address);
    assert_eq!(pinned, expected);
    let path = local["a"][0]["weights"].as_str().unwrap().to_string();
    assert_eq!(std::fs::read(&path).unwrap(), b"a vae");
    expected["a"][0]["weights"] = json!(path);
    assert_eq!(local, expected);
    // What is pinned is found again by nobody's help.
    let again = setting.client().offline(true).named_files(&pinned, |_| {}).unwrap();
    assert_eq!(again, [pinned, local]);

    for (wrong, reason) in
        [("hf://org/vae", "names no file"), ("hf://org", "must be hf://"), ("hf://org/vae@v1/y.pt", "has no y.pt")]
    {
        let error = setting.client().named_files(&json!([wrong]), |_| {}).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
