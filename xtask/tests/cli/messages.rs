//! What commands say of what they cannot use, in the words of who typed it.

use std::fs;
use std::process::{Command, Stdio};

use crate::Place;
use crate::start::{COMPARISON, place};

#[test]
fn a_wrong_value_is_blamed_on_the_flag_that_gave_it() {
    let place = place();
    fs::create_dir(place.path("photos")).unwrap();
    for (arguments, words) in [
        (
            &["train", "tiny.json", "--set", "training.steps=many"][..],
            "error: --set training.steps=many: training.steps: expected a whole number, 0 or more, found the text \"many\"",
        ),
        (&["train", "tiny.json", "--set", "trainign.steps=1"], "unknown key `trainign`, perhaps `training`"),
        (&["compare", "tiny.json", "--set", COMPARISON, "--steps", "0", "--from", "first"], "error: --steps 0: "),
        (&["compare", "tiny.json", "--set", COMPARISON, "--seeds", "0", "--from", "first"], "error: --seeds 0: "),
        (&["sample", "first", "--steps", "0", "--out", "x.png"], "error: --steps 0: "),
        (
            &["sample", "first", "--guidance", "nan", "--out", "x.png"],
            "invalid value 'nan' for '--guidance <SCALE>': expected a finite number",
        ),
        (&["sample", "first", "--guide", "second", "--out", "x.png"], "error: --guide second: "),
        (
            &["train", "tiny.json", "--data", "nowhere"],
            "error: --data nowhere: expected digits, shapes, scenes, emoji or a folder",
        ),
        (
            &["plan", "paper/sit-xl-2-256", "--data", "emoji"],
            "error: --data emoji: the recipe's own data have no side in pixels to take over: add --set data.size=PIXELS",
        ),
        (&["train", "words", "--data", "digits", "--out", "words"], "the data has 1 x 32 x 32"),
        (&["eval", "first", "--images", "3"], "expected 8 to 10,000,000 images: of fewer no distance tells anything"),
        (&["plan", "digit"], "no recipe of that name, perhaps digits; recipes are emoji, digits, shapes, "),
        (&["plan", "nothing"], ", minit2i-b-16 and 24 of published networks\n"),
        (&["train", "sit-xl-2-256-mixflow"], "perhaps paper/sit-xl-2-256-mixflow;"),
        (&["train", "first"], "but a run, whose recipe is first/recipe.json"),
    ] {
        let output = place.call(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(words), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    for (text, words) in [
        ("{\"name\": \"a\",}", "not JSON: there is a comma after the last value, which JSON does not allow, at line 1"),
        ("{\"name\": \"a\"", "not JSON: the text ends in the middle of an object"),
        ("", "is empty: its download or copy did not finish"),
        ("{\"nmae\": \"a\"}", "unknown key `nmae`, perhaps `name`"),
        ("[]", "expected an object, found a list"),
        ("{\"name\": \"a\", \"name\": \"b\"}", "the key `name` is there twice"),
    ] {
        fs::write(place.path("wrong.json"), text).unwrap();
        place.refuse(&["train", "wrong.json"], &["wrong.json: ", words]);
    }
    fs::write(place.path("wrong.json"), b"ch\xe2t").unwrap();
    place.refuse(&["train", "wrong.json"], &["cannot read wrong.json: it is no text in UTF-8"]);
    let marked = format!("\u{feff}{}", fs::read_to_string(place.path("tiny.json")).unwrap());
    fs::write(place.path("marked.json"), marked).unwrap();
    place.run(&["train", "marked.json", "--out", "marked"]);
}

#[test]
fn every_recipe_is_known_to_the_commands_by_name() {
    let place = Place::new();
    for name in mixflow::recipe::names() {
        let told = place.run(&["plan", name, "--device", "h100"]);
        assert!(told.contains("parameters"), "{name}: {told}");
    }
}

#[test]
fn after_divergence_the_command_that_is_told_goes_on() {
    let place = place();
    let train = ["train", "tiny.json", "--out", "run", "--set", "training.checkpoint_every=100"];
    let rate = "training.optimizer.learning_rate.rate";
    let more = |steps: &'static str| [&train[..], &["--resume", "--set", steps]].concat();
    place.run(&train);
    // A first step at this rate leaves nothing finite.
    let wild = format!("{rate}=1e30");
    let output = place.call(&[&more("training.steps=9")[..], &["--change", &wild]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    let command = told.lines().last().unwrap().split(": cargo ").nth(1).unwrap_or_else(|| panic!("{told}"));
    assert!(told.contains("the run is back at step 2"), "{told}");
    assert!(command.starts_with("xtask") && command.ends_with(&format!("--change {rate}=1e29")), "{command}");
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    let lower = format!("{rate}=0.001");
    *words.last_mut().unwrap() = &lower;
    let output = place.call(&words);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains(&format!("from step 2 on, {rate} is 0.001 instead of 0.0001")), "{told}");
    let written = fs::read_to_string(place.path("run/changes.jsonl")).unwrap();
    assert_eq!(written, format!("{{\"step\":2,\"key\":\"{rate}\",\"from\":0.0001,\"to\":0.001}}\n"));
    assert_eq!(place.json("run/recipe.json")["training"]["optimizer"]["learning_rate"]["rate"], 0.001);

    // Without the divergence in between it is the same run.
    let other = |arguments: &[&'static str]| {
        arguments.iter().map(|word| if *word == "run" { "other" } else { word }).collect::<Vec<_>>()
    };
    place.run(&other(&train));
    place.run(&[&other(&more("training.steps=9"))[..], &["--change", &lower]].concat());
    let weights = |run: &str| fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert!(weights("run") == weights("other"));

    for (arguments, words) in [
        (more("training.steps=10"), "another `training.optimizer.learning_rate.rate`: 0.001, not 0.0001"),
        (
            [&more("training.steps=10")[..], &["--change", &lower, "--change", "seed=4"]].concat(),
            "another optimiser at most",
        ),
        (
            [&more("training.steps=10")[..], &["--change", &lower, "--change", "training.optimizer.clpi=4"]].concat(),
            "--change training.optimizer.clpi=4: ",
        ),
    ] {
        place.refuse(&arguments, &[words]);
    }
    let output = place.call(&["train", "tiny.json", "--out", "new", "--change", "training.optimizer.clip=1"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("--resume"));
}

/// As `head` does, which has read all it wants.
#[test]
fn a_reader_that_goes_is_no_fault() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
    command.args(["bench", "--memory", "1", "--device", "flex"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// With a terminal of the program `script`, where there is one.
#[test]
fn a_dumb_terminal_gets_lines() {
    let place = place();
    let shown = |term: &str, no_color: &str| {
        let train = format!("{} train tiny.json --out {term}{no_color}", env!("CARGO_BIN_EXE_mixflow"));
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &train, "/dev/null"]).current_dir(place.path(""));
        let output = command.env("TERM", term).env("NO_COLOR", no_color).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(lines) = shown("dumb", "") else {
        eprintln!("skipped: there is no program `script`");
        return;
    };
    for lines in [lines, shown("xterm", "1").unwrap()] {
        assert!(lines.contains("  step 2/2  loss ") && !lines.contains('\x1b'), "{lines:?}");
    }
    let bars = shown("xterm", "").unwrap();
    assert!(bars.contains('\x1b') && bars.contains("done in") && bars.is_ascii(), "{bars:?}");
}
