//! Arguments that several commands have: devices, parts of the work, recipes with changes.

use std::error::Error;
use std::path::Path;

use clap::Args;
use mixflow::backbones::NetworkConfig;
use mixflow::recipe::{DecoderRecipe, no_such_recipe};
use mixflow::{Device, device};
use serde_json::{Map, json};

use crate::kind::{self, Any, AnyRecipe, Kind, TextNetworkConfig, is_text};
use crate::terminal::Result;

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
    /// Data instead of the recipe's: digits, shapes, scenes, emoji (a folder of such a name as ./digits), or a folder with one
    /// sub-folder of images per class
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

    /// The recipe, of a network of either kind.
    pub(crate) fn read(&self) -> Result<AnyRecipe> {
        Ok(match is_text(&self.recipe) {
            true => Any::Text(self.read_with(TextNetworkConfig::read)?),
            false => Any::Classes(self.read_with(NetworkConfig::read)?),
        })
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
        let all = || kind::names();
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
            let before = kind::value(&self.recipe).unwrap_or_default();
            // Images with captions lie in a folder, too.
            let alike = |known: &serde_json::Value| known == kind || kind == "folder" && known == "captions";
            if alike(&before["data"]["kind"]) {
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
