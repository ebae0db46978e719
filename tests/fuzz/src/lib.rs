//! What the targets share.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Hands `bytes` to `read` as a file.
///
/// # Panics
/// If the temporary folder cannot be written.
pub fn as_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let path = folder().join("input");
    fs::write(&path, bytes).expect("the folder is writable");
    read(&path);
}

/// A folder for this process, the same at every call.
///
/// # Panics
/// If there is no temporary folder.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder")).path()
}
