//! From the folder of a run to a repository that others use.

mod arms;
mod card;
mod files;
mod finished;
mod front_matter;
mod metrics;
mod results;
mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mixflow::backbones::NetworkConfig;
use mixflow::backbones::weights::Weights;
use mixflow::files::{WeightsFile, write_atomic};
use mixflow::recipe::{AutoencoderConfig, GuideConfig, NetworkSettings};
use mixflow::{Device, device};

use crate::lock::Lock;
use crate::progress::Tell;
use crate::request::Subject;
use crate::{Client, Error, Kind, Repository, Revision, TransferProgress, Upload, Uploaded};
use card::Card;
use files::Needed;
use finished::Finished;
use results::Measured;
use samples::Sampled;

pub use files::Provision;
pub use finished::Averaging;
pub use samples::SampleImages;

/// A trained network as others get it: weights, recipe, what was measured, and a card that tells about it.
///
/// ```no_run
/// use mixflow_hub::{Choice, Client, Publication, Upload};
///
/// let choice = Choice { license: Some("mit".into()), ..Choice::default() };
/// let publication = Publication::of("runs/digits", choice, &mixflow::device::chosen()?)?;
/// let published =
///     publication.publish(&Client::from_env()?, &"org/name".parse()?, &Upload::new("digits"), |_| {})?;
/// println!("{}", published.uploaded.address);
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
///
/// # The folder
/// - `model.safetensors`: the network, under official names.
/// - `config.json`: the recipe. Files in it are named as they lie beside it, or as `hf://org/name/file`; of paths that
///   sampling does not need, the last part is left.
/// - `guide.safetensors`, `autoencoder….safetensors`: what sampling needs and may be passed on.
/// - `results/*.json`: what was measured of these very weights, by `eval` or by the comparison.
/// - `samples.png`, and `README.md`, the card. No number is in it that is not in the results.
///
/// What the branch has of `results` and `samples.png` beyond that goes, since it tells about other weights; its other files
/// stay.
///
/// [`Pipeline`](mixflow::Pipeline) makes the same images from it, bit for bit, as from the run.
#[derive(Debug)]
pub struct Publication<N: NetworkSettings = NetworkConfig> {
    finished: Finished<N>,
    choice: Choice,
    needed: Vec<Needed>,
}

/// What to publish of a run, and what only its owner knows.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Which network of a comparison: `pretraining`, `standard-0`, …; `mixflow-0` where none is named.
    pub arm: Option<String>,
    /// Which weights of it.
    pub averaging: Averaging,
    /// How others get the files that the recipe names, by their keys, such as `autoencoder.weights`. Where nothing is
    /// said, statistics and guides are copied, and files in the cache of the Hub are referred to.
    pub files: BTreeMap<String, Provision>,
    /// Pictures for the card.
    pub samples: SampleImages,
    /// The Hub's word for the licence, such as `apache-2.0`. Where none is given, the card names none.
    pub license: Option<String>,
    /// Models that the training started from. Where none is given, that which the run had its first weights from, if it says
    /// so.
    pub base_models: Vec<Repository>,
    /// Data sets of the Hub that were learnt.
    pub datasets: Vec<Repository>,
    /// More words to be found by.
    pub tags: Vec<String>,
}

/// The files of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Names and sizes in bytes, sorted.
    pub files: Vec<(String, u64)>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// What has become of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// What was uploaded.
    pub written: Written,
    /// Where to.
    pub uploaded: Uploaded,
}

impl Publication {
    /// The finished network for class labels in the folder of a run; its sample images are made on `device`.
    ///
    /// # Errors
    /// If the folder is none of a run, the training has not ended, weights do not fit the recipe, or a file that sampling
    /// needs is neither there nor said to be elsewhere.
    pub fn of(run: impl AsRef<Path>, choice: Choice, device: &Device) -> Result<Self, Error> {
        Self::of_network(run, choice, device)
    }
}

impl<N: NetworkSettings> Publication<N> {
    /// The finished network in the folder of a run whose recipe has settings of type `N`: `mixflow_t2i`'s for text, or your
    /// own.
    ///
    /// # Errors
    /// As [`of`](Publication::of).
    pub fn of_network(run: impl AsRef<Path>, mut choice: Choice, device: &Device) -> Result<Self, Error> {
        choice.check()?;
        let run = run.as_ref();
        let finished = Finished::read(run, choice.arm.as_deref(), choice.averaging, device)?;
        let start = finished.start.as_ref().and_then(|start| start.repository.as_deref());
        let start = start.map(str::parse::<Repository>).transpose()?.filter(|start| start.kind() == Kind::Model);
        if choice.base_models.is_empty() {
            choice.base_models.extend(start);
        }
        let needed = files::needed(run, &finished.recipe, &choice.files)?;
        if matches!(finished.recipe.autoencoder, Some(AutoencoderConfig::TrainedRae(_)))
            && !run.join(AUTOENCODER).is_file()
        {
            let reason =
                format!("has no {AUTOENCODER}, which the run trained first: copy it from where it was trained");
            return Err(Error::Layout { folder: run.into(), reason });
        }
        choice.samples.check()?;
        Ok(Self { finished, choice, needed })
    }

    /// Writes what is to be published in a branch of a repository into a folder that is not there yet, or is empty. It
    /// appears whole or not at all. `tell` hears how it goes. The network is touched only for sample images that need files
    /// of the Hub, with what the environment says ([`Client::from_env`]).
    ///
    /// # Errors
    /// If there can be no such repository or branch, the folder has something in it or cannot be written, or images
    /// cannot be made.
    pub fn write(
        &self,
        folder: &Path,
        repository: &Repository,
        branch: &str,
        mut tell: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Written, Error> {
        self.write_with(None, folder, repository, branch, &mut tell)
    }

    fn write_with(
        &self,
        client: Option<&Client>,
        folder: &Path,
        repository: &Repository,
        branch: &str,
        tell: Tell<'_>,
    ) -> Result<Written, Error> {
        check(repository, branch)?;
        let fault = |reason: &str| Error::Layout { folder: folder.into(), reason: reason.into() };
        let name = folder.file_name().ok_or_else(|| fault("is no name for a folder"))?.to_string_lossy();
        if folder.exists() {
            let mut entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
            if entries.next().is_some() {
                return Err(fault("is not empty: choose another folder, or remove this one"));
            }
        }
        let partial = folder.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        fs::create_dir_all(&partial).map_err(Error::io("write", &partial))?;
        let written = self.fill(client, &partial, (repository, branch), tell).and_then(|written| {
            // Not every system puts a folder in the place of an empty one.
            let _ = fs::remove_dir(folder);
            fs::rename(&partial, folder).map_err(Error::io("write", folder))?;
            Ok(written)
        });
        if written.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    /// Writes it beside the run, uploads it as one commit, and removes what was written.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`Client::upload`]. Whether the token may write is asked first.
    pub fn publish(
        &self,
        client: &Client,
        repository: &Repository,
        upload: &Upload,
        mut tell: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Published, Error> {
        if client.offline {
            return Err(Error::Offline { repository: repository.clone() });
        }
        let branch = check(repository, &upload.branch)?;
        let subject = Subject { repository, revision: &branch, file: None };
        client.check_token(&subject, &mut tell).map_err(Error::of_upload)?;
        // One at a time in a run; what a killed one left is removed.
        let _lock = Lock::acquire(&self.finished.run.join("recipe.json"), |by| {
            tell(TransferProgress::Locked { file: "recipe.json", by });
        })?;
        let folder = Temporary(self.finished.run.join(".publish"));
        folder.remove();
        let written = self.write_with(Some(client), &folder.0, repository, &upload.branch, &mut tell)?;
        // What was said of other weights is not said of these.
        let upload = upload.clone().replacing("results").replacing(samples::FILE);
        let uploaded = client.upload(&folder.0, repository, &upload, &mut tell)?;
        Ok(Published { written, uploaded })
    }

    fn fill(
        &self,
        client: Option<&Client>,
        folder: &Path,
        (repository, branch): (&Repository, &str),
        tell: Tell<'_>,
    ) -> Result<Written, Error> {
        let Finished { run, text, recipe, network, .. } = &self.finished;
        let weights = Weights::of(network, recipe.network.official_key());
        let file = folder.join("model.safetensors");
        weights.write(&file, &self.metadata())?;
        let parameters = weights.iter().map(|(_, data)| data.shape().iter().product::<usize>()).sum();
        drop(weights);
        if matches!(recipe.autoencoder, Some(AutoencoderConfig::TrainedRae(_))) {
            let (from, to) = (run.join(AUTOENCODER), folder.join(AUTOENCODER));
            fs::copy(from, &to).map_err(Error::io("write", &to))?;
        }
        let guide = recipe.sampling.guide.as_ref();
        let told = guide.filter(|guide| guide.weights.exists()).map(GuideConfig::resolved).transpose()?;
        for needed in self.needed.iter().filter(|needed| needed.is_copied()) {
            let weights = match guide.filter(|guide| needed.key == files::GUIDE && guide.weights == needed.path) {
                Some(guide) => guide.load(&device::of(network))?.network.weights(),
                None => Weights::read(&needed.path)?,
            };
            weights.write(folder.join(&needed.name), &[("format", "pt"), ("library_name", "mixflow")])?;
        }
        let recipe_file = run.join("recipe.json");
        let config = files::published(text, &self.needed)
            .and_then(|config| files::with_guide(config, recipe, told.as_ref()))
            .map_err(|reason| Error::Layout { folder: recipe_file, reason })?;
        write_atomic(&folder.join("config.json"), config.as_bytes())?;

        let model = WeightsFile { file: "model.safetensors".into(), ..WeightsFile::read(&file)? };
        let mut measured = Measured::read(&self.finished, &model)?;
        for (name, value) in &measured.files {
            let file = folder.join(name);
            fs::create_dir_all(folder.join("results")).map_err(Error::io("write", &file))?;
            let text = serde_json::to_vec_pretty(value).expect("what was read as JSON is JSON");
            write_atomic(&file, &text)?;
        }
        let sampled = match samples::write(&self.choice.samples, &self.finished, folder, client, tell)? {
            Ok(sampled) => sampled,
            Err(reason) => {
                measured.left_out.push(reason);
                None
            }
        };
        let card = Card {
            finished: &self.finished,
            choice: &self.choice,
            repository,
            branch,
            measured: &measured,
            needed: &self.needed,
            sampled: sampled.as_ref(),
            parameters,
            config: &config,
        };
        write_atomic(&folder.join("README.md"), card.text().as_bytes())?;
        Ok(Written { files: sizes(folder)?, left_out: measured.left_out })
    }

    /// What the file of the weights says about itself.
    fn metadata(&self) -> Vec<(&str, &str)> {
        let Finished { recipe, arm, averaging, .. } = &self.finished;
        let mut metadata = vec![
            ("format", "pt"),
            ("library_name", "mixflow"),
            ("mixflow_version", env!("CARGO_PKG_VERSION")),
            ("recipe", recipe.name.as_str()),
            ("weights", averaging.name()),
            ("step", self.finished.step.as_str()),
        ];
        metadata.extend(arm.as_deref().map(|arm| ("network", arm)));
        metadata
    }
}

impl Choice {
    fn check(&self) -> Result<(), Error> {
        let license = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if let Some(name) = self.license.as_ref().filter(|name| name.is_empty() || !name.chars().all(license)) {
            let reason = "must be a word of the Hub's, such as apache-2.0, mit, cc-by-nc-4.0 or other";
            return Err(Error::Name { what: "the licence", name: name.clone(), reason });
        }
        match self.tags.iter().find(|tag| tag.trim().is_empty() || tag.chars().any(char::is_control)) {
            Some(tag) => Err(Error::Name { what: "the tag", name: tag.clone(), reason: "must be a word" }),
            None => Ok(()),
        }
    }
}

/// The branch, if networks can be published there.
fn check(repository: &Repository, branch: &str) -> Result<Revision, Error> {
    if repository.kind() != Kind::Model || !repository.id().contains('/') {
        let reason = "must be one of models, with its owner: org/name";
        return Err(Error::Name { what: "the repository", name: repository.to_string(), reason });
    }
    let revision: Revision = branch.parse()?;
    match revision.commit() {
        Some(_) => Err(Error::Name { what: "the branch", name: branch.into(), reason: "is a commit: name a branch" }),
        None => Ok(revision),
    }
}

/// What a run calls the autoencoder that it trains first.
const AUTOENCODER: &str = "autoencoder.safetensors";

/// A folder that is removed in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn remove(&self) {
        // It may not be there, and what cannot be removed now is removed by the next one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Names and sizes of all files, sorted.
fn sizes(folder: &Path) -> Result<Vec<(String, u64)>, Error> {
    let files = crate::folder::files(folder)?;
    Ok(files.into_iter().map(|file| (file.name, file.size)).collect())
}
