//! Recipes of networks for class labels and of those for text: commands do the same with either.

use mixflow::backbones::NetworkConfig;
use mixflow::recipe::{NetworkSettings, Recipe, is_for_text};
pub(crate) use mixflow_t2i::recipe::TextNetworkConfig;
use mixflow_t2i::recipe::read_text_recipe;
pub(crate) use mixflow_t2i::recipe::value;

use crate::terminal::Result;

/// A network that recipes of this program can have.
pub(crate) trait Kind: NetworkSettings {
    /// Reads one by name or from a file, with changes.
    fn read(name_or_path: &str, set: &[String]) -> Result<Recipe<Self>>;
}

impl Kind for NetworkConfig {
    fn read(name_or_path: &str, set: &[String]) -> Result<Recipe> {
        Ok(Recipe::read(name_or_path, set)?)
    }
}

impl Kind for TextNetworkConfig {
    fn read(name_or_path: &str, set: &[String]) -> Result<Recipe<Self>> {
        match read_text_recipe(name_or_path, set)? {
            Some(recipe) => Ok(recipe),
            // What is wrong with it, if it is none at all.
            None => Recipe::read(name_or_path, &[]).map_err(Into::into).and_then(|_: Recipe| {
                Err(format!("{name_or_path} is the recipe of a network for class labels, not for text").into())
            }),
        }
    }
}

/// Something of a network for class labels, or of one for text.
pub(crate) enum Any<C, T> {
    Classes(C),
    Text(T),
}

/// The same expression for something of either kind.
macro_rules! of_any {
    ($any:expr, $one:ident => $result:expr) => {
        match $any {
            $crate::kind::Any::Classes($one) => $result,
            $crate::kind::Any::Text($one) => $result,
        }
    };
}
pub(crate) use of_any;

/// A recipe of either kind.
pub(crate) type AnyRecipe = Any<Recipe, Recipe<TextNetworkConfig>>;

/// Names of all recipes that come along.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    mixflow::recipe::names().chain(mixflow_t2i::recipe::names())
}

/// Whether a name or a file is a recipe of a network for text.
pub(crate) fn is_text(name_or_path: &str) -> bool {
    // What cannot be read is for the reader of recipes to say.
    value(name_or_path).is_ok_and(|value| is_for_text(&value))
}
