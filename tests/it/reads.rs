//! A step reads numbers from its device once.

use std::fs;
use std::path::{Path, PathBuf};

/// What a training step runs, of the whole family.
const STEP: [&str; 14] = [
    "mixflow-backbones/src/block",
    "mixflow-backbones/src/convolution.rs",
    "mixflow-backbones/src/dit",
    "mixflow-backbones/src/dit_dh",
    "mixflow-backbones/src/embed",
    "mixflow-backbones/src/lightning_dit",
    "mixflow-backbones/src/linear.rs",
    "mixflow-backbones/src/ops",
    "mixflow-backbones/src/repa",
    "mixflow-backbones/src/sit",
    "mixflow-t2i/src/mmdit",
    "mixflow-t2i/src/mmjit",
    "mixflow/src/objective",
    "mixflow/src/train/state.rs",
];

/// Every call that waits for the device, file by file, but for those of tests, documentation and loading.
fn reads(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        let mut files: Vec<_> =
            fs::read_dir(path).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        return files.iter().for_each(|file| reads(file, found));
    }
    if path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs") {
        return;
    }
    let text = fs::read_to_string(path).expect("a source");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().map(str::trim);
    for line in code.filter(|line| !line.starts_with("//") && !line.contains("insert_missing")) {
        if ["into_scalar", "into_data", "to_data"].iter().any(|call| line.contains(call)) {
            found.push((path.into(), line.into()));
        }
    }
}

/// Losses, their terms and the norms of all gradients come together, whatever the network. A checkpoint reads the rest.
#[test]
fn a_step_reads_from_its_device_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = vec![];
    for place in STEP {
        let before = found.len();
        reads(&root.join(place), &mut found);
        assert!(root.join(place).exists() && before <= found.len(), "{place}");
    }
    let outside: Vec<_> =
        found.iter().filter(|(file, _)| !file.ends_with("ops/read.rs") && !file.ends_with("train/state.rs")).collect();
    assert!(outside.is_empty(), "these wait for the device in every step: {outside:#?}");
    let state = fs::read_to_string(root.join("mixflow/src/train/state.rs")).expect("a source");
    let step = state.split("pub fn minimise").nth(1).and_then(|rest| rest.split("pub fn snapshot").next());
    let step = step.expect("a step, then the snapshot");
    assert_eq!(step.matches("read(").count(), 1, "one read a step");
    assert_eq!(step.matches("_data()").count() + step.matches("into_scalar").count(), 0);
}
