//! One cache and one Hub with Python's `huggingface_hub`: what one fetched the other finds, what one uploaded the other
//! downloads.
//!
//! Runs where `MIXFLOW_PYTHON`, or `python3`, has the package; says so where not.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mixflow_hub::{Revision, TransferProgress, Upload};

use crate::server::Failing;
use crate::shared::{CONFIG, NAME, Setting, repository, weights};
use crate::upload::{TOKEN, empty, model, writer};

pub(crate) fn python(setting: &Setting, program: &str) -> Option<Command> {
    let name = std::env::var("MIXFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&name).args(["-c", "import huggingface_hub"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} has no huggingface_hub (pip install huggingface_hub, or set MIXFLOW_PYTHON)");
        return None;
    }
    let mut command = Command::new(name);
    command.args(["-c", program]).env("HF_ENDPOINT", &setting.server.endpoint).env("HF_HUB_CACHE", setting.cache());
    command.env("HF_HOME", setting.folder.path()).env("HF_HUB_DISABLE_TELEMETRY", "1").env_remove("HF_TOKEN");
    command.env("HF_HUB_DISABLE_PROGRESS_BARS", "1").env("no_proxy", "127.0.0.1").stdout(Stdio::piped());
    Some(command)
}

/// What a program prints, without the last line end.
pub(crate) fn printed(mut command: Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

#[test]
fn python_finds_what_we_fetched() {
    let setting = Setting::new();
    let Some(command) = python(
        &setting,
        "from huggingface_hub import hf_hub_download, snapshot_download\n\
         print(hf_hub_download('org/sit', 'vae/config.json', local_files_only=True))\n\
         print(snapshot_download('org/sit', local_files_only=True))\n\
         print(hf_hub_download('org/sit', 'model.safetensors'))\n\
         print(snapshot_download('org/sit'))",
    ) else {
        return;
    };
    let ours = setting.client().snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
    let before = setting.server.asked("Signature=signed").len();
    let folder = ours.folder.to_str().unwrap();
    let expected = format!("{folder}/vae/config.json\n{folder}\n{folder}/model.safetensors\n{folder}");
    assert_eq!(printed(command), expected);
    assert_eq!(setting.server.asked("Signature=signed").len(), before);
}

#[test]
fn we_find_what_python_fetched() {
    let setting = Setting::new();
    let Some(command) = python(
        &setting,
        "from huggingface_hub import hf_hub_download, snapshot_download\n\
         print(hf_hub_download('org/sit', 'model.safetensors'))\n\
         print(snapshot_download('org/sit', allow_patterns=['*.json']))",
    ) else {
        return;
    };
    let theirs = printed(command);
    let before = setting.server.asked("").len();
    let (offline, main) = (setting.client().offline(true), Revision::default());
    let model = offline.file(&repository(), &main, "model.safetensors", |_| {}).unwrap();
    let part = offline.snapshot(&repository(), &main, &["*.json"], |_| {}).unwrap();
    assert_eq!(format!("{}\n{}", model.display(), part.folder.display()), theirs);
    assert_eq!((fs::read(&model).unwrap(), part.files.len()), (weights(), 2));
    assert_eq!(setting.server.asked("").len(), before);
    // Their list of files tells what is missing.
    assert!(offline.snapshot(&repository(), &main, &[], |_| {}).is_err());

    let whole = setting.client().snapshot(&repository(), &main, &[], |_| {}).unwrap();
    assert_eq!(fs::read(whole.folder.join("config.json")).unwrap(), CONFIG);
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
    assert!(Path::new(&whole.folder).join("vae/a b#.txt").is_file());
}

#[test]
fn python_and_we_wait_for_each_other() {
    let setting = Setting::new();
    let Some(mut command) = python(
        &setting,
        "import os, sys, huggingface_hub.file_download as d\n\
         old = d._download_to_tmp_and_move\n\
         def slow(*a, **k):\n    print('locked', flush=True); sys.stdin.readline(); return old(*a, **k)\n\
         d._download_to_tmp_and_move = slow\n\
         d.hf_hub_download('org/sit', 'model.safetensors')",
    ) else {
        return;
    };
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    let (mut stdin, mut waited) = (child.stdin.take(), false);
    let tell = |event: TransferProgress<'_>| {
        if let TransferProgress::Locked { .. } = event {
            waited = true;
            stdin.take();
        }
    };
    let path = setting.client().file(&repository(), &Revision::default(), "model.safetensors", tell).unwrap();
    assert!(child.wait().unwrap().success() && waited);
    assert_eq!(fs::read(path).unwrap(), weights());
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);

    // The other way round.
    let setting = Setting::new();
    setting.server.fail("Signature=signed", 1, Failing::Stall(Duration::from_secs(2)));
    let program = "from huggingface_hub import hf_hub_download; hf_hub_download('org/sit', 'model.safetensors')";
    let command = python(&setting, program).unwrap();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| setting.file("model.safetensors").unwrap());
        while setting.server.asked("Signature=signed").is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        printed(command);
        assert_eq!(fs::read(ours.join().unwrap()).unwrap(), weights());
    });
    assert_eq!(setting.server.asked("Signature=signed").len(), 1);
}

#[test]
fn python_downloads_what_we_uploaded() {
    for part in [None, Some(1_000_000)] {
        let setting = empty();
        setting.server.state().rules.part = part;
        let Some(mut command) = python(
            &setting,
            "from huggingface_hub import snapshot_download\n\
             print(snapshot_download('org/sit', revision='runs/7'))",
        ) else {
            return;
        };
        let private = Upload::new("a model").branch("runs/7").private(true);
        let done = writer(&setting).upload(&model(&setting), &repository(), &private, |_| {}).unwrap();
        command.env("HF_TOKEN", TOKEN);
        let theirs = printed(command);
        assert!(theirs.ends_with(done.commit.as_str()), "{theirs}");
        for name in ["config.json", "model.safetensors", "samples/a b#ü.txt"] {
            let found = fs::read(Path::new(&theirs).join(name)).unwrap();
            assert!(found == fs::read(model(&setting).join(name)).unwrap(), "{name}");
        }
        // What they fetched we find, in the same cache.
        let before = setting.server.asked("").len();
        let revision = done.commit.into();
        let ours = writer(&setting).offline(true).snapshot(&repository(), &revision, &[], |_| {}).unwrap();
        assert_eq!((ours.folder.to_str(), ours.files.len()), (Some(theirs.as_str()), 5));
        assert_eq!(setting.server.asked("").len(), before);
    }
}

#[test]
fn we_download_and_continue_what_python_uploaded() {
    for part in [None, Some(1_000_000)] {
        let setting = empty();
        setting.server.state().rules.part = part;
        let folder = model(&setting);
        let Some(mut command) = python(
            &setting,
            "import sys\n\
             from huggingface_hub import HfApi\n\
             api = HfApi()\n\
             api.create_repo('org/sit', private=True, exist_ok=True)\n\
             print(api.upload_folder(repo_id='org/sit', folder_path=sys.argv[1]).oid)",
        ) else {
            return;
        };
        command.arg(&folder).env("HF_TOKEN", TOKEN).env("HF_HUB_DISABLE_XET", "1");
        let theirs = printed(command);
        let ours = writer(&setting).snapshot(&repository(), &Revision::default(), &[], |_| {}).unwrap();
        assert_eq!(ours.commit.as_str(), theirs);
        for name in ["config.json", "model.safetensors", "samples/a b#ü.txt"] {
            assert!(fs::read(ours.folder.join(name)).unwrap() == fs::read(folder.join(name)).unwrap(), "{name}");
        }
        // Each sees that the other's content is the same: no commit, and nothing is sent.
        let private = Upload::new("the same").private(true);
        let again = writer(&setting).upload(&folder, &repository(), &private, |_| {}).unwrap();
        assert_eq!((again.commit.as_str(), again.sent, again.files_kept), (theirs.as_str(), 0, 4));
        fs::write(folder.join("config.json"), "{}").unwrap();
        let next = writer(&setting).upload(&folder, &repository(), &private, |_| {}).unwrap();
        let commits = setting.server.asked("/commit/").len();
        let program = "import sys\n\
                       from huggingface_hub import HfApi\n\
                       print(HfApi().upload_folder(repo_id='org/sit', folder_path=sys.argv[1]).oid)";
        let mut command = python(&setting, program).unwrap();
        command.arg(&folder).env("HF_TOKEN", TOKEN).env("HF_HUB_DISABLE_XET", "1");
        assert_eq!(printed(command), next.commit.as_str());
        assert_eq!((setting.server.asked("/commit/").len(), setting.server.files(NAME, "main").len()), (commits, 5));
    }
}
