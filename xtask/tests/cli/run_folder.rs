//! The folder of a run: one process at a time, and nothing is lost or left by what is refused.

use std::fs;
use std::process::{Command, Stdio};

use mixflow::FolderLock;

use crate::start::{COMPARISON, recipe};
use crate::{Place, everything};

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    place
}

/// Asserts that a command fails for a reason with these words and leaves every file and folder as it was.
#[track_caller]
fn refuse(place: &Place, arguments: &[&str], words: &[&str]) {
    let before = everything(&place.path(""));
    place.refuse(arguments, words);
    let after = everything(&place.path(""));
    let names = |all: &[(std::path::PathBuf, _)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{arguments:?}");
    assert!(after == before, "{arguments:?} changed a file");
}

#[test]
fn a_second_process_is_told_which_one_works_there() {
    let place = place();
    let lock = FolderLock::take(&place.path("run")).unwrap();
    let process = format!("run is in use by process {} on ", std::process::id());
    let weights = place.path("none.safetensors");
    let weights = weights.to_str().unwrap();
    for arguments in [
        vec!["train", "tiny.json", "--out", "run"],
        vec!["train", "tiny.json", "--out", "run", "--resume"],
        vec!["encode", "photos", "--to", "run", "--autoencoder", "sd", "--weights", weights],
        vec!["compare", "tiny.json", "--set", COMPARISON, "--from", weights, "--out", "run"],
    ] {
        refuse(&place, &arguments, &[&process, "wait for it, stop it, or choose another folder"]);
    }
    drop(lock);
    place.run(&["train", "tiny.json", "--out", "run"]);
    assert!(!place.path("run/.lock").exists());
}

#[test]
fn a_killed_process_holds_no_folder() {
    let place = place();
    let train = ["train", "tiny.json", "--out", "run"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
    command.args(train).args(["--set", "training.steps=100000000"]).current_dir(place.path(""));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let newest = || {
        let entries = fs::read_dir(place.path("run/checkpoints")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.strip_prefix("step-")?.parse::<u64>().ok()).max()
    };
    while newest().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::yield_now();
    }
    let resume = [&train[..], &["--resume"]].concat();
    place.refuse(&resume, &[&format!("process {} on ", child.id()), "training.steps=100000000"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.path("run/.lock").exists(), "nobody tidied up");
    let steps = format!("training.steps={}", newest().unwrap() + 2);
    place.run(&[&resume[..], &["--set", &steps]].concat());
}

#[test]
fn a_start_that_failed_leaves_the_folder_as_it_was() {
    let place = place();
    fs::create_dir_all(place.path("broken/class")).unwrap();
    for number in 0..24 {
        fs::write(place.path("broken/class").join(format!("a.png{number}.png")), "no picture").unwrap();
    }
    fs::create_dir(place.path("there")).unwrap();
    fs::write(place.path("there/notes.txt"), "mine").unwrap();
    let autoencoder = r#"autoencoder={"kind":"kl","weights":"vae.pt","network":{"image_channels":1,"latent_channels":1,
        "widths":[8],"depth":1,"groups":8,"quant_conv":true,"scale":1.0}}"#;
    let guide = format!(
        r#"sampling={{"solver":{{"kind":"euler"}},"grid":{{"steps":2}},"guidance":{{"scale":2}},
        "guide":{{"weights":"weak.pt","network":{}}}}}"#,
        recipe()["network"]
    );
    let broken = r#"data={"kind":"folder","path":"broken","size":8}"#;
    for (changes, words) in [
        (&["--set", "training.stepz=1"][..], "stepz"),
        (&["--data", "nowhere"], "nowhere"),
        (&["--from", "nowhere.pt"], "nowhere.pt"),
        (&["--from", "tiny.json"], "tiny.json"),
        (&["--set", "network.classes=11"], "11"),
        (&["--set", COMPARISON, "--set", &guide], "weak.pt"),
        (&["--set", autoencoder], "vae.pt"),
        (&["--set", broken, "--set", "network.classes=1", "--set", "network.channels=3"], "a.png"),
        // Which writes more down before its first step.
        (&["--set", broken, "--set", "network.classes=1", "--set", "network.channels=3", "--set", COMPARISON], "a.png"),
    ] {
        for folder in ["new", "new/below", "there"] {
            refuse(&place, &[&["train", "tiny.json", "--out", folder], changes].concat(), &[words]);
        }
    }
    // What the last one of them would have begun is no run.
    place.run(&["train", "tiny.json", "--out", "there"]);
    for (changes, words) in [
        (&[][..], "holds a run already: add --resume"),
        (&["--resume", "--set", "seed=9"], "another `seed`"),
        (&["--resume", "--from", "nowhere.pt"], "nowhere.pt"),
        (&["--resume", "--set", "training.steps=1"], "2 steps were taken, the recipe asks for 1"),
    ] {
        refuse(&place, &[&["train", "tiny.json", "--out", "there"], changes].concat(), &[words]);
    }
}

#[test]
fn a_folder_without_a_run_is_not_continued() {
    let place = place();
    fs::create_dir(place.path("empty")).unwrap();
    for folder in ["empty", "missing"] {
        let words = ["holds no run to continue", "leave out --resume"];
        refuse(&place, &["train", "tiny.json", "--resume", "--out", folder], &words);
    }
    refuse(&place, &["train", "tiny.json", "--out", "tiny.json"], &["tiny.json", "expected a folder, found a file"]);
    place.run(&["train", "tiny.json", "--out", "run"]);
    fs::remove_file(place.path("run/recipe.json")).unwrap();
    for more in [&[][..], &["--resume"]] {
        refuse(&place, &[&["train", "tiny.json", "--out", "run"], more].concat(), &["but not its recipe.json"]);
    }
}

#[test]
fn a_run_without_a_whole_checkpoint_is_not_begun_again() {
    let place = place();
    place.run(&["train", "tiny.json", "--out", "run"]);
    for step in 1..=2 {
        fs::write(place.path(format!("run/checkpoints/step-{step:08}/weights.safetensors")), "torn").unwrap();
    }
    let more = ["train", "tiny.json", "--out", "run", "--resume", "--set", "training.steps=3"];
    refuse(&place, &more, &["none of its 2 checkpoints is whole, and nothing was changed", "step-00000001"]);
}
