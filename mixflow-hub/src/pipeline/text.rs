//! Text to image from a repository.

use std::path::PathBuf;

use mixflow_t2i::TextPipeline;

use super::address_of;
use super::layout::{Layout, text_files};
use crate::pattern::literally;
use crate::progress::{Progress, Tell};
use crate::{Address, Client, Error, Revision};

/// Text encoders, transformer and autoencoder of a repository that holds a Stable Diffusion 3 as `diffusers` writes it, or a
/// [`Publication`](crate::Publication) of a network for text: `org/name` or `org/name@revision`, with what the environment
/// says about server, token and cache.
///
/// ```no_run
/// use mixflow::sampling::Export;
///
/// let pipeline = mixflow_hub::text_from_hub("stabilityai/stable-diffusion-3.5-medium")?;
/// let images = pipeline.images(&["a lighthouse at night", "two foxes under the moon"], 0)?;
/// Export::new("images.png", 3)?.write(2, 2, [Ok(images)])?;
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
///
/// # Errors
/// As [`Client::text_to_image`] and [`TextPipeline::from_folder`].
pub fn text_from_hub(repository: &str) -> Result<TextPipeline, Error> {
    let folder = Client::from_env()?.text_to_image(&address_of(repository)?, |_| {})?;
    Ok(TextPipeline::from_folder(folder)?)
}

impl Client {
    /// The folder that [`TextPipeline::from_folder`] reads, of a repository that holds a Stable Diffusion 3 as `diffusers`
    /// writes it, or a published run. Of several precisions the full one is fetched, and nothing that is not needed.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); if the address names a file, or the repository holds something else.
    pub fn text_to_image(&self, address: &Address, mut tell: impl FnMut(Progress<'_>)) -> Result<PathBuf, Error> {
        if address.file.is_some() {
            let reason = "names a file, and text to image is in many: leave it out";
            return Err(Error::Name { what: "the address", name: address.to_string(), reason });
        }
        let tell: Tell<'_> = &mut tell;
        let repository = &address.repository;
        let (commit, names) = self.names(repository, &address.revision(), &mut *tell)?;
        let ours = Layout::of(&names).ok().filter(|layout| layout.recipe.is_some());
        let wanted: Vec<String> = match ours {
            Some(layout) => layout.wanted(&names),
            None => {
                let folder = self.cache().folder().join(repository.folder_name());
                let files = text_files(&names).map_err(|reason| Error::Layout { folder, reason })?;
                files.into_iter().map(String::from).collect()
            }
        };
        let wanted: Vec<String> = wanted.iter().map(|name| literally(name)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        Ok(self.snapshot(repository, &Revision::from(commit), &wanted, tell)?.folder)
    }
}
