//! Pictures for a card.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use mixflow::Pipeline;
use mixflow::data::DataConfig;
use mixflow::launch::conditioner;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings, Recipe};
use mixflow::sampling::Export;

use super::finished::Finished;
use super::markdown::plainly;
use crate::progress::Progress;
use crate::{Address, Client, Error, TransferProgress};

/// Name of the file of sample images beside the card.
pub(super) const FILE: &str = "samples.png";

/// Endings of the names of pictures.
pub(super) const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Number of sample images.
const COUNT: usize = 16;

/// Where the pictures of a card come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SampleImages {
    /// Sixteen images are made as the recipe says, which may take long. What the recipe names of the Hub is fetched for that.
    #[default]
    Made,
    /// This picture: PNG, JPEG or WebP.
    Picture(PathBuf),
    /// The card has no pictures.
    None,
}

/// A picture in the folder.
#[derive(Debug)]
pub(super) struct SamplePicture {
    pub(super) name: String,
    pub(super) caption: String,
}

impl SampleImages {
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self::Picture(file) = self else { return Ok(()) };
        if file.is_file() && ending(file).is_some() {
            return Ok(());
        }
        let reason = "is no picture for the card: expected a file .png, .jpg or .webp".into();
        Err(Error::Layout { folder: file.clone(), reason })
    }
}

fn ending(file: &Path) -> Option<&'static str> {
    let ending = file.extension()?.to_str()?.to_ascii_lowercase();
    ENDINGS.into_iter().find(|known| *known == ending)
}

/// Writes the picture, if there is to be one; or says why there cannot be one.
pub(super) fn write<N: NetworkSettings>(
    samples: &SampleImages,
    finished: &Finished<N>,
    folder: &Path,
    client: Option<&Client>,
    progress: Progress<'_>,
) -> Result<Result<Option<SamplePicture>, String>, Error> {
    match samples {
        SampleImages::None => Ok(Ok(None)),
        SampleImages::Picture(file) => {
            let name = format!("samples.{}", ending(file).unwrap_or("png"));
            let to = folder.join(&name);
            fs::copy(file, &to).map_err(Error::io("create", &to))?;
            Ok(Ok(Some(SamplePicture { name, caption: "Images of the network.".into() })))
        }
        SampleImages::Made => make(finished, folder, client, progress),
    }
}

/// The recipe with files of this machine, fetched where it names some of the Hub.
fn local<N: NetworkSettings>(
    recipe: &Recipe<N>,
    client: Option<&Client>,
    progress: Progress<'_>,
) -> Result<Recipe<N>, Error> {
    let autoencoder = recipe.autoencoder.iter().flat_map(|config| config.files(Path::new("")));
    let mut files = autoencoder.chain(recipe.sampling.guide.iter().map(|guide| guide.weights.clone()));
    let encoder = &recipe.to_value()["network"]["text"]["folder"];
    let encoder = encoder.as_str().is_some_and(Address::is_one);
    if !encoder && !files.any(|file| file.to_str().is_some_and(Address::is_one)) {
        return Ok(recipe.clone());
    }
    let client = client.map_or_else(Client::from_env, |client| Ok(client.clone()))?;
    let [_, local] = client.named_files(&recipe.to_value(), progress)?;
    let fault = |fault| mixflow::Error::Recipe { origin: recipe.name.clone(), fault };
    Ok(Recipe::parse_value(local).map_err(fault)?)
}

/// The picture that would be made, as far as that is known before.
pub(super) fn expected<N: NetworkSettings>(samples: &SampleImages, finished: &Finished<N>) -> Option<SamplePicture> {
    let made = matches!(samples, SampleImages::Made);
    let evaluations = finished.recipe.sampling.evaluations().filter(|_| made)?;
    Some(SamplePicture { name: FILE.into(), caption: caption(finished, evaluations) })
}

fn make<N: NetworkSettings>(
    finished: &Finished<N>,
    folder: &Path,
    client: Option<&Client>,
    progress: Progress<'_>,
) -> Result<Result<Option<SamplePicture>, String>, Error> {
    let Finished { run, names, device, .. } = finished;
    let recipe = &local(&finished.recipe, client, progress)?;
    let [channels, ..] = recipe.network.shape();
    let channels = recipe.autoencoder.as_ref().map_or(channels, AutoencoderConfig::image_channels);
    if channels != 1 && channels != 3 {
        return Ok(Err(format!("there is no picture of images with {channels} channels")));
    }
    if recipe.network.reads_names() && names.len() != recipe.network.classes() {
        return Ok(Err("there is no picture: the run has not recorded its prompts".into()));
    }
    let elsewhere = |error: mixflow::Error| Error::Layout {
        folder: run.clone(),
        reason: format!("sample images cannot be made here, give a picture or do without: {error}"),
    };
    let mut pipeline = Pipeline::of_network(recipe.clone(), finished.network()?, run).map_err(elsewhere)?;
    // Captions may have been read from beside the latents: the run has but a note of them then.
    let stored = match &recipe.data {
        DataConfig::Latents { path, .. } if path.is_dir() => Some(path.as_path()),
        _ => None,
    };
    pipeline.conditioner =
        conditioner(&recipe.network, names, stored, run, device, &AtomicBool::new(false), &mut |_| {})
            .map_err(elsewhere)?;
    let labels = labels(recipe.network.classes());
    progress(TransferProgress::Sampling { images: 0, count: COUNT });
    let images = pipeline.generator().trajectories(&labels, 0, &mut |state| {
        progress(TransferProgress::Sampling { images: state.done as usize, count: COUNT });
    })?;
    let caption = caption(finished, images.evaluations);
    Export::new(folder.join(FILE), channels)?.write(COUNT, COUNT / 2, [Ok(images)])?;
    Ok(Ok(Some(SamplePicture { name: FILE.into(), caption })))
}

/// Classes from all over, where there are more than images.
fn labels(classes: usize) -> Vec<usize> {
    (0..COUNT).map(|image| if classes > COUNT { image * classes / COUNT } else { image % classes }).collect()
}

/// What is in the picture, and how it was made.
fn caption<N: NetworkSettings>(finished: &Finished<N>, evaluations: usize) -> String {
    let Finished { recipe, names, .. } = finished;
    let classes = recipe.network.classes();
    let labels = labels(classes);
    // Few take turns.
    let once = labels.iter().take(classes);
    let told = match names.get(..classes) {
        Some(names) => once.map(|&label| format!("“{}”", plainly(&names[label]))).collect::<Vec<_>>().join(", "),
        None => format!("Classes {}", once.map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let turns = if (2..COUNT).contains(&classes) { " in turn" } else { "" };
    format!(
        "{told}{turns} with {}, {} steps, {evaluations} network evaluations each, seed {}.",
        recipe.sampling.describe(),
        recipe.sampling.sampler.grid.steps(),
        recipe.seed,
    )
}
