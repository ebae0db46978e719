//! A weaker network to be guided away from, in a recipe.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow_backbones::{Invalid, Network, NetworkConfig};
use mixflow_schedules::{Prediction, ScheduleConfig, same_path};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::data::{Classes, Conditioner, DataConfig, Fingerprint};
use crate::files::{WeightsFile, digest};
use crate::recipe::{AutoencoderConfig, NetworkSettings, ObjectiveConfig, Recipe};
use crate::sampling::Flow;
use crate::train::{Difference, StoredNetwork};

/// The weaker network of autoguidance: smaller, or trained for shorter, for the same images, classes and path.
///
/// It may predict something else than the network that it guides, and count the time of the path the other way. Where the
/// recipe that it was trained with lies beside its weights, that says how; and what contradicts it is refused.
///
/// # Source
/// Karras et al. 2024 (arXiv 2406.02507). RAE guides DiT^DH-XL by DiT^DH-S.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideConfig {
    /// Its shape, of any kind.
    pub network: NetworkConfig,
    /// Its weights: a published file, a run's folder, or a checkpoint. See [`StoredNetwork::find`].
    pub weights: PathBuf,
    /// Its path and direction of time; none is that of the recipe beside the weights, or of the network that it guides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleConfig>,
    /// What it outputs; none as for the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What its predictions of data are divided by at least, `objective.floor`; none as for the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
}

/// A [`GuideConfig`] with its weights.
#[derive(Clone, Debug)]
pub struct Guide {
    /// The network.
    pub network: Network,
    /// How many classes it knows.
    pub classes: usize,
    /// What it was read from.
    pub weights: WeightsFile,
    /// Its path and direction of time, where it is known; that of the network that it guides otherwise.
    pub schedule: Option<ScheduleConfig>,
    /// What it outputs, likewise.
    pub prediction: Option<Prediction>,
    /// What its predictions of data are divided by at least, likewise.
    pub floor: Option<f64>,
}

impl Guide {
    /// Its velocity field for these classes, as the guide of a network with this objective.
    pub(crate) fn flow<'a>(
        &'a self,
        guided: &'a ObjectiveConfig,
        labels: &[usize],
        device: &Device,
    ) -> Result<Flow<'a>, Error> {
        let labels = Classes(self.classes).conditions(labels, device)?;
        let schedule = self.schedule.as_ref().unwrap_or(&guided.schedule);
        let prediction = self.prediction.unwrap_or(guided.prediction);
        Ok(Flow::of(schedule, prediction, &self.network, labels).floored(self.floor.unwrap_or(guided.floor)))
    }
}

impl GuideConfig {
    /// The network of a run as a guide, as the run's recipe says.
    ///
    /// # Errors
    /// If there is no network at `weights`, no recipe beside it, or a faulty one.
    pub fn of_run(weights: &Path) -> Result<Self, Error> {
        let fault = |reason: &str| Error::NoRecipe { origin: weights.display().to_string(), reason: reason.into() };
        let recipe = StoredNetwork::find(weights)?.recipe_file().ok_or_else(|| {
            fault(
                "lies beside no recipe.json or config.json: name the guide's network and weights in the recipe, as \
                 sampling.guide",
            )
        })?;
        let recipe = Recipe::read(recipe.to_str().ok_or_else(|| fault("expected a path in UTF-8"))?, &[])?;
        let ObjectiveConfig { schedule, prediction, floor, .. } = recipe.objective;
        Ok(Self {
            network: recipe.network,
            weights: weights.into(),
            schedule: Some(schedule),
            prediction: Some(prediction),
            floor: Some(floor),
        })
    }

    /// The same with the path and the prediction that the recipe beside the weights says.
    ///
    /// # Errors
    /// If there are no weights, or the recipe beside them says something else.
    pub fn resolved(&self) -> Result<Self, Error> {
        let (stored, own) = self.found()?;
        let Some((file, own)) = own else { return Ok(self.clone()) };
        let ObjectiveConfig { schedule, prediction, floor, .. } = own.objective;
        let resolved = Self {
            schedule: self.schedule.or(Some(schedule)),
            prediction: self.prediction.or(Some(prediction)),
            floor: self.floor.or(Some(floor)),
            ..self.clone()
        };
        let trained = json!({ "network": own.network, "schedule": schedule, "prediction": prediction, "floor": floor });
        let Self { network, schedule, prediction, floor, .. } = &resolved;
        let claimed = json!({ "network": network, "schedule": schedule, "prediction": prediction, "floor": floor });
        match Difference::first(&trained, &claimed, &[]) {
            None => Ok(resolved),
            Some(Difference { key, old: trained, new: claimed }) => {
                let (weights, file) = (stored.file(), file.display());
                Err(fault(format!(
                    "{key} is {claimed}, but {} was trained with {trained}, as {file} says",
                    weights.display()
                )))
            }
        }
    }

    /// Reads the weights. [`Recipe::guide`] also compares it with the network that it guides.
    ///
    /// # Errors
    /// As [`resolved`](Self::resolved), and if they cannot be read or do not fit.
    pub fn load(&self, device: &Device) -> Result<Guide, Error> {
        let Self { network, schedule, prediction, floor, .. } = self.resolved()?;
        let stored = StoredNetwork::find(&self.weights).map_err(fault)?;
        let classes = network.classes();
        let network =
            stored.load(network.init(0, device), |network, weights| Ok(network.load(weights)?)).map_err(fault)?;
        Ok(Guide { network, classes, weights: WeightsFile::read(stored.file())?, schedule, prediction, floor })
    }

    /// Where its weights are, and the recipe that they were trained with, if it lies beside them.
    fn found(&self) -> Result<(StoredNetwork, Option<(PathBuf, Recipe)>), Error> {
        let stored = StoredNetwork::find(&self.weights).map_err(fault)?;
        // Beside a file of another name lies the recipe of the network that it guides.
        let own = match &stored {
            StoredNetwork::File(file) => file.ends_with("model.safetensors"),
            StoredNetwork::Checkpoint(_) => true,
        };
        let Some(file) = stored.recipe_file().filter(|_| own) else { return Ok((stored, None)) };
        let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if value.get("network").is_none() {
            // Another program's config.json.
            return Ok((stored, None));
        }
        let recipe = Recipe::from_value(value).map_err(|fault| Error::recipe(file.display(), fault))?;
        Ok((stored, Some((file, recipe))))
    }

    /// What is wrong with it as the guide of `guided`, if anything.
    pub(super) fn check(&self, guided: &impl NetworkSettings, objective: &ObjectiveConfig) -> Result<(), Invalid> {
        self.schedule.map_or(Ok(()), |schedule| check_path(&schedule, &objective.schedule))?;
        if let Some(floor) = self.floor.filter(|floor| !(0.0..1.0).contains(floor)) {
            return Err(Invalid::new("floor", format!("must be in [0, 1), found {floor}")));
        }
        let guide = &self.network;
        guide.check().map_err(|fault| fault.within("network"))?;
        let [(channels, height, width), (expected, high, wide)] =
            [guide.shape(), guided.shape()].map(|[channels, height, width]| (channels, height, width));
        if (channels, height, width) != (expected, high, wide) {
            let reason = format!(
                "makes {channels} x {height} x {width} (channels, height, width), the network that it guides {expected} x \
                 {high} x {wide}: both must be the same"
            );
            return Err(Invalid::new("network", reason));
        }
        if guide.classes() != guided.classes() {
            let reason = format!(
                "knows {} classes, the network that it guides {}: both must be the same",
                guide.classes(),
                guided.classes()
            );
            return Err(Invalid::new("network", reason));
        }
        Ok(())
    }
}

impl<N: NetworkSettings> Recipe<N> {
    /// The weaker network that sampling leads away from, with its weights; none where sampling needs none. `folder` is
    /// that of this recipe's run, for the autoencoder that it may have trained.
    ///
    /// # Errors
    /// As [`GuideConfig::load`]; and if by the recipe beside its weights it was trained on another path, or for images
    /// where this one draws latents, for latents of another autoencoder, or on other classes, as far as these are at hand.
    pub fn guide(&self, folder: &Path, device: &Device) -> Result<Option<Guide>, Error> {
        self.check_guide(folder)?;
        self.sampling.active_guide().map(|config| config.load(device)).transpose()
    }

    /// The same without reading the weights.
    ///
    /// # Errors
    /// As [`guide`](Self::guide), but for the weights.
    pub(crate) fn check_guide(&self, folder: &Path) -> Result<(), Error> {
        let Some(config) = self.sampling.active_guide() else { return Ok(()) };
        if let (_, Some((file, own))) = config.found()? {
            let parent = file.parent().unwrap_or(Path::new(""));
            let (guide_data, data) = (Fingerprint::read(parent)?, Fingerprint::read(folder)?);
            check_path(&own.objective.schedule, &self.objective.schedule)
                .map_err(|invalid| invalid.within("objective").to_string())
                .and_then(|()| check_latents((&own.latents(), parent), (&self.latents(), folder)))
                .and_then(|()| check_classes(guide_data.as_ref(), data.as_ref()))
                .map_err(|reason| fault(format!("{}: {reason}", file.display())))?;
        }
        Ok(())
    }

    fn latents(&self) -> Latents<'_> {
        match (&self.autoencoder, &self.data) {
            (Some(autoencoder), _) => Latents::Of(autoencoder),
            (None, DataConfig::Latents { .. }) => Latents::Stored,
            (None, _) => Latents::None,
        }
    }
}

/// What a network draws that is no image.
enum Latents<'a> {
    None,
    /// Of an autoencoder that the recipe does not name.
    Stored,
    Of(&'a AutoencoderConfig),
}

fn check_path(guide: &ScheduleConfig, guided: &ScheduleConfig) -> Result<(), Invalid> {
    if same_path(guide, guided) {
        return Ok(());
    }
    let reason = format!(
        "is {}, the network that it guides was trained on the path {}: both must be the same, in either direction of time",
        json!(guide),
        json!(guided)
    );
    Err(Invalid::new("schedule", reason))
}

/// Of the guide, then of the network that it guides, as far as their runs have recorded them.
fn check_classes(guide: Option<&Fingerprint>, guided: Option<&Fingerprint>) -> Result<(), String> {
    let (Some(guide), Some(guided)) = (guide, guided) else { return Ok(()) };
    match guide.classes.iter().zip(&guided.classes).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(class) => Err(format!(
            "the guide knows class {class} as `{}`, the network that it guides as `{}`: both must know the same classes",
            guide.classes[class], guided.classes[class]
        )),
    }
}

/// Of the guide, then of the network that it guides, each with the folder of its run.
fn check_latents(
    (guide, guide_folder): (&Latents<'_>, &Path),
    (guided, folder): (&Latents<'_>, &Path),
) -> Result<(), String> {
    let both = "both must draw the same";
    match (guide, guided) {
        (Latents::None, Latents::None)
        | (Latents::Stored, Latents::Stored | Latents::Of(_))
        | (Latents::Of(_), Latents::Stored) => Ok(()),
        (Latents::None, _) => Err(format!("the guide draws images, the network that it guides latents: {both}")),
        (_, Latents::None) => Err(format!("the guide draws latents, the network that it guides images: {both}")),
        (Latents::Of(one), Latents::Of(other)) => {
            let files = one.files(guide_folder).into_iter().zip(other.files(folder));
            if one.without_files() == other.without_files() && files.into_iter().all(|(a, b)| may_be_equal(&a, &b)) {
                return Ok(());
            }
            let names = [one.files(guide_folder), other.files(folder)];
            let [one, other] =
                names.map(|files| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "));
            Err(format!("the guide draws latents of {one}, the network that it guides those of {other}: {both}"))
        }
    }
}

/// Whether two files hold the same bytes, or one is not at hand.
fn may_be_equal(a: &Path, b: &Path) -> bool {
    a == b || digest::file(a).ok().zip(digest::file(b).ok()).is_none_or(|(a, b)| a == b)
}

fn fault(reason: impl std::fmt::Display) -> Error {
    Error::unfit("sampling.guide", reason)
}

#[cfg(test)]
mod tests;
