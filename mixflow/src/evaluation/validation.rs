//! What a recipe's network makes while it is trained.

use std::path::Path;
use std::sync::Arc;

use mixflow_backbones::{Autoencoder, Invalid};
use sha2::{Digest, Sha256};

use crate::data::{Conditioner, class_number};
use crate::evaluation::Generator;
use crate::files::Tiles;
use crate::recipe::{ConditionOf, Guide, NetworkSettings, Recipe, SamplingConfig, ValidationConfig};
use crate::train::Validation;
use crate::{Error, check_memory, device};

/// The images of a recipe's [`ValidationConfig`]: the same labels from the same noise each time.
#[derive(Debug)]
pub struct ValidationImages<'a, N: NetworkSettings> {
    recipe: &'a Recipe<N>,
    config: &'a ValidationConfig,
    sampling: SamplingConfig,
    conditioner: Arc<dyn Conditioner<ConditionOf<N>>>,
    labels: Vec<usize>,
    negative: Option<usize>,
    autoencoder: Option<&'a dyn Autoencoder>,
    guide: Option<&'a Guide>,
    tiles: Tiles,
}

impl<'a, N: NetworkSettings> ValidationImages<'a, N> {
    /// Those of a recipe, if it has some. Prompts are read once, as `local` says, which names files of this machine, on the device
    /// of `network`, and kept in `folder`; `progress` hears how many are, and ends that by an error.
    ///
    /// # Errors
    /// For labels that are no `classes`, blocks that `network` does not have, pictures of other channels than 1 or 3, and if
    /// prompts cannot be read; those of `progress`.
    pub fn of(
        recipe: &'a Recipe<N>,
        local: &N,
        network: &N::Network,
        (classes, conditioner): (&[String], &Arc<dyn Conditioner<ConditionOf<N>>>),
        (autoencoder, guide): (Option<&'a dyn Autoencoder>, Option<&'a Guide>),
        folder: &Path,
        progress: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<Option<Self>, Error> {
        let Some(Checked { config, sampling, labels, negative, width }) = check(recipe, network, classes)? else {
            return Ok(None);
        };
        let (conditioner, choice, negative) = if recipe.network.reads_names() {
            let named = if config.prompts.is_empty() { classes } else { &config.prompts[..] };
            let named = &named[..named.len().min(config.count())];
            let prompts: Vec<String> = named.iter().chain(&config.negative).cloned().collect();
            // Prompts may be others when a run goes on.
            let place = hex::encode(&Sha256::digest(serde_json::json!(prompts).to_string())[..8]);
            let place = folder.join("validation").join(place);
            let conditioner = local.conditioner(&prompts, &place, &device::of(network), progress)?;
            (conditioner, (0..named.len()).collect(), config.negative.as_ref().map(|_| named.len()))
        } else {
            (conditioner.clone(), labels, negative)
        };
        let labels = choice.iter().copied().cycle().take(config.count()).collect();
        // About as high as wide, a column for one label where these are few.
        let (side, turns) = ((config.count() - 1).isqrt() + 1, choice.len().max(1));
        let columns = if turns <= 2 * side { side.next_multiple_of(turns) } else { side };
        let tiles = Tiles { columns, scale: scale(width), ..Tiles::default() };
        Ok(Some(Self { recipe, config, sampling, conditioner, labels, negative, autoencoder, guide, tiles }))
    }

    /// Refuses what [`of`](Self::of) would, but for prompts that cannot be read, before anything is trained.
    ///
    /// # Errors
    /// As [`of`](Self::of), and if so many images do not fit memory.
    pub fn check(recipe: &Recipe<N>, network: &N::Network, classes: &[String]) -> Result<(), Error> {
        check(recipe, network, classes).map(drop)
    }

    /// What the user should know of the prompts, in words.
    pub fn notices(&self) -> impl Iterator<Item = String> {
        self.conditioner.notices().into_iter().map(|notice| format!("validation: {notice}"))
    }

    /// As a training takes them.
    pub fn validation(&self) -> Validation<'_, N::Network> {
        Validation { every: self.config.every, draw: Box::new(|network| self.draw(network)) }
    }

    /// What a network makes, as a PNG file.
    ///
    /// # Errors
    /// As [`Generator::images`].
    pub fn draw(&self, network: &N::Network) -> Result<Vec<u8>, Error> {
        let skip = self.config.skip_layers.as_ref();
        let weaker = skip.map(|skip| skip.weaker(network, &self.sampling.sampler.grid)).transpose()?.flatten();
        let generator = Generator {
            sampling: &self.sampling,
            seed: self.config.seed.unwrap_or(self.recipe.seed),
            autoencoder: self.autoencoder,
            guide: self.guide,
            negative: self.negative,
            weaker: weaker.as_ref(),
            ..self.recipe.generator(network, &self.conditioner)
        };
        let images = generator.images(&self.labels, 0)?;
        Ok(self.tiles.png(&images.pixels, images.shape))
    }
}

/// What of a recipe's validation is known before anything is trained.
struct Checked<'a> {
    config: &'a ValidationConfig,
    sampling: SamplingConfig,
    /// Of a network that knows classes, and the one that guidance leads away from.
    labels: Vec<usize>,
    negative: Option<usize>,
    /// Of an image.
    width: usize,
}

fn check<'a, N: NetworkSettings>(
    recipe: &'a Recipe<N>,
    network: &N::Network,
    classes: &[String],
) -> Result<Option<Checked<'a>>, Error> {
    let Some(config) = &recipe.validation else { return Ok(None) };
    let fault = |invalid: Invalid| Error::recipe(&recipe.name, invalid.within("validation"));
    let sampling = config.sampling(&recipe.sampling).map_err(fault)?;
    if let Some(skip) = &config.skip_layers {
        let unskipped = |error| fault(Invalid::new("skip_layers", format!("cannot be used: {error}")));
        skip.weaker(network, &sampling.sampler.grid).map_err(unskipped)?;
    }
    let shape = recipe.network.shape();
    let shape = recipe.autoencoder.as_ref().map_or(shape, |config| config.image_shape(shape));
    let [channels, height, width] = shape;
    if channels != 1 && channels != 3 {
        let reason = format!(
            "validation draws pictures of 1 or 3 channels, the network makes {channels}: name the autoencoder of these \
             latents, or leave validation out"
        );
        return Err(Error::unfit(&recipe.name, reason));
    }
    let count = config.count();
    let what =
        || format!("{}: validation.images: {count} images of {height} x {width} pixels in one picture", recipe.name);
    // Its pixels as numbers, the picture and its file.
    check_memory(
        what,
        &[&shape.map(|side| side as u64)[..], &[count as u64, 4 + 2 * u64::from(scale(width).pow(2))]].concat(),
    )?;
    let (labels, negative) = if recipe.network.reads_names() {
        (vec![], None)
    } else {
        let number = |label: &String| {
            let found = class_number(label, classes, recipe.network.classes());
            found.map_err(|fault| Error::unfit(&recipe.name, format!("validation names a label that is none: {fault}")))
        };
        let named = config.labels.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let labels = if named.is_empty() { (0..recipe.network.classes()).collect() } else { named };
        (labels, config.negative.as_ref().map(number).transpose()?)
    };
    Ok(Some(Checked { config, sampling, labels, negative, width }))
}

/// Small images are doubled.
fn scale(width: usize) -> u32 {
    if width < 128 { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn more_images_than_fit_memory_are_refused() {
        // A thousand of them take 4.83 TB: as numbers, as a picture and as its file.
        let recipe: Recipe = Recipe::parse_value(json!({
            "name": "vast", "data": { "kind": "digits", "size": 8 },
            "network": {
                "kind": "sit", "input_size": 16384, "patch": 256, "channels": 3, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
                "classes": 10
            },
            "training": { "steps": 1, "batch": 1 }, "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 2 } },
            "validation": { "every": 1, "images": 1000 }
        }))
        .unwrap();
        let network = recipe.network.init(0, &Default::default());
        let classes = ["0".to_string()];
        let error = ValidationImages::check(&recipe, &network, &classes).unwrap_err().to_string();
        let words = "vast: validation.images: 1000 images of 16384 x 16384 pixels in one picture would take 4831.84 GB";
        assert!(error.starts_with(words), "{error}");
    }
}
