//! `cargo xtask publish`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mixflow::FolderLock;
use mixflow_hub::{
    Averaging, Choice, Client, Error, Kind, Provision, Publication, Repository, SampleImages, Upload, Written,
};
use serde_json::{Map, Value, json};

use crate::arguments::{DeviceArgument, JsonArgument};
use crate::kind::{self, TextNetworkConfig, is_text};
use crate::progress::Progress;
use crate::terminal::{Result, note, print, print_json};

#[derive(Args)]
pub(crate) struct Publish {
    /// The folder of a run that has ended
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The repository of the Hub: org/name; made if it is not there
    #[arg(long, value_name = "REPOSITORY")]
    to: String,
    /// If the repository is made, show it to its owners only
    #[arg(long)]
    private: bool,
    /// The branch; made if it is not there
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    revision: String,
    /// Write what would be published into a folder instead [default: published, in the run's folder]
    #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
    dry_run: Option<Option<PathBuf>>,
    /// Which network of a comparison: pretraining, standard-0, mixflow-1, ... [default: mixflow-0]
    #[arg(long)]
    arm: Option<String>,
    /// Publish the weights of the last step instead of their moving average
    #[arg(long)]
    last: bool,
    /// Publish the low-rank adapter that the run has trained without its network, which is the (first) --base-model
    /// [default: that which the run started from, if it is of the Hub]
    #[arg(long, conflicts_with_all = ["last", "files"])]
    adapter_only: bool,
    /// Where others get a file that the recipe names, by its key: autoencoder.weights=hf://org/name/file, or
    /// autoencoder.weights=copy for a file that you may pass on; network.text.folder=hf://org/name for text encoders; may be given
    /// more than once
    #[arg(long = "file", value_name = "KEY=ADDRESS")]
    files: Vec<String>,
    /// A picture for the card [default: sixteen images are made]
    #[arg(long, value_name = "PICTURE", conflicts_with = "no_samples")]
    samples: Option<PathBuf>,
    /// No picture
    #[arg(long)]
    no_samples: bool,
    /// The Hub's word for the licence, such as apache-2.0 [default: the card names none]
    #[arg(long)]
    license: Option<String>,
    /// A model of the Hub that the training started from; may be given more than once
    #[arg(long = "base-model", value_name = "REPOSITORY")]
    base_models: Vec<String>,
    /// A data set of the Hub that was learnt; may be given more than once
    #[arg(long = "dataset", value_name = "REPOSITORY")]
    datasets: Vec<String>,
    /// A word more to be found by; may be given more than once
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// What the commit says
    #[arg(long, default_value = "Publish with mixflow")]
    message: String,
    #[command(flatten)]
    json: JsonArgument,
    #[command(flatten)]
    device: DeviceArgument,
}

impl Publish {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let device = &self.device.find()?;
        let repository: Repository = self.to.parse()?;
        if let Some(holder) = FolderLock::holder(&self.run) {
            note(format_args!("warning: {holder} still works in this run; what it will change is not published"));
        }
        let recipe = self.run.join("recipe.json");
        match is_text(recipe.to_str().ok_or("expected a path in UTF-8")?) {
            true => self.publish(
                &Publication::<TextNetworkConfig>::of_network(&self.run, self.choice()?, device)?,
                &repository,
            ),
            false => self.publish(&Publication::of(&self.run, self.choice()?, device)?, &repository),
        }
    }

    fn publish<N: kind::Kind>(&self, publication: &Publication<N>, repository: &Repository) -> Result<ExitCode> {
        let mut progress = Progress::new();
        if let Some(folder) = &self.dry_run {
            let folder = folder.clone().unwrap_or_else(|| self.run.join("published"));
            progress.begin("writing", None);
            let written = publication.write(&folder, repository, &self.revision, |event| progress.transfer(&event))?;
            progress.end();
            if self.json.json {
                return self.say_json(repository, &written, json!({ "folder": folder }));
            }
            print_files(&written)?;
            print(format_args!("nothing was sent; this would be {repository}: {}", folder.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let upload = Upload::new(self.message.clone()).branch(self.revision.clone()).private(self.private);
        progress.begin("writing", None);
        let client = Client::from_env()?;
        let published = publication.publish(&client, repository, &upload, |event| progress.transfer(&event))?;
        progress.end();
        let uploaded = published.uploaded;
        if self.json.json {
            let done = json!({
                "commit": uploaded.commit.to_string(),
                "url": uploaded.address,
                "files_sent": uploaded.files_sent,
                "files_unchanged": uploaded.files_kept,
                "files_removed": uploaded.files_removed,
                "bytes_sent": uploaded.sent,
            });
            return self.say_json(repository, &published.written, done);
        }
        print_files(&published.written)?;
        print(format_args!(
            "{} of {} files were new, {:.1} MB sent\n{} at {}: {}",
            uploaded.files_sent,
            uploaded.files_sent + uploaded.files_kept,
            uploaded.sent as f64 / 1e6,
            repository,
            uploaded.commit,
            uploaded.address,
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// What was written and what became of it, as one object.
    fn say_json(&self, repository: &Repository, written: &Written, mut done: Value) -> Result<ExitCode> {
        done["repository"] = repository.to_string().into();
        done["branch"] = self.revision.clone().into();
        done["files"] =
            written.files.iter().map(|(name, bytes)| (name.clone(), json!(bytes))).collect::<Map<_, _>>().into();
        done["left_out"] = written.left_out.clone().into();
        print_json(&done)?;
        Ok(ExitCode::SUCCESS)
    }

    fn choice(&self) -> Result<Choice> {
        let file = |text: &String| match text.split_once('=') {
            Some((key, "copy")) => Ok((key.to_string(), Provision::Copy)),
            Some((key, address)) => Ok((key.to_string(), Provision::refer(address)?)),
            None => Err(format!("--file: expected KEY=hf://org/name/file or KEY=copy, found {text}").into()),
        };
        let model = |name: &String| name.parse::<Repository>();
        let dataset = |name: &String| match name.parse::<Repository>() {
            Ok(repository) if repository.kind() == Kind::Dataset => Ok(repository),
            _ => Repository::new(Kind::Dataset, name),
        };
        Ok(Choice {
            arm: self.arm.clone(),
            adapter: self.adapter_only,
            averaging: if self.last { Averaging::Last } else { Averaging::Average },
            files: self.files.iter().map(file).collect::<Result<_>>()?,
            samples: match &self.samples {
                Some(picture) => SampleImages::Picture(picture.clone()),
                None if self.no_samples => SampleImages::None,
                None => SampleImages::Made,
            },
            license: self.license.clone(),
            base_models: self.base_models.iter().map(model).collect::<std::result::Result<_, Error>>()?,
            datasets: self.datasets.iter().map(dataset).collect::<std::result::Result<_, Error>>()?,
            tags: self.tags.clone(),
        })
    }
}

/// Prints what was written, name by name in bytes, and what was left out.
fn print_files(written: &Written) -> Result<()> {
    for (name, bytes) in &written.files {
        print(format_args!("{bytes:>14}  {name}"))?;
    }
    for reason in &written.left_out {
        note(format_args!("left out: {reason}"));
    }
    Ok(())
}
