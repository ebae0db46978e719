//! What is written where there is no room is written whole or not at all, and what was there stays.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use mixflow::data::latents::{Contents, EncodedBatch, Image, Latents, Origin, StoragePrecision, Verified, Writer};
use mixflow::data::source::SourceEntry;
use mixflow::files::write_atomic;
use mixflow::train::{Checkpoints, MetricsLog, StepReport};
use mixflow_backbones::sit::official_key;
use mixflow_backbones::weights::Weights;

use crate::resume::{interrupt, network, recipe, temporary, train};

/// What writes stored latents of 64 KiB each.
fn latents(folder: &Path) -> Writer {
    let contents = Contents {
        shape: [4, 64, 64],
        precision: StoragePrecision::F32,
        deviation: false,
        flipped: false,
        normalised: true,
        image_size: 512,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: vec!["all".into()],
        autoencoder: Origin { name: "none".into(), sha256: String::new() },
        features: vec![],
        source: "none".into(),
        shard_examples: 1,
    };
    Writer::open(&folder.join("latents"), contents).expect("a folder of such latents")
}

fn push(writer: &mut Writer, name: &str) {
    let image =
        Image { entry: SourceEntry { name: name.into(), class: 0, captions: vec![], stamp: None }, sha256: [0; 32] };
    let encoded = EncodedBatch { mean: vec![0.5; 4 * 64 * 64], deviation: None, features: vec![], mask: None };
    writer.push(&[image], &encoded, None).expect("all is valid");
}

/// A run with a checkpoint after four steps, weights, a report and stored latents.
fn prepare(folder: &Path) {
    interrupt(&recipe(4), folder, 3);
    let network = network(&recipe(4));
    Weights::of(&network, official_key).write(folder.join("model.safetensors"), &[]).expect("there is room");
    write_atomic(&folder.join("report.html"), b"the old report").expect("there is room");
    let mut writer = latents(folder);
    push(&mut writer, "a.png");
    writer.finish().expect("there is room");
}

/// Names and contents of all files below a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).expect("the file can be read")));
        }
    }
    found.sort();
    found
}

/// Tries everything that a run writes; every attempt must fail with the file's name and `words`.
fn every_write_fails_cleanly(folder: &Path, words: &str) {
    let check = |name: &str, error: String| {
        assert!(error.contains(name) && error.contains(words) && !error.contains('\n'), "{name}: {error}");
    };
    let log = folder.join("metrics.jsonl");
    let before = files(folder);

    let recipe = recipe(4);
    let error = train(&recipe, folder, &recipe.objective.flow_matching(), &AtomicBool::new(false), |_| {})
        .expect_err("the second checkpoint does not fit");
    check("weights.safetensors", error.to_string());
    let whole = Checkpoints::new(folder.join("checkpoints"), 2).latest().expect("the folder can be listed");
    assert!(whole.damaged.is_empty() && whole.checkpoint.is_some_and(|checkpoint| checkpoint.snapshot.step == 4));

    let weights = Weights::of(&network(&recipe), official_key);
    let error = weights.write(folder.join("model.safetensors"), &[]).expect_err("weights do not fit");
    check("model.safetensors", error.to_string());
    let error = write_atomic(&folder.join("report.html"), &vec![b'x'; 1 << 20]).expect_err("the report does not fit");
    check("report.html", error.to_string());

    let mut writer = latents(folder);
    push(&mut writer, "b.png");
    let error = writer.finish().expect_err("another shard does not fit");
    check("shard-00001", error.to_string());
    Latents::open(&folder.join("latents"))
        .and_then(|latents| latents.verify(&Verified::default(), |_, _| ()))
        .expect("the latents from before are whole");

    let mut lines = MetricsLog::open(&log, 12).expect("the log can be opened");
    let report =
        StepReport { step: 12, loss: 0.1, terms: vec![], gradient_norm: 0.2, learning_rate: 0.3, finite: true };
    let full = (0..1000).find_map(|_| lines.step(&report).err()).expect("a thousand lines do not fit");
    check("metrics.jsonl", full.to_string());
    drop(lines);
    let text = fs::read_to_string(&log).expect("the log can be read");
    assert!(text.ends_with('\n') && text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));

    // Pictures are drawn before a checkpoint, and again by the run that goes on.
    let picture = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("validation"));
    let others = |files: Vec<(PathBuf, Vec<u8>)>| {
        files.into_iter().filter(|(path, _)| *path != log && !picture(path)).collect::<Vec<_>>()
    };
    assert_eq!(others(files(folder)), others(before), "files were left or changed");
}

const FOLDER: &str = "MIXFLOW_FULL_FOLDER";

/// A limit on the size of a file, which needs no rights, fails in the middle of a write as a full disk does.
#[test]
fn a_write_that_does_not_fit_leaves_what_was_there() {
    let folder = temporary();
    prepare(folder.path());
    // 8 KiB or, by some shells, 16: more than twelve lines of the log, less than the weights.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "full_disk::child", "--ignored"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .status()
        .expect("a shell can be started");
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "the process that the test above limits"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    every_write_fails_cleanly(&folder, "File too large");
}

/// A file system of half a MiB, taken away again in the end.
struct Small(tempfile::TempDir);

impl Small {
    /// None where this program may not mount one.
    fn mount() -> Option<Self> {
        let folder = temporary();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let Some(disk) = Small::mount() else {
        eprintln!("skipped: no right to mount a small file system; the test with a limit on file sizes stands for it");
        return;
    };
    let folder = disk.0.path().join("run");
    prepare(&folder);
    let ballast = fs::write(disk.0.path().join("ballast"), vec![0; 1 << 20]);
    assert!(ballast.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull));
    every_write_fails_cleanly(&folder, "free some space");
}
