//! Several large files at once.

use std::fs;
use std::time::{Duration, Instant};

use mixflow_hub::{Error, Patience, TransferProgress, Upload};

use super::{commits, empty, model, published, stored, writer};
use crate::server::{Content, Failing};
use crate::shared::{Setting, hasty, repository};

/// Large files of one size that differ from each other.
fn files(setting: &Setting, count: u8) -> Vec<String> {
    fs::remove_file(model(setting).join("model.safetensors")).unwrap();
    let name = |index: u8| format!("model-{index}.safetensors");
    (0..count).for_each(|index| fs::write(model(setting).join(name(index)), [index; 10_000]).unwrap());
    (0..count).map(name).collect()
}

/// What the storage server calls a file.
fn address(index: u8) -> &'static str {
    Content { bytes: vec![index; 10_000], large: true }.sha256().leak()
}

#[test]
fn up_to_four_files_are_sent_at_once() {
    for parts in [false, true] {
        let setting = empty();
        setting.server.state().rules.part = parts.then_some(6_000);
        let names = files(&setting, 9);
        setting.server.fail("Signature=signed", 99, Failing::Together(4));
        let (mut open, mut most, mut last) = (vec![], 0, vec![]);
        let tell = |event: TransferProgress<'_>| match event {
            TransferProgress::Sending { file, size: 10_000 } => {
                open.push(file.to_string());
                most = most.max(open.len());
            }
            TransferProgress::Sent { file, bytes: 10_000, .. } => last.push(file.to_string()),
            TransferProgress::Stored { file } => open.retain(|name| name != file),
            _ => {}
        };
        let done = writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a model"), tell).unwrap();
        assert_eq!((done.sent, most), (90_000 + 6 + 16, 4));
        assert!(setting.server.state().busy.1 >= 4);
        assert_eq!(stored(&setting), (90_000, if parts { 18 } else { 9 }));
        let found = published(&setting);
        for (index, name) in names.iter().enumerate() {
            assert!(found[name].bytes == [index as u8; 10_000], "{name}");
        }
        // Whoever is told hears of every file, to its end.
        last.sort();
        assert!(open.is_empty() && last == names, "{open:?} {last:?}");
    }
}

#[test]
fn one_that_fails_stops_the_others() {
    let setting = empty();
    files(&setting, 9);
    // One is refused for good while two wait for another attempt and one is on a line that takes nothing.
    setting.server.fail(address(1), 99, Failing::Answer(400, vec![], "no"));
    // When all four are on their way.
    setting.server.fail(address(1), 99, Failing::Together(4));
    for index in [0, 2] {
        setting.server.fail(address(index), 99, Failing::Answer(503, vec![("Retry-After", "30".into())], ""));
    }
    setting.server.fail(address(3), 99, Failing::Slow(Duration::from_millis(500)));
    let started = Instant::now();
    let upload = Upload::new("a model");
    let patient = writer(&setting).patience(Patience { longest_wait: Duration::from_secs(60), ..hasty() });
    let error = patient.upload(&model(&setting), &repository(), &upload, |_| {}).unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error}");
    // Nobody waits for an attempt that is not to come, and no other file is begun.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(setting.server.asked("/objects/batch").len(), 4 + 1);
    assert!(published(&setting).is_empty() && commits(&setting).is_empty());
    // What arrived is not sent again.
    setting.server.state().faults.clear();
    let before = stored(&setting).0;
    let done = writer(&setting).upload(&model(&setting), &repository(), &upload, |_| {}).unwrap();
    assert_eq!((stored(&setting).0 - before, published(&setting).len()), (80_000, 12));
    assert_eq!(done.sent, 80_000 + 6 + 16);
}

/// How long an upload takes whose store answers late: `cargo test --test hub eight_files -- --ignored --nocapture`.
#[test]
#[ignore = "measures time"]
fn eight_files_of_a_store_that_takes_half_a_second() {
    let setting = empty();
    files(&setting, 8);
    setting.server.fail("Signature=signed", 99, Failing::Slow(Duration::from_millis(500)));
    let started = Instant::now();
    writer(&setting).upload(&model(&setting), &repository(), &Upload::new("a model"), |_| {}).unwrap();
    eprintln!("8 files: {:.2} s, one after another 4 s at least", started.elapsed().as_secs_f64());
}
