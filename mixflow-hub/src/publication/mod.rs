//! From the folder of a run to a repository that others use.

mod adapter;
mod arms;
mod card;
mod files;
mod finished;
mod front_matter;
mod loading;
mod markdown;
mod metrics;
mod results;
mod samples;
mod stage;
mod training;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mixflow::Device;
use mixflow::backbones::NetworkConfig;
use mixflow::backbones::unfinished::Unfinished;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings};

use crate::listing::Tree;
use crate::request::Subject;
use crate::upload_file::{self, UploadFile};
use crate::{Client, Error, Kind, Repository, Revision, TransferProgress, Upload, Uploaded};
use files::RequiredFile;
use finished::Finished;
use samples::SamplePicture;

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
/// Of a run that trained a low-rank adapter that alone can be published, see [`Choice::adapter`].
///
/// What the branch has of `results` and of `samples` in any format beyond that goes, since it tells about other weights; so do a
/// `recipe.json` and a network in shards, which readers would take before what is published. Its other files stay.
///
/// [`Pipeline`](mixflow::Pipeline) makes the same images from it, bit for bit, as from the run.
#[derive(Debug)]
pub struct Publication<N: NetworkSettings = NetworkConfig> {
    finished: Finished<N>,
    choice: Choice,
    needed: Vec<RequiredFile>,
    /// The file of the adapter, if that alone is published.
    adapter: Option<PathBuf>,
}

/// What to publish of a run, and what only its owner knows.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Which network of a comparison: `pretraining`, `standard-0`, …; `mixflow-0` where none is named.
    pub arm: Option<String>,
    /// Which weights of the network.
    pub averaging: Averaging,
    /// Whether the low-rank adapter that a run has trained is published alone, as `diffusers` calls it, for whoever has the
    /// network that it is for, which is the first of `base_models`. The recipe is on the card then, and no `config.json`.
    pub adapter: bool,
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
    /// Names and sizes of what was uploaded.
    pub written: Written,
    /// Commit and address of the upload.
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
        let adapter = choice.adapter.then(|| adapter::file(&finished, &choice)).transpose()?;
        let needed = match adapter {
            // They are those of its network, which others have.
            Some(_) => vec![],
            None => files::needed(run, &finished.recipe, &choice.files)?,
        };
        if adapter.is_none()
            && matches!(finished.recipe.autoencoder, Some(AutoencoderConfig::TrainedRae(_)))
            && !run.join(AUTOENCODER).is_file()
        {
            let reason =
                format!("has no {AUTOENCODER}, which the run trained first: copy it from where it was trained");
            return Err(Error::Layout { folder: run.into(), reason });
        }
        choice.samples.check()?;
        Ok(Self { finished, choice, needed, adapter })
    }

    /// Writes what is to be published in a branch of a repository into a folder that is not there yet, or is empty. It
    /// appears whole or not at all. `progress` is called with each step. The network is touched only for sample images that
    /// need files of the Hub, with what the environment says ([`Client::from_env`]).
    ///
    /// # Errors
    /// If there can be no such repository or branch, the folder has something in it or cannot be written, or images
    /// cannot be made.
    pub fn write(
        &self,
        folder: &Path,
        repository: &Repository,
        branch: &str,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Written, Error> {
        check(repository, branch)?;
        let fault = |reason: &str| Error::Layout { folder: folder.into(), reason: reason.into() };
        let partial = Unfinished::of(folder).map_err(|_| fault("is no name for a folder"))?;
        if folder.exists() {
            let mut entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
            if entries.next().is_some() {
                return Err(fault("is not empty: choose another folder, or remove this one"));
            }
        }
        let place = partial.path();
        fs::create_dir_all(place).map_err(Error::io("create", place))?;
        let staged = self.stage(None, place, (repository, branch), &Tree::new(), &mut progress)?;
        for UploadFile { name, path, .. } in &staged.elsewhere {
            let to = place.join(name);
            fs::copy(path, &to).map_err(Error::io("create", &to))?;
        }
        // Not every system puts a folder in the place of an empty one.
        let _ = fs::remove_dir(folder);
        partial.finish().map_err(Error::io("create", folder))?;
        Ok(Written::of(&upload_file::files_of(folder)?, staged.left_out))
    }

    /// Uploads it as one commit. Nothing is written into the run: what the run has not as it is published, such as the card,
    /// lies in a temporary folder meanwhile. Sample images are not made again where the branch has the same weights, recipe and
    /// card.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`Client::upload`]. Whether the token may write is asked first.
    pub fn publish(
        &self,
        client: &Client,
        repository: &Repository,
        upload: &Upload,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Published, Error> {
        let branch = check(repository, &upload.branch)?;
        if client.offline {
            return Err(Error::Offline { repository: repository.clone() });
        }
        let subject = Subject { repository, revision: &branch, file: None };
        client.check_token(&subject, &mut progress).map_err(Error::of_upload)?;
        let there = match client.resolve(repository, &branch, &mut progress) {
            Ok(head) => client.tree(repository, &head, &mut progress)?,
            Err(Error::NoRepository { .. } | Error::NoRevision { .. }) => Tree::new(),
            Err(error) => return Err(error.of_upload()),
        };
        let folder = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
        let staged = self.stage(Some(client), folder.path(), (repository, &upload.branch), &there, &mut progress)?;
        // What was said of other weights is not said of these.
        let mut upload = upload.clone().replacing("results");
        let pictures = samples::ENDINGS.map(|ending| format!("samples.{ending}"));
        for picture in pictures.into_iter().filter(|name| !(staged.keeps_samples && name == samples::FILE)) {
            upload = upload.replacing(picture);
        }
        if self.adapter.is_none() {
            let shards = there.keys().filter(|name| name.starts_with("model-") && name.ends_with(".safetensors"));
            for name in shards.map(String::as_str).chain(["recipe.json", "model.safetensors.index.json"]) {
                upload = upload.replacing(name);
            }
        }
        let files = [upload_file::files_of(folder.path())?, staged.elsewhere].concat();
        let mut uploaded = client.send_files(&files, repository, &upload, &mut progress)?;
        let mut written = Written::of(&files, staged.left_out);
        if let (true, Some(samples)) = (staged.keeps_samples, there.get(samples::FILE)) {
            uploaded.files_kept += 1;
            written.files.push((samples::FILE.into(), samples.size));
            written.files.sort();
        }
        Ok(Published { written, uploaded })
    }
}

impl Choice {
    fn check(&self) -> Result<(), Error> {
        let license = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
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

/// Name of the file of the autoencoder that a run trains first.
const AUTOENCODER: &str = "autoencoder.safetensors";

/// Name of the file of the network, in a run and where it is published.
const MODEL: &str = "model.safetensors";

impl Written {
    fn of(files: &[UploadFile], left_out: Vec<String>) -> Self {
        let mut files: Vec<_> = files.iter().map(|file| (file.name.clone(), file.size)).collect();
        files.sort();
        Self { files, left_out }
    }
}
