//! What a comparison tells while it goes.

use std::path::Path;

use crate::train::Event;

/// What a run tells while it goes: of a study, and of what is checked and prepared before it.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Something for the user to read.
    Note(String),
    /// A part begins: its name and, where they are counted, its number of steps, or of images.
    Begin(&'a str, Option<u64>),
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
