//! Which weights were used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::digest;
use crate::Error;

/// Which weights: a file and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsFile {
    /// Its path.
    pub file: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl WeightsFile {
    /// # Errors
    /// If the file cannot be read.
    pub fn read(file: impl Into<PathBuf>) -> Result<Self, Error> {
        let file = file.into();
        let sha256 = digest::file(&file).map_err(Error::io("read", &file))?;
        Ok(Self { file, sha256 })
    }
}
