//! Files as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, which the system reads as they are touched and forgets again when it needs the memory.
///
/// The file must keep its length and content as long as this lives; to replace it, another file is renamed to its name, as
/// everything here writes. A page that another program cuts off ends the process with a signal, as in every program that
/// maps its files.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened, or is none that can be mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps an open file, from its start. It can be closed.
    ///
    /// # Errors
    /// If it is none that can be mapped.
    #[allow(unsafe_code, reason = "what another program does to a file while it is mapped cannot be checked")]
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only and private, and lives as long as its slices. That nobody changes the file
        // meanwhile is asked of the user above.
        unsafe { Mmap::map(file) }.map(Self)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
