//! Pictures of what a network makes, drawn while it is trained.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::files::write_atomic;

/// Pictures that are drawn of a `T` in a training.
pub struct Validation<'a, T> {
    /// Steps between two pictures; one more is drawn after the last step.
    pub every: u64,
    /// Draws a picture.
    pub draw: Box<Draw<'a, T>>,
}

/// Gives the PNG file of what a `T` makes, and changes nothing that a step depends on.
pub type Draw<'a, T> = dyn Fn(&T) -> Result<Vec<u8>, Error> + 'a;

impl<T> std::fmt::Debug for Validation<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validation").field("every", &self.every).finish_non_exhaustive()
    }
}

/// The picture that the training in a folder drew after so many steps.
pub(super) fn picture(folder: &Path, steps: u64) -> PathBuf {
    folder.join("validation").join(format!("step-{steps:08}.png"))
}

/// Writes a picture, and makes its folder.
pub(super) fn keep(file: &Path, png: &[u8]) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    write_atomic(file, png)
}

/// The pictures in the folder of a training, with the steps that were taken before each, in their order.
///
/// # Errors
/// If the folder cannot be listed; one without pictures has none.
pub fn pictures(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let folder = folder.join("validation");
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let fault = |error| Error::io("read", &folder)(error);
    let mut pictures = vec![];
    for entry in fs::read_dir(&folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let steps = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".png")?.parse().ok());
        pictures.extend(steps.map(|steps| (steps, path)));
    }
    pictures.sort();
    Ok(pictures)
}

/// Removes the pictures that were drawn after more steps than these: they are drawn anew, perhaps of another network.
pub(super) fn forget_after(folder: &Path, steps: u64) -> Result<(), Error> {
    let mut later = pictures(folder)?.into_iter().filter(|(taken, _)| *taken > steps);
    later.try_for_each(|(_, path)| fs::remove_file(&path).map_err(Error::io("remove", &path)))
}
