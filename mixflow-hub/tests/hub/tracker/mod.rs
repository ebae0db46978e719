//! What trackers write, read by the packages that it is for.
//!
//! Runs where `MIXFLOW_PYTHON`, or `python3`, has the package; says so where not.

#[cfg(feature = "pipeline")]
mod event;
mod stream;
mod tensorboard;
mod wandb;
mod wandb_server;

use std::process::{Command, Stdio};

use serde_json::Value;

/// Two grey pixels, above each other.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x02\x08\0\0\0\0\xbc\xea\xe9\xfb\
    \0\0\0\x0cIDATx\x9cc\x10`\xf8\0\0\x01$\x01\x01Cy\xd3\x1f\0\0\0\0IEND\xaeB`\x82";

fn python(package: &str) -> Option<Command> {
    let name = std::env::var("MIXFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&name).args(["-c", &format!("import {package}")]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} has no {package} (pip install {package}, or set MIXFLOW_PYTHON)");
        return None;
    }
    Some(Command::new(name))
}

/// What a program prints, which is JSON.
fn printed(command: &mut Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The numbers of a list, whole or not.
fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}
