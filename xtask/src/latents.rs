//! Stored latents that a command learns or measures from.

use std::path::Path;

use mixflow::data::latents::Verified;
use mixflow::recipe::{NetworkSettings, Recipe};

use crate::progress::Progress;
use crate::run::{Result, note};

/// Where a run notes which shards it has found whole.
const NOTE: &str = "latents.json";

/// Stored latents, whole and made by the recipe's autoencoder.
pub(crate) struct Stored(Verified);

impl Stored {
    /// Opens those that the recipe learns, if it learns any, says what they are, and compares them with their hashes; not
    /// those again that the run in `folder` has found whole.
    pub(crate) fn check<N: NetworkSettings>(recipe: &Recipe<N>, folder: &Path) -> Result<Option<Self>> {
        let Some(latents) = recipe.stored_latents()? else { return Ok(None) };
        note(format_args!("data: {}", latents.manifest()));
        let mut progress = Progress::new();
        progress.begin("checking latents", Some(latents.manifest().bytes().div_ceil(1 << 20)));
        let before = Verified::read(&folder.join(NOTE));
        let verified = latents.verify(&before, |done, _| progress.checked(done.div_ceil(1 << 20)))?;
        progress.end();
        Ok(Some(Self(verified)))
    }

    /// Notes in the run's folder what was found.
    pub(crate) fn note(&self, folder: &Path) -> Result<()> {
        Ok(self.0.write(&folder.join(NOTE))?)
    }
}
