//! What a comparison tells while it goes.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::Error;
use crate::train::Event;

/// What a run tells while it goes: of a study, and of what is checked and prepared before it.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Something for the user to read.
    Note(String),
    /// A part begins: its name and, where they are counted, its number of steps, or of images.
    Begin(&'a str, Option<u64>),
    /// So many images of the part were done by an earlier process.
    Continued(u64),
    /// So many images of the part are done.
    Images(u64),
    /// So many labels are prepared for the network.
    Labels(u64),
    /// So much of the part is read.
    Mebibytes(u64),
    /// Something in a training.
    Training {
        /// The training's folder.
        folder: &'a Path,
        /// What.
        event: Event,
    },
}

/// Tells how many of so many images are encoded, and ends that once `stop` is set.
pub(crate) fn encoding(
    stop: &AtomicBool,
    images: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> impl FnMut(u64) -> Result<(), Error> {
    let mut begun = false;
    move |done| {
        if !std::mem::replace(&mut begun, true) {
            progress(Progress::Begin("encoding", images));
            if done > 0 {
                progress(Progress::Continued(done));
            }
        }
        progress(Progress::Images(done));
        Error::if_set(stop)
    }
}
