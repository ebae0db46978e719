//! Stored latents that a command measures from.

use std::path::Path;

use mixflow::launch::verified;
use mixflow::recipe::{NetworkSettings, Recipe};

use crate::progress::Progress;
use crate::terminal::Result;

/// Says what the stored latents are that the recipe learned, if it learned any, and compares them with their hashes; not
/// those again that the run in `folder` has found whole.
pub(crate) fn check_latents<N: NetworkSettings>(recipe: &Recipe<N>, folder: &Path) -> Result<()> {
    let mut progress = Progress::new();
    verified(recipe, folder, &mut |event| progress.launch(&event))?;
    progress.end();
    Ok(())
}
