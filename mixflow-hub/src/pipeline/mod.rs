//! Pipelines of repositories.

mod below;
mod encoder;
mod fetch;
#[cfg(feature = "t2i")]
mod text;

use std::path::PathBuf;

use mixflow::pipeline::Layout;
use mixflow::{Device, Pipeline};

use crate::address::SCHEME;
use crate::progress::Progress;
use crate::{Address, Client, Error, TransferProgress};

pub(crate) use encoder::ENCODER;

/// What is opened from a repository of the Hub: a [`Pipeline`] for classes, in the layouts of
/// [`from_folder`](Pipeline::from_folder), or, with the feature `t2i`, a `TextPipeline` for prompts.
///
/// ```no_run
/// use mixflow::{Export, Pipeline};
/// use mixflow_hub::FromHub;
///
/// let pipeline = Pipeline::from_hub("org/name", &Default::default())?;
/// let images = pipeline.images(&[207, 360, 387, 974], 0)?;
/// Export::new("images.png", pipeline.image_channels())?.write(4, 2, [Ok(images)])?;
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
pub trait FromHub: Sized {
    /// What is in the repository at an address, or in a folder of it where the networks of several lie in folders. Only the
    /// files that are needed are fetched.
    ///
    /// # Errors
    /// As [`Client::snapshot`], if the address names a file, and if the repository lacks one or holds something else.
    fn open(
        client: &Client,
        address: &Address,
        device: &Device,
        progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Self, Error>;

    /// What is in a repository, `org/name` or `org/name@revision`, or in a folder of it, `org/name/folder`, with what the
    /// environment says about server, token and cache. Progress is not shown; [`open`](Self::open) tells it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn from_hub(repository: &str, device: &Device) -> Result<Self, Error> {
        let whole = !repository.contains('@') && repository.matches('/').count() < 2;
        let address = match !whole || Address::is_one(repository) {
            true => format!("{SCHEME}{}", repository.trim_start_matches(SCHEME)).parse()?,
            // Very old repositories have no address.
            false => Address { repository: repository.parse()?, revision: None, file: None },
        };
        Self::open(&Client::from_env()?, &address, device, |_| {})
    }
}

impl FromHub for Pipeline {
    fn open(
        client: &Client,
        address: &Address,
        device: &Device,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Self, Error> {
        let progress: Progress<'_> = &mut progress;
        address.check_whole()?;
        let choose = |names: &[String]| {
            let layout =
                Layout::of(names).map_err(|unknown| client.unknown(&address.repository, unknown.to_string()))?;
            Ok(((), layout.wanted(names)))
        };
        let ((), snapshot) = client.chosen(address, choose, &mut *progress)?;
        let mut fetch = |address: &str| Ok::<PathBuf, Error>(client.addressed(address, &mut *progress)?.1);
        Self::from_folder_with(snapshot.folder, device, Some(&mut fetch))
    }
}
