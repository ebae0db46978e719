//! A run that is killed: while its log is written, its events for `TensorBoard`, and what Weights & Biases is sent.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mixflow::train::{Event, MetricsLog, StepReport};
use mixflow_hub::tracker::{End, Entry, TensorBoard, Trackers, Wandb, WandbRun};
use serde_json::Value;

use super::super::PNG;
use super::super::wandb_server::Server;
use super::{sync, to};

const STEPS: u64 = 3000;
const DRAWN_EVERY: u64 = 5;
const SAVED_EVERY: u64 = 40;

/// A run as `StepLoop` makes it: a log, pictures and a checkpoint now and then, and its events.
fn run(folder: &Path, server: &str) {
    let [metrics, checkpoint, partial] = ["metrics.jsonl", "saved", "partial"].map(|name| folder.join(name));
    let first = fs::read_to_string(&checkpoint).map_or(0, |step| step.parse().unwrap());
    let mut log = MetricsLog::open(&metrics, first).unwrap();
    let mut trackers = Trackers::default();
    trackers.add(TensorBoard::open(&folder.join("board")));
    trackers.add(Wandb::open(folder, &WandbRun::new("killed")).and_then(|run| run.live(to(server))));
    trackers.log(&metrics);
    trackers.event(&Event::Started { step: first });
    for step in first..STEPS {
        let report = StepReport {
            step,
            loss: 1.0 / (1 + step) as f64,
            terms: vec![],
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            finite: true,
        };
        log.step(&report).unwrap();
        trackers.event(&Event::Stepped(report.clone()));
        // Where steps take long, rows are shown before a checkpoint is written.
        if step % 3 == 0 {
            trackers.track(Entry::Flush);
        }
        std::thread::sleep(Duration::from_micros(300));
        if (step + 1) % DRAWN_EVERY == 0 {
            let file = folder.join(format!("validation/step-{:08}.png", step + 1));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, PNG).unwrap();
            trackers.event(&Event::Drawn { steps: step + 1, file: file.clone(), seconds: 0.0 });
        }
        if (step + 1) % SAVED_EVERY == 0 || step + 1 == STEPS {
            log.flush().unwrap();
            fs::write(&partial, (step + 1).to_string()).unwrap();
            fs::rename(&partial, &checkpoint).unwrap();
            trackers.event(&Event::Saved(checkpoint.clone()));
        }
    }
    trackers.track(Entry::Finished(End::Done));
    assert_eq!(trackers.finish(), Vec::<String>::new());
}

/// Runs itself again as a process that is killed.
#[test]
fn a_run_that_is_killed_at_any_moment_has_every_row_once() {
    const CHILD: &str = "MIXFLOW_TEST_KILLED_STREAM";
    if let Ok(places) = std::env::var(CHILD) {
        let (server, folder) = places.split_once(' ').unwrap();
        return run(Path::new(folder), server);
    }
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let test = "tracker::stream::killed::a_run_that_is_killed_at_any_moment_has_every_row_once";
    let places = format!("{} {}", server.address, folder.path().display());
    let start = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", test]).env(CHILD, &places).stdout(Stdio::null()).spawn().unwrap()
    };
    let (mut sent, mut rewound) = (0, 0);
    for moment in 0..30u64 {
        let mut child = start();
        std::thread::sleep(Duration::from_millis(20 + moment * 7 % 41));
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        let run = server.run();
        sent += u64::from(!run.pieces.is_empty());
        let saved = fs::read_to_string(folder.path().join("saved")).map_or(0, |step| step.parse().unwrap());
        rewound += u64::from(run.history.len() as u64 > saved);
    }
    assert!(start().wait().unwrap().success());
    eprintln!(
        "30 kills: {sent} after the first rows were sent, {rewound} where the server knew more than the checkpoint"
    );
    // How many of each there are depends on the machine.
    assert!(sent > 0, "{sent}");

    let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let logged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(logged.iter().map(|row| row["step"].as_u64().unwrap()).eq(0..STEPS), "metrics.jsonl");
    for name in ["wall_time", "runtime"] {
        assert!(logged.is_sorted_by_key(|row| row[name].as_f64().unwrap()), "{name} in metrics.jsonl");
    }
    let [numbers, pictures] = board(&folder.path().join("board"));
    assert!(numbers.iter().map(|(step, _)| *step).eq(0..STEPS), "TensorBoard");
    let drawn = (0..STEPS).filter(|step| (step + 1) % DRAWN_EVERY == 0);
    assert!(pictures.iter().map(|(step, _)| *step).eq(drawn), "TensorBoard");
    assert!(
        numbers.iter().chain(&pictures).all(|(_, time)| *time > 1e9) && numbers.is_sorted_by_key(|(_, time)| *time)
    );

    let found = server.run();
    let rows: Vec<Value> = found.rows().iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert!(rows.iter().map(|row| row["_step"].as_u64().unwrap()).eq(0..STEPS));
    assert!(rows.iter().all(|row| row["loss"] == 1.0 / (1 + row["_step"].as_u64().unwrap()) as f64));
    assert!(rows.iter().map(|row| row["_runtime"].as_f64().unwrap()).is_sorted(), "the run time grows");
    for (step, row) in (0..).zip(&rows) {
        match (step + 1) % DRAWN_EVERY {
            0 => assert_eq!(found.files[row["validation"]["path"].as_str().unwrap()], PNG),
            _ => assert!(row["validation"].is_null(), "{row}"),
        }
    }
    assert_eq!(found.exit, Some(0));

    // And so is what the official client sends of the same folder.
    let runs = fs::read_dir(folder.path().join("wandb")).unwrap().map(|entry| entry.unwrap().path());
    // A process may have been killed before it had named its run.
    let run = runs.max_by_key(|run| fs::read_dir(run.join("files")).map_or(0, Iterator::count)).unwrap();
    let Some(theirs) = sync(&run) else { return };
    let theirs = theirs.run();
    let theirs: Vec<Value> = theirs.rows().iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let numbers = |rows: Vec<Value>| rows.into_iter().map(super::sorted).collect::<Vec<_>>();
    assert_eq!(numbers(rows), numbers(theirs));
}

/// Steps of the losses and of the pictures, and when they were told in seconds since 1970, that `TensorBoard` shows of a folder: of a run that starts again at a step it forgets
/// what it knew from there on.
fn board(folder: &Path) -> [Vec<(u64, f64)>; 2] {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut steps = [vec![], vec![]];
    for bytes in files.iter().map(|file| fs::read(file).unwrap()) {
        let mut rest = &bytes[..];
        // A length and its checksum, an event and its checksum; what was being written may end in the middle of it.
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*head) as usize;
            let Some(event) = after.get(4..4 + length) else { break };
            rest = after.get(4 + length + 4..).unwrap_or_default();
            let event = fields(event);
            let step = event.iter().find_map(|(name, number, _)| (*name == 2).then_some(*number)).unwrap_or(0);
            let time = event.iter().find_map(|(name, _, content)| (*name == 1).then(|| (*content).try_into().unwrap()));
            let time = time.map_or(0.0, f64::from_le_bytes);
            for (name, _, content) in event {
                match name {
                    7 => steps.iter_mut().for_each(|steps| steps.retain(|(known, _)| *known < step)),
                    5 => fields(content).into_iter().for_each(|(_, _, value)| {
                        let value = fields(value);
                        let is_picture = value.iter().any(|(name, ..)| *name == 4);
                        if is_picture || value.iter().any(|(_, _, tag)| *tag == b"loss") {
                            steps[usize::from(is_picture)].push((step, time));
                        }
                    }),
                    _ => {}
                }
            }
        }
    }
    steps
}

/// Fields of a message of protobuf: their numbers, and what they hold: a whole number or bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn whole(message: &mut &[u8]) -> u64 {
        let end = message.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (number, rest) = message.split_at(end);
        *message = rest;
        number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
    }
    let mut fields = vec![];
    while !message.is_empty() {
        let head = whole(&mut message);
        let (number, length) = match head & 7 {
            0 => (whole(&mut message), 0),
            1 => (0, 8),
            2 => (0, whole(&mut message) as usize),
            _ => (0, 4),
        };
        let (content, rest) = message.split_at(length);
        fields.push((head >> 3, number, content));
        message = rest;
    }
    fields
}
