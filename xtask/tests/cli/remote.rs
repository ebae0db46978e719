//! Machines that serve their devices: processes on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::tensor::{Int, Tensor};
use mixflow::backbones::{ClassLabels, Network};
use mixflow::data::Classes;
use mixflow::device::{self, remote};
use mixflow::recipe::Recipe;
use mixflow::train::{Checkpoints, Run, Snapshot};
use mixflow::{Batch, Loss, Objective};

use crate::Place;
use crate::start::recipe;

const SECRET: [(&str, &str); 1] = [("MIXFLOW_SECRET", "a secret of these tests")];

/// A process that serves its CPU until it is dropped.
struct Machine {
    process: Child,
    address: String,
    /// Where it goes on writing.
    _output: BufReader<ChildStdout>,
}

impl Machine {
    fn new() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
        command.args(["serve", "--device", "flex", "--address", "127.0.0.1:0"]).envs(SECRET).env("RUST_LOG", "error");
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut output, mut line) = (BufReader::new(process.stdout.take().unwrap()), String::new());
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("serving at ").and_then(|rest| rest.split_once(": ")).unwrap().0.into();
        Self { process, address, _output: output }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn devices(machines: &[&Machine]) -> String {
    format!("remote:{}", machines.iter().map(|machine| &*machine.address).collect::<Vec<_>>().join(","))
}

/// A command that knows the secret.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
    command.args(arguments).current_dir(place.path("")).envs(SECRET).env_remove("BURN_DEVICE");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The sentence that a command which fails ends with.
#[track_caller]
fn fault(output: Output) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    told.lines().last().unwrap().into()
}

/// A place with a recipe of so many steps, with a checkpoint at every fourth.
fn place(steps: u64) -> Place {
    let (place, mut recipe) = (Place::new(), recipe());
    recipe["training"] = serde_json::json!({ "steps": steps, "batch": 8, "checkpoint_every": 4 });
    fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
    place
}

/// Trains to the end.
#[track_caller]
fn train(place: &Place, out: &str, device: &str, more: &[&str]) {
    let arguments = [&["train", "tiny.json", "--out", out, "--device", device], more].concat();
    let output = command(place, &arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The last state of a run, which is whole.
fn state(place: &Place, run: &str) -> Snapshot {
    let found = Checkpoints::new(place.path(run).join("checkpoints"), 2).latest().unwrap();
    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    found.checkpoint.unwrap().snapshot
}

/// The largest difference of two runs' weights.
fn apart(place: &Place, a: &str, b: &str) -> f64 {
    let [a, b] = [a, b].map(|run| {
        let weights = state(place, run).weights;
        weights.values().flat_map(|values| values.iter::<f64>().collect::<Vec<_>>()).collect::<Vec<_>>()
    });
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_training_on_one_and_two_machines_is_the_one_on_this_one() {
    let (place, machines) = (place(20), [Machine::new(), Machine::new()]);
    let [first, second] = &machines;
    train(&place, "here", "flex", &[]);
    train(&place, "one", &devices(&[first]), &[]);
    train(&place, "two", &devices(&[first, second]), &[]);
    for run in ["one", "two"] {
        assert!(apart(&place, run, "here") < 1e-6, "{run}: {:e}", apart(&place, run, "here"));
    }
    // What is remembered lies on the machines, a half on each, or here.
    let changes =
        ["training.shard=true", "training.offload=true", "training.precision=bf16"].map(|change| ["--set", change]);
    let [shard, offload, low] = &changes;
    train(&place, "low", &devices(&[first, second]), low);
    for (out, like, changes) in [
        ("sharded", "here", vec![shard]),
        ("offloaded", "here", vec![offload]),
        ("both", "here", vec![shard, offload]),
        ("low-sharded", "low", vec![low, shard]),
        ("low-offloaded", "low", vec![low, offload]),
    ] {
        train(&place, out, &devices(&[first, second]), &changes.into_iter().flatten().copied().collect::<Vec<_>>());
        assert!(apart(&place, out, like) < 1e-6, "{out}: {:e}", apart(&place, out, like));
    }
    for (device, image) in [("flex", "here.png"), (&*devices(&[first, second]), "there.png")] {
        let arguments = ["sample", "here", "--steps", "2", "--device", device, "--out", image];
        assert!(command(&place, &arguments).status().unwrap().success());
    }
    assert!(fs::read(place.path("here.png")).unwrap() == fs::read(place.path("there.png")).unwrap());
}

/// A training that two machines share, sent a signal when it has a checkpoint: how it ends, and after how long.
fn struck(place: &Place, machines: &[Machine; 2], struck: usize, signal: &str) -> (String, Duration) {
    let names = devices(&[&machines[0], &machines[1]]);
    let mut process = command(place, &["train", "tiny.json", "--out", "run", "--device", &names]).spawn().unwrap();
    while !place.path("run/checkpoints/step-00000004").exists() {
        assert!(process.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        sleep(Duration::from_millis(20));
    }
    machines[struck].signal(signal);
    let start = Instant::now();
    let told = fault(process.wait_with_output().unwrap());
    (told, start.elapsed())
}

#[test]
fn a_machine_that_is_killed_ends_the_run_which_goes_on_without_it() {
    for dead in [0, 1] {
        let (place, machines) = (place(24), [Machine::new(), Machine::new()]);
        let (told, after) = struck(&place, &machines, dead, "-KILL");
        let name = format!("error: device {} of 2 (remote:{}) failed at step ", dead + 1, machines[dead].address);
        assert!(told.starts_with(&name) && told.contains(": its machine does not answer; "), "{told}");
        assert!(after < Duration::from_secs(10), "{after:?}");
        assert!(state(&place, "run").step < 24);

        train(&place, "run", &devices(&[&machines[1 - dead]]), &["--resume"]);
        train(&place, "here", "flex", &[]);
        assert!(apart(&place, "run", "here") < 1e-6, "{:e}", apart(&place, "run", "here"));
    }
}

#[test]
fn images_that_a_machine_does_not_draw_any_more_are_not_waited_for() {
    let (place, machines) = (place(4), [Machine::new(), Machine::new()]);
    train(&place, "run", "flex", &[]);
    let names = devices(&[&machines[0], &machines[1]]);
    let arguments = ["sample", "run", "--count", "100000", "--device", &names, "--out", "images"];
    let process = command(&place, &arguments).spawn().unwrap();
    while !place.path("images").exists() {
        sleep(Duration::from_millis(20));
    }
    machines[1].signal("-KILL");
    let told = fault(process.wait_with_output().unwrap());
    assert_eq!(told, format!("error: remote:{}: its machine does not answer", machines[1].address));
}

#[test]
fn a_machine_that_hangs_is_given_up() {
    let (place, machines) = (place(10_000), [Machine::new(), Machine::new()]);
    let (told, after) = struck(&place, &machines, 1, "-STOP");
    assert_eq!(told, format!("error: remote:{}: has not answered for 30 seconds", machines[1].address));
    assert!(after < Duration::from_secs(45), "{after:?}");
}

/// Asks the second of two devices for rows that there are not, which fails where it is computed.
#[derive(Debug)]
struct Faulty;

impl Objective<Network> for Faulty {
    fn loss(&self, network: &Network, batch: Batch<ClassLabels>, seed: u64) -> Loss {
        let mut loss =
            Recipe::read("digits", &[]).unwrap().objective.flow_matching().loss(network, batch.clone(), seed);
        if batch.first % 8 == 4 {
            let row = Tensor::<1, Int>::from_data([1_000_000], &batch.images.device());
            loss.total = loss.total + batch.images.select(0, row).mean();
        }
        loss
    }
}

/// While the machine of the first waits for what the other does not send.
#[test]
fn a_computation_that_fails_on_a_machine_ends_the_run() {
    let (place, machines) = (place(8), [Machine::new(), Machine::new()]);
    let names = devices(&[&machines[0], &machines[1]]);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "remote::child", "--ignored"]).current_dir(place.path("")).envs(SECRET);
    let start = Instant::now();
    let output = child.env("DEVICES", &names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let told = fs::read_to_string(place.path("told")).unwrap();
    let sentence = format!("remote:{}: its machine ended the connection", machines[1].address);
    assert!(told.starts_with(&sentence), "{told}");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());

    // The first one goes on waiting for it and would fetch nothing else: a next training says so, instead of waiting, too.
    let again = ["train", "tiny.json", "--out", "again", "--device", &names];
    let told = fault(command(&place, &again).spawn().unwrap().wait_with_output().unwrap());
    let [first, second] = machines.each_ref().map(|machine| &machine.address);
    assert!(told.contains(&format!("{first} fetches nothing from {second}")), "{told}");
    assert!(told.contains("start `serve` on both anew"), "{told}");
}

#[test]
#[ignore = "the process of the test above"]
fn child() {
    let trained = remote::watched(|| {
        let recipe = Recipe::read("tiny.json", &[]).unwrap();
        let devices = device::several(&std::env::var("DEVICES").unwrap()).unwrap();
        let run = Run {
            folder: Path::new("run").into(),
            recipe: recipe.to_value(),
            config: &recipe.training,
            seed: recipe.seed,
            data: recipe.data.open().unwrap(),
            conditioner: Arc::new(Classes(10)),
            flip: true,
            encoder: None,
            beside: &devices[1..],
            stop: &AtomicBool::new(false),
        };
        run.train(recipe.network.init(recipe.seed, &devices[0]), &Faulty, |_| {}).map(|_| ())
    });
    fs::write("told", trained.unwrap_err().to_string()).unwrap();
}

#[test]
fn a_machine_that_is_not_there_or_has_another_secret_is_a_sentence_at_once() {
    let (place, machine) = (place(4), Machine::new());
    let there = &*machine.address;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let start = Instant::now();
    for (device, words) in [
        (gone.clone(), "no machine serves there (Connection refused"),
        (format!("{there},{gone}"), "no machine serves there"),
        (format!("{there},remote:{there}"), "is named twice"),
        (format!("{there},flex"), "flex: expected host:port, as in remote:10.0.0.2:7000"),
    ] {
        let device = format!("remote:{device}");
        for first in [&["train", "tiny.json", "--out", "run"][..], &["sample", "x", "--out", "x.png"]] {
            let told = fault(command(&place, &[first, &["--device", &device]].concat()).output().unwrap());
            assert!(told.starts_with(&format!("error: --device {device}: ")) && told.contains(words), "{told}");
        }
    }
    let named = format!("remote:{there}");
    let train = ["train", "tiny.json", "--out", "run", "--device", &named];
    let told = fault(command(&place, &train).env("MIXFLOW_SECRET", "another secret of these").output().unwrap());
    assert!(told.ends_with(": the machine has another secret than MIXFLOW_SECRET here"), "{told}");
    let told = fault(command(&place, &train).env_remove("MIXFLOW_SECRET").output().unwrap());
    assert!(told.contains("expected a secret of 16 letters or more in MIXFLOW_SECRET"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(10) && !place.path("run").exists());
}

#[test]
fn nothing_is_served_to_others_or_without_a_secret_unasked() {
    let place = Place::new();
    let told = fault(command(&place, &["serve", "--address", "0.0.0.0:0"]).output().unwrap());
    assert!(told.contains("other machines can reach it, and nothing is encrypted"), "{told}");
    for secret in ["", "short"] {
        let mut command = command(&place, &["serve", "--address", "127.0.0.1:0", "--device", "flex"]);
        let told = fault(command.env("MIXFLOW_SECRET", secret).output().unwrap());
        assert!(told.contains("expected a secret of 16 letters or more"), "{told}");
    }
}
