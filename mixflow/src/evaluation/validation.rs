//! What a recipe's network makes while it is trained.

use std::path::Path;
use std::sync::Arc;

use mixflow_backbones::Autoencoder;
use sha2::{Digest, Sha256};

use crate::data::{Conditioner, class_number};
use crate::evaluation::Generator;
use crate::files::Tiles;
use crate::recipe::{ConditionOf, Guide, NetworkSettings, Recipe, SamplingConfig, ValidationConfig};
use crate::train::Validation;
use crate::{Error, device};

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
    /// Those of a recipe, if it has some. Prompts are read once, on the device of `network`, and kept in `folder`; `tell`
    /// hears how many are.
    ///
    /// # Errors
    /// For labels that are no `classes`, blocks that `network` does not have, pictures of other channels than 1 or 3, and if
    /// prompts cannot be read.
    pub fn of(
        recipe: &'a Recipe<N>,
        network: &N::Network,
        (classes, conditioner): (&[String], &Arc<dyn Conditioner<ConditionOf<N>>>),
        (autoencoder, guide): (Option<&'a dyn Autoencoder>, Option<&'a Guide>),
        folder: &Path,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Option<Self>, Error> {
        let Some(config) = &recipe.validation else { return Ok(None) };
        let fault = |invalid: mixflow_backbones::Invalid| Error::recipe(&recipe.name, invalid.within("validation"));
        let sampling = config.sampling(&recipe.sampling).map_err(fault)?;
        if let Some(skip) = &config.skip_layers {
            skip.weaker(network, &sampling.sampler.grid)?;
        }
        let shape = recipe.network.shape();
        let [channels, _, width] = recipe.autoencoder.as_ref().map_or(shape, |config| config.image_shape(shape));
        if channels != 1 && channels != 3 {
            let reason = format!(
                "validation draws pictures of 1 or 3 channels, the network makes {channels}: name the autoencoder of these \
                 latents, or leave validation out"
            );
            return Err(Error::unfit(&recipe.name, reason));
        }
        let (conditioner, choice, negative) = if recipe.network.reads_names() {
            let named = if config.prompts.is_empty() { classes } else { &config.prompts[..] };
            let named = &named[..named.len().min(config.count())];
            let prompts: Vec<String> = named.iter().chain(&config.negative).cloned().collect();
            // Prompts may be others when a run goes on.
            let place = hex::encode(&Sha256::digest(serde_json::json!(prompts).to_string())[..8]);
            let place = folder.join("validation").join(place);
            let conditioner = recipe.network.conditioner(&prompts, &place, &device::of(network), tell)?;
            (conditioner, (0..named.len()).collect(), config.negative.as_ref().map(|_| named.len()))
        } else {
            let number = |label: &String| {
                let found = class_number(label, classes, recipe.network.classes());
                found.map_err(|fault| {
                    Error::unfit(&recipe.name, format!("validation names a label that is none: {fault}"))
                })
            };
            let named = config.labels.iter().map(number).collect::<Result<Vec<_>, _>>()?;
            let choice = if named.is_empty() { (0..recipe.network.classes()).collect() } else { named };
            (conditioner.clone(), choice, config.negative.as_ref().map(number).transpose()?)
        };
        let labels = choice.iter().copied().cycle().take(config.count()).collect();
        // About as high as wide, a column for one label where these are few; small images are doubled.
        let (side, turns) = ((config.count() - 1).isqrt() + 1, choice.len().max(1));
        let columns = if turns <= 2 * side { side.next_multiple_of(turns) } else { side };
        let tiles = Tiles { columns, scale: if width < 128 { 2 } else { 1 }, ..Tiles::default() };
        Ok(Some(Self { recipe, config, sampling, conditioner, labels, negative, autoencoder, guide, tiles }))
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
