//! The commands of the project's README.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use image::{Rgb, RgbImage};

use crate::Place;

const README: &str = include_str!("../../../README.md");

/// Commands that need what a test does not have, and what that is.
const ELSEWHERE: [(&str, &str); 4] = [
    ("cargo test --workspace", "this runs it"),
    ("tensorboard --logdir", "another program"),
    ("cargo xtask publish runs/emoji --to org/name --license mit --private", "the network"),
    ("cargo xtask sample hf://stabilityai/stable-diffusion-3.5-medium", "the network, and ten gigabytes"),
];

/// Makes a training of any recipe short.
const SHORT: &[&str] = &["training.steps=2", "training.batch=4", "sampling.grid.steps=2"];
const COMPARED: &[&str] = &[
    "post_training.steps=2",
    "post_training.images=20",
    "post_training.seeds=1",
    "post_training.lambdas=[1.0]",
    "post_training.solver_steps=[1]",
    "post_training.slow_flow=false",
];

/// The commands in the blocks of a shell, without their indentation.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The words of a command, as a shell would take them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], String::new(), None);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words
}

/// In the order of the README: later ones use what earlier ones leave.
#[test]
fn every_command_of_the_readme_runs() {
    let place = Place::new();
    for number in 0..60u8 {
        let class = place.path("photos").join(format!("class {}", number % 5));
        fs::create_dir_all(&class).unwrap();
        RgbImage::from_pixel(32, 32, Rgb([number * 4; 3])).save(class.join(format!("{number}.png"))).unwrap();
    }
    let (mut elsewhere, mut ran) = (BTreeSet::new(), 0);
    for command in commands() {
        if let Some((known, _)) = ELSEWHERE.iter().find(|(known, _)| command.starts_with(known)) {
            elsewhere.insert(*known);
            continue;
        }
        let mut words = words(command.strip_prefix("cargo xtask ").unwrap_or_else(|| panic!("{command}")));
        if words[0] == "train" {
            // The run is as if each command were the first.
            let changes = SHORT.iter().chain(COMPARED);
            words.extend(changes.flat_map(|change| ["--set".into(), change.to_string()]));
            let named = words.iter().find_map(|word| word.strip_prefix("name="));
            let name = named.or(words.get(1).map(String::as_str).filter(|word| !word.starts_with('-')));
            let _ = fs::remove_dir_all(place.path("runs").join(name.unwrap_or("emoji")));
        }
        let mut program = Command::new(env!("CARGO_BIN_EXE_mixflow"));
        program.args(&words).current_dir(place.path("")).env("WANDB_MODE", "offline");
        let output = program.output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert_eq!(elsewhere.len(), ELSEWHERE.len(), "one of {ELSEWHERE:?} is not in the README");
    assert!(ran >= 6, "{ran}");
}

#[test]
fn the_readme_has_a_line_for_every_command() {
    let help = Place::new().run(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Those of long texts go on in the next line.
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed: BTreeSet<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    let table = README.split("| `cargo xtask` | |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
    let told: BTreeSet<&str> = rows.filter_map(|line| line.split('`').nth(1)).chain(["help"]).collect();
    assert_eq!(told, listed);
}
