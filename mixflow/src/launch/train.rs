//! A recipe in a folder, in one call.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use super::{Finish, Launch};
use crate::Error;
use crate::compare::Progress;
use crate::recipe::{NetworkSettings, Recipe};
use crate::train::RunFolder;

/// Trains a recipe in a folder, from initial values to its end, or goes on with the run that is there. `progress` hears how
/// it goes. A [`Launch`] may start from given weights, compute on several devices, and be stopped.
///
/// ```no_run
/// use mixflow::launch::{Finish, train};
/// use mixflow::recipe::Recipe;
///
/// let (recipe, device) = (Recipe::read("digits", &[])?, mixflow::device::chosen()?);
/// if let Finish::Compared(report, page) = train(&recipe, "runs/digits".as_ref(), &device, &mut |_| {})? {
///     println!("{}\n{}", report.summary_text(), page.display());
/// }
/// # Ok::<(), mixflow::Error>(())
/// ```
///
/// # Errors
/// What is wrong with recipe, data or folder; those of [`Ready::run`](super::Ready::run).
pub fn train<N: NetworkSettings>(
    recipe: &Recipe<N>,
    folder: &Path,
    device: &Device,
    progress: &mut dyn FnMut(Progress),
) -> Result<Finish, Error> {
    let folder = match folder.join("recipe.json").exists() {
        true => RunFolder::resume(folder, recipe.to_value(), &[])?,
        false => RunFolder::begin(folder, recipe.to_value())?,
    };
    let stop = AtomicBool::new(false);
    let finish = Launch::new(recipe, device, &stop).check(folder, progress)?.run(progress)?;
    Ok(finish.expect("nobody stops it"))
}
