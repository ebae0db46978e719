//! What the commands share: stopping, recipes, networks.

use std::error::Error;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use mixflow::recipe::{DecoderRecipe, no_such_recipe};
use mixflow::{Device, device};
use mixflow::{FolderLock, printable};
use serde_json::{Map, json};

use crate::kind::{Kind, TextNetworkConfig, is_text};
use crate::recipes;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Set by the first SIGINT or SIGTERM; the second one leaves at once.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Lets training finish its step and save when the process is asked to stop.
pub(crate) fn stop_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note("\nstopping after this step; once more leaves at once without saving");
    })?;
    Ok(())
}

/// Keeps other processes out of a folder; where that is not possible, it is said.
pub(crate) fn lock(folder: &Path) -> Result<FolderLock> {
    let lock = FolderLock::take(folder)?;
    if let Some(warning) = lock.warning() {
        note(format_args!("warning: {warning}"));
    }
    Ok(lock)
}

/// Prints a result. A reader that has closed the pipe, such as `head`, has all it wants.
pub(crate) fn say(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", lines(text)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print the result: {error}").into()),
        _ => Ok(()),
    }
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

/// What to compute on.
#[derive(Args)]
pub(crate) struct DeviceArgument {
    #[arg(
        long,
        value_name = "NAME",
        help = "Compute on flex, the CPU, a GPU that this program was built for: cuda, cuda:1, metal, rocm, vulkan or wgpu; or \
                on what another machine serves, remote:HOST:PORT [default: what BURN_DEVICE names, else the first GPU of a \
                build for GPUs]"
    )]
    pub(crate) device: Option<String>,
}

impl DeviceArgument {
    /// The device, which is there.
    pub(crate) fn find(&self) -> Result<Device> {
        match &self.device {
            Some(name) => Ok(device::named(name).map_err(|error| format!("--device {error}"))?),
            None => Ok(device::chosen()?),
        }
    }
}

/// What can be shared by several devices is computed on: a training, the drawing of images.
#[derive(Args)]
pub(crate) struct DevicesArgument {
    #[arg(
        long,
        value_name = "NAMES",
        help = "Compute on flex, the CPU, or GPUs that this program was built for: cuda, cuda:1, metal, rocm, vulkan or wgpu; \
                or on what other machines serve, remote:HOST:PORT; on several, which share the work: cuda:0,1, cuda:all or \
                remote:HOST:PORT,HOST:PORT [default: what BURN_DEVICE names, else the first GPU of a build for GPUs]"
    )]
    device: Option<String>,
}

impl DevicesArgument {
    /// The devices, which are there: one at least.
    pub(crate) fn find(&self) -> Result<Vec<Device>> {
        match &self.device {
            Some(names) => Ok(device::several(names).map_err(|error| format!("--device {error}"))?),
            None => Ok(vec![device::chosen()?]),
        }
    }
}

/// How results are printed.
#[derive(Args)]
pub(crate) struct JsonArgument {
    #[arg(long, help = "Print the result as JSON, for programs")]
    pub(crate) json: bool,
}

/// Which part of the images is made.
#[derive(Args)]
pub(crate) struct ShardArgument {
    #[arg(
        long,
        value_name = "PART/PARTS",
        help = "Make the third of sixteen parts of the images, as 3/16, so that processes without each other make all of them"
    )]
    pub(crate) shard: Option<mixflow::Shard>,
}

/// Which recipe, and what to change in it.
#[derive(Args)]
pub(crate) struct RecipeArguments {
    /// A recipe's name (emoji, digits, paper/sit-xl-2-256-mixflow) or JSON file
    #[arg(default_value = "emoji")]
    pub(crate) recipe: String,
    /// Change a value of the recipe, such as training.steps=100; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Data instead of the recipe's: digits, shapes, emoji, or a folder with one sub-folder of images per class
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// What other flags of the command change.
    #[arg(skip)]
    pub(crate) flags: Vec<Change>,
}

impl RecipeArguments {
    /// A recipe as it comes along.
    pub(crate) fn named(name: &str) -> Self {
        Self { recipe: name.into(), set: vec![], data: None, flags: vec![] }
    }

    /// The recipe if it is one of a decoder.
    pub(crate) fn read_decoder(&self) -> Result<Option<DecoderRecipe>> {
        self.read_with(DecoderRecipe::read)
    }

    /// What a reader of recipes makes of it.
    pub(crate) fn read_with<T, E: Into<Box<dyn Error>>>(
        &self,
        read: impl FnOnce(&str, &[String]) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let all = || recipes::names();
        if !Path::new(&self.recipe).is_file() && all().all(|name| name != self.recipe) {
            return Err(no_such_recipe(&self.recipe, all()).into());
        }
        let set = self.changes()?;
        let given: Vec<String> = set.iter().map(|(_, change)| change.clone()).collect();
        read(&self.recipe, &given).map_err(|error| as_given(error.into(), &set))
    }

    /// Changes of the recipe, each behind the flag that asked for it.
    fn changes(&self) -> Result<Vec<Change>> {
        let mut set = Vec::new();
        if let Some(data) = &self.data {
            let flag = format!("--data {data}");
            let (kind, path) = match data.as_str() {
                own @ ("digits" | "shapes" | "scenes" | "emoji") => (own, None),
                folder if Path::new(folder).is_dir() => ("folder", Some(folder)),
                _ => {
                    return Err(
                        format!("{flag}: expected digits, shapes, scenes, emoji or a folder, found none").into()
                    );
                }
            };
            let before = match is_text(&self.recipe) {
                true => TextNetworkConfig::read(&self.recipe, &[])?.to_value(),
                false => mixflow::recipe::value(&self.recipe).unwrap_or_default(),
            };
            if before["data"]["kind"] == kind {
                // Other keys of the data stay.
                set.extend(path.map(|path| (flag, format!("data.path={}", json!(path)))));
            } else {
                let keys = [("kind", Some(json!(kind))), ("path", path.map(|path| json!(path)))];
                let size = before["data"].get("size").cloned();
                let said = |change: &String| ["data.size=", "data="].iter().any(|key| change.starts_with(key));
                if size.is_none() && !self.set.iter().any(said) {
                    let reason =
                        "the recipe's own data have no side in pixels to take over: add --set data.size=PIXELS";
                    return Err(format!("{flag}: {reason}").into());
                }
                let keys = keys.into_iter().chain([("size", size)]);
                let data: Map<_, _> = keys.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
                set.push((flag, format!("data={}", json!(data))));
            }
        }
        set.extend(self.set.iter().map(|change| (format!("--set {change}"), change.clone())));
        set.extend(self.flags.iter().cloned());
        Ok(set)
    }
}

/// A change of a recipe, `key=value`, behind the flag that asked for it.
pub(crate) type Change = (String, String);

/// The same error, which calls the change that is at fault by the flag that the user gave.
pub(crate) fn as_given(error: Box<dyn Error>, changes: &[Change]) -> Box<dyn Error> {
    let of_text = match error.downcast_ref() {
        Some(mixflow_t2i::Error::Mixflow(error)) => Some(error),
        _ => None,
    };
    let Some(mixflow::Error::Recipe { origin, fault }) = error.downcast_ref().or(of_text) else { return error };
    let Some(start) = origin.strip_prefix("--set ") else { return error };
    let start = start.trim_end_matches('…');
    let flag = changes.iter().find(|(_, change)| change.starts_with(start)).map(|(flag, _)| flag);
    match flag {
        Some(flag) if !flag.starts_with("--set ") => format!("{flag}: {fault}").into(),
        _ => error,
    }
}

/// Tells which part of a file is taken, where there is a choice.
pub(crate) fn note_choices(from: &Path, chosen: &[String]) {
    if !chosen.is_empty() {
        note(format_args!("of {}: {}", from.display(), chosen.join(", ")));
    }
}
