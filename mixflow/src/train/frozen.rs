//! The frozen networks that a run is trained with.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::files::{WeightsFile, write_atomic};

/// Refuses to continue a run whose frozen networks, autoencoder or target encoder, hold other weights than when it began;
/// in the folder of one that begins it says in `frozen.json` which they are.
///
/// # Errors
/// [`Error::OtherWeights`] if they are others, and if a file cannot be read or written.
pub fn check_same_frozen(run: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let record = run.join("frozen.json");
    let fault = |reason: String| Error::OtherWeights { record: record.clone(), reason };
    let read = |file: &PathBuf| {
        let name = file.file_name().map(PathBuf::from).unwrap_or_default();
        Ok(WeightsFile { file: name, ..WeightsFile::read(file)? })
    };
    let now = files.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
    if !record.is_file() {
        if now.is_empty() {
            return Ok(());
        }
        return write_atomic(&record, &serde_json::to_vec_pretty(&now).expect("text is JSON"));
    }
    let text = fs::read(&record).map_err(Error::io("read", &record))?;
    let began: Vec<WeightsFile> = serde_json::from_slice(&text)
        .map_err(|error| Error::record(&record, format!("does not say which frozen networks the run has: {error}")))?;
    // They may lie elsewhere now.
    let other = began.iter().zip(&now).find(|(began, now)| began.sha256 != now.sha256);
    if let Some((began, now)) = other {
        let [was, is] = [began, now].map(|file| file.sha256.get(..16).unwrap_or(&file.sha256));
        return Err(fault(format!(
            "the run began with {} of SHA-256 {was}…, and {} is now {is}…: what was trained here knows the other weights; \
             put them back, or choose another --out",
            began.file.display(),
            now.file.display()
        )));
    }
    match (began.len(), now.len()) {
        (began, now) if began == now => Ok(()),
        (began, now) => Err(fault(format!("the run began with {began} files of frozen networks, and now has {now}"))),
    }
}

/// Which of `files` the run in a folder was not trained with, by what it has written down, in words.
///
/// # Errors
/// If a file cannot be read.
pub fn other_frozen(run: &Path, files: &[PathBuf]) -> Result<Option<String>, Error> {
    let record = run.join("frozen.json");
    let Some(began) = fs::read(&record).ok().and_then(|text| serde_json::from_slice::<Vec<WeightsFile>>(&text).ok())
    else {
        return Ok(None);
    };
    for file in files {
        let now = WeightsFile::read(file)?;
        if began.iter().all(|began| began.sha256 != now.sha256) {
            let (file, record) = (file.display(), record.display());
            return Ok(Some(format!("{file} is not what the run was trained with, as {record} says")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_frozen_networks() {
        let root = tempfile::tempdir().unwrap();
        check_same_frozen(root.path(), &[]).unwrap();
        assert!(!root.path().join("frozen.json").exists());
        let [file, moved] = ["autoencoder.safetensors", "moved.safetensors"].map(|name| root.path().join(name));
        fs::write(&file, "weights").unwrap();
        check_same_frozen(root.path(), std::slice::from_ref(&file)).unwrap();
        fs::rename(&file, &moved).unwrap();
        check_same_frozen(root.path(), std::slice::from_ref(&moved)).unwrap();

        fs::write(&file, "others").unwrap();
        let record = fs::read(root.path().join("frozen.json")).unwrap();
        let error = check_same_frozen(root.path(), &[file]).unwrap_err().to_string();
        // `printf weights | sha256sum` and `printf others | sha256sum`.
        assert!(error.contains("9a129038d9a00aed…") && error.contains("01db91d06032cc64…"), "{error}");
        assert!(error.contains("put them back, or choose another --out"), "{error}");
        let [other, same] = [&root.path().join("autoencoder.safetensors"), &moved]
            .map(|file| other_frozen(root.path(), std::slice::from_ref(file)).unwrap());
        assert!(
            other.unwrap().contains("autoencoder.safetensors is not what the run was trained with") && same.is_none()
        );
        assert!(check_same_frozen(root.path(), &[]).unwrap_err().to_string().contains("1 files"));
        assert_eq!(fs::read(root.path().join("frozen.json")).unwrap(), record);
    }
}
