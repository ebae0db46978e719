//! A program without text.

use std::path::Path;
use std::process::ExitCode;

use mixflow::recipe::is_for_text;
use serde_json::Value;

use super::Request;
use crate::run::{RecipeArguments, Result};
use crate::train::Destination;

/// A recipe that this program cannot run: there is none.
pub(crate) enum Recipe {}

impl Recipe {
    /// None if it is a recipe of another kind.
    pub(crate) fn read(arguments: &RecipeArguments) -> Result<Option<Self>> {
        let name = &arguments.recipe;
        let text = std::fs::read(name).unwrap_or_default();
        let recipe: Value = serde_json::from_slice(&text).unwrap_or_default();
        if recipe_names().any(|known| known == name) || is_for_text(&recipe) {
            return Err(without(&format!("{name} is a recipe of text to image")));
        }
        Ok(None)
    }

    pub(crate) fn train(&self, _: Option<&Path>, _: &Destination) -> Result<ExitCode> {
        match *self {}
    }

    pub(crate) fn compare(&self, _: &Path, _: &Destination) -> Result<ExitCode> {
        match *self {}
    }
}

/// Names of the recipes of networks for text, which are told with what they need.
pub(crate) fn recipe_names() -> impl Iterator<Item = &'static str> {
    ["words", "sd3.5-medium-mixflow"].into_iter()
}

pub(crate) fn sample(_: &Request<'_>) -> Result<ExitCode> {
    Err(without("--prompt is for text to image"))
}

fn without(what: &str) -> Box<dyn std::error::Error> {
    let command = std::env::args().nth(1).unwrap_or_default();
    format!("{what}, and this program was built without; run `cargo xtask-t2i {command} ...`").into()
}
