//! How commands speak to whoever called them.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;

use mixflow::{FolderLock, printable};
use serde::Serialize;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Keeps other processes out of a folder; where that is not possible, it is said.
pub(crate) fn lock(folder: &Path) -> Result<FolderLock> {
    let lock = FolderLock::take(folder)?;
    if let Some(warning) = lock.warning() {
        note(format_args!("warning: {warning}"));
    }
    Ok(lock)
}

/// Prints a result. A reader that has closed the pipe, such as `head`, has all it wants.
pub(crate) fn print(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", lines(text)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print the result: {error}").into()),
        _ => Ok(()),
    }
}

/// Prints a result for programs, in which JSON's own escapes stand for what a terminal would act on.
pub(crate) fn print_json(result: &impl Serialize) -> Result<()> {
    print(escaped(&serde_json::to_string_pretty(result)?))
}

/// JSON with escapes for all that [`printable`] would change, which is not JSON's.
fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        match character != '\n' && matches!(printable(character.encode_utf8(&mut [0; 4])), Cow::Owned(_)) {
            true => shown += &format!("\\u{:04x}", u32::from(character)),
            false => shown.push(character),
        }
    }
    shown
}

/// How this program is called: by its name where it is installed; `cargo xtask` has names for features.
pub(crate) fn program() -> &'static str {
    match () {
        // Cargo says so to what it runs.
        () if std::env::var_os("CARGO").is_none() => "mixflow",
        () if cfg!(feature = "cuda") => "cargo xtask-cuda",
        () if cfg!(feature = "metal") => "cargo xtask-metal",
        () if cfg!(feature = "rocm") => "cargo xtask-rocm",
        () if cfg!(feature = "vulkan") => "cargo xtask-vulkan",
        () if cfg!(feature = "wgpu") => "cargo xtask-wgpu",
        () if cfg!(feature = "remote") => "cargo xtask-remote",
        () => "cargo xtask",
    }
}

/// Prints a message beside the results, if anybody can read it.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", lines(text));
}

/// A text whose lines a terminal only shows, whatever names of files are in it.
fn lines(text: impl Display) -> String {
    let text = text.to_string();
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Tells which part of a file is taken, where there is a choice.
pub(crate) fn note_choices(from: &Path, chosen: &[String]) {
    if !chosen.is_empty() {
        note(format_args!("of {}: {}", from.display(), chosen.join(", ")));
    }
}

/// The error and, where they say more, its causes.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json_whatever_names_are_in_it() {
        let value = serde_json::json!({ "a\u{200f}b": "c\u{7f}\u{9b}\u{202e}\u{2069}\u{1b}\n\t🐈" });
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.lines().all(|line| matches!(printable(line), Cow::Borrowed(_))), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
