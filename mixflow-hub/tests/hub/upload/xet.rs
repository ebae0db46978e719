//! Large files, to the Hub's own store, and Python to read from it.

use std::fs;
use std::path::Path;

use mixflow_hub::{Client, Error, TransferProgress, Upload};

use super::{SIZE, TOKEN, assert_published, commits, empty, model, published, stored, upload, writer};
use crate::python::{printed, python};
use crate::server::{Content, Failing};
use crate::shared::{hasty, repository, weights};
use crate::store::{contains, free, offer, start, tapped};

#[test]
fn the_store_is_told_nothing_but_the_content() {
    let Some(store) = start() else { return };
    let (address, heard) = tapped(&store, usize::MAX);
    let setting = empty();
    offer(&setting, &address, &"0".repeat(64));
    upload(&setting).unwrap();
    assert_published(&setting);
    let heard = heard.lock().unwrap();
    assert!(contains(&heard, "/shards HTTP/1.1") && contains(&heard, "Bearer granted"));
    assert!(!contains(&heard, TOKEN) && !contains(&heard, "/telemetry"));
}

#[test]
fn python_downloads_from_the_store_what_we_sent_there() {
    let Some(store) = start() else { return };
    let setting = empty();
    let program = "import sys, hf_xet; print(hf_xet.hash_files(sys.argv[1:])[0].hash)";
    let Some(mut command) = python(&setting, program) else { return };
    command.arg(model(&setting).join("model.safetensors"));
    offer(&setting, &store.address, &printed(command));

    let mut last = 0;
    let tell = |event: TransferProgress<'_>| {
        if let TransferProgress::Sent { bytes, size, .. } = event {
            assert!(bytes > last && bytes <= size);
            last = bytes;
        }
    };
    let done = writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a model"), tell).unwrap();
    assert_published(&setting);
    // Chunks that the file has twice are sent once.
    assert!((2_000_000..=SIZE).contains(&done.sent) && stored(&setting) == (0, 0), "{done:?}");

    let program = "from huggingface_hub import snapshot_download; print(snapshot_download('org/sit'))";
    let mut command = python(&setting, program).unwrap();
    command.env("HF_TOKEN", TOKEN).env("HF_XET_CACHE", setting.folder.path().join("xet"));
    let folder = printed(command);
    assert!(fs::read(Path::new(&folder).join("model.safetensors")).unwrap() == weights());
    assert!(setting.server.asked("Signature=signed").is_empty() && !setting.server.asked("xet-read-token").is_empty());

    // The token went to the Hub alone, and is in no file.
    let written = walk(&setting.cache());
    assert!(written.iter().all(|file| !contains(&fs::read(file).unwrap(), TOKEN)));
    let again = upload(&setting).unwrap();
    assert_eq!((again.commit, again.sent), (done.commit, 0));

    // Of a file that differs at its end only that is sent.
    let bytes = [&weights()[..2_900_000], &[7; 50_000]].concat();
    fs::write(model(&setting).join("next.safetensors"), &bytes).unwrap();
    let oid = Content { bytes: bytes.clone(), large: true }.sha256();
    setting.server.state().xet.as_mut().unwrap().files.insert(oid, (String::new(), bytes));
    let next = upload(&setting).unwrap();
    assert!(next.files_sent == 1 && (1..500_000).contains(&next.sent), "{next:?}");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_file_that_changes_on_the_way_to_the_store_is_not_published() {
    let Some(store) = start() else { return };
    let setting = empty();
    offer(&setting, &store.address, &"0".repeat(64));
    let tell = |event: TransferProgress<'_>| {
        if let TransferProgress::Sending { .. } = event {
            fs::write(model(&setting).join("model.safetensors"), vec![7; 3_000_000]).unwrap();
        }
    };
    let error = writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a"), tell).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(published(&setting).is_empty() && commits(&setting).is_empty());
}

#[test]
fn several_files_go_to_the_store_one_after_another() {
    let Some(store) = start() else { return };
    let setting = empty();
    offer(&setting, &store.address, &"0".repeat(64));
    for (index, name) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let bytes: Vec<u8> = weights()[..1_000_000].iter().map(|byte| byte ^ (index as u8 + 1)).collect();
        fs::write(model(&setting).join(name), &bytes).unwrap();
        let oid = Content { bytes: bytes.clone(), large: true }.sha256();
        setting.server.state().xet.as_mut().unwrap().files.insert(oid, (String::new(), bytes));
    }
    let mut stored_names = vec![];
    let tell = |event: TransferProgress<'_>| {
        if let TransferProgress::Stored { file } = event {
            stored_names.push(file.to_string());
        }
    };
    let done = writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a"), tell).unwrap();
    stored_names.sort();
    assert_eq!(stored_names, ["a.safetensors", "b.safetensors", "model.safetensors"]);
    let files = published(&setting);
    for name in &stored_names {
        assert!(files[name].bytes == fs::read(model(&setting).join(name)).unwrap(), "{name}");
    }
    assert_eq!((done.files_sent, stored(&setting)), (6, (0, 0)));
}

#[test]
fn a_store_that_is_down_publishes_nothing() {
    let setting = empty();
    offer(&setting, &format!("http://127.0.0.1:{}", free()), &"0".repeat(64));
    let error = upload(&setting).unwrap_err();
    assert!(matches!(&error, Error::Unsent { file, .. } if file == "model.safetensors"), "{error}");
    assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
    assert!(published(&setting).is_empty() && commits(&setting).is_empty());
}

/// A cache that others share may only be read, and in a folder that is a file nobody can make anything.
#[test]
fn what_is_on_its_way_is_kept_beside_the_cache() {
    let setting = empty();
    let store = start();
    let address = store.as_ref().map_or_else(|| format!("http://127.0.0.1:{}", free()), |store| store.address.clone());
    offer(&setting, &address, &"0".repeat(64));
    fs::create_dir_all(setting.cache()).unwrap();
    fs::write(setting.cache().join(".xet"), "").unwrap();
    let home = setting.folder.path().to_str().unwrap();
    let [cache, wrong] = ["hub", "hub/.xet"].map(|name| format!("{home}/{name}"));
    let publish = |more: (&str, &str)| {
        let endpoint = ("HF_ENDPOINT", setting.server.endpoint.as_str());
        let variables = [("HF_HOME", home), ("HF_HUB_CACHE", cache.as_str()), ("HF_TOKEN", TOKEN), endpoint, more];
        let read = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.into());
        let client = Client::from_variables(read).unwrap().patience(hasty());
        client.upload(&model(&setting), &repository(), &Upload::new("a model"), |_| {})
    };
    let error = publish(("HF_XET_CACHE", &wrong)).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, Error::Io { .. }) && told.contains(&wrong) && told.contains("set HF_XET_CACHE"), "{told}");
    let done = publish(("OTHER", ""));
    match &store {
        Some(_) => assert!(done.is_ok(), "{done:?}"),
        None => assert!(matches!(done, Err(Error::Unsent { .. })), "{done:?}"),
    }
    assert!(Path::new(home).join("xet").is_dir());
}

#[test]
fn a_right_to_write_that_is_none_is_refused() {
    for (body, reason) in [
        ("<html>log in</html>", "gives no right to write"),
        ("{\"casUrl\": \"file:///x\", \"accessToken\": \"a\", \"exp\": 1}", "sends us to an address that"),
    ] {
        let setting = empty();
        offer(&setting, "http://127.0.0.1:1", &"0".repeat(64));
        setting.server.fail("xet-write-token", 1, Failing::Body(body.as_bytes()));
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains(reason), "{error}");
        assert!(published(&setting).is_empty() && stored(&setting).1 == 0);
    }
}
