//! What the images of a folder were begun with, written down beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use mixflow::files::write_atomic;
use mixflow_hub::Address;
use serde_json::{Value, json};

use crate::hub::is_address;
use crate::terminal::Result;

/// Refuses to go on with images of other settings. They are written down beside the folder: evaluators look at all that is
/// in it.
pub(crate) fn same_settings(out: &Path, settings: &Value) -> Result<()> {
    let name = out.file_name().ok_or_else(|| format!("{}: is no name for a folder", out.display()))?.to_string_lossy();
    let record = out.with_file_name(format!("{name}.json"));
    let is_empty = || fs::read_dir(out).is_ok_and(|mut files| files.next().is_none());
    if out.exists() && (record.exists() || !is_empty()) {
        let fault = |reason: String| format!("{}: {reason}: choose another --out", out.display());
        let text = fs::read_to_string(&record)
            .map_err(|error| fault(format!("there without {}: {error}", record.display())))?;
        let before: Value =
            serde_json::from_str(&text).map_err(|error| fault(format!("{}: {error}", record.display())))?;
        let differs = |key: &&String| before[key.as_str()] != settings[key.as_str()];
        if let Some(key) = settings.as_object().and_then(|settings| settings.keys().find(differs)) {
            return Err(fault(format!("its images were begun with another {key}")).into());
        }
        return Ok(());
    }
    if record.exists() && !is_record(&record) {
        return Err(format!("{} is there and tells of no images: choose another --out", record.display()).into());
    }
    let create = |folder: &Path| {
        fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))
    };
    create(record.parent().unwrap_or(Path::new("")))?;
    write_atomic(&record, &serde_json::to_vec_pretty(settings)?)?;
    Ok(create(out)?)
}

/// Whether a file is what images of a folder were begun with.
pub(crate) fn is_record(file: &Path) -> bool {
    let value: Option<Value> = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    value.is_some_and(|value| ["sampling", "text encoder"].iter().all(|key| value.get(key).is_some()))
}

/// What was written down beside a folder of images, if anything.
pub(crate) fn recorded(folder: &Path) -> Option<Value> {
    let record = folder.with_file_name(format!("{}.json", folder.file_name()?.to_string_lossy()));
    serde_json::from_slice(&fs::read(record).ok()?).ok()
}

/// Which files these are, without reading them: how long each is, and when it was written; of the Hub's cache and of addresses the
/// commit.
pub(crate) fn files(files: &[PathBuf]) -> Result<Value> {
    let about = |file: &PathBuf| {
        if let Some(address) = Address::of_cached(file) {
            return Ok(json!(address.to_string()));
        }
        if is_address(file) {
            return Ok(json!(file));
        }
        let found = fs::metadata(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let time = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(json!([fs::canonicalize(file)?, found.len(), time.as_nanos().to_string()]))
    };
    Ok(Value::Array(files.iter().map(about).collect::<Result<_>>()?))
}

/// The files of a network that lies in a file, in a folder or, as `diffusers` has it, in `transformer` of a folder.
pub(crate) fn weights_files(place: &Path) -> Result<Vec<PathBuf>> {
    let folder = [place.join("transformer"), place.into()].into_iter().find(|folder| folder.is_dir());
    folder.map_or_else(|| Ok(vec![place.into()]), |folder| in_folder(&folder))
}

/// The files of text encoders and their vocabularies in a folder: in folders of it, or there itself.
pub(crate) fn encoder_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let starts = ["text_encoder", "tokenizer"];
    let is_part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && starts.iter().any(|start| name.starts_with(start))
    };
    let all = entries(folder)?;
    let parts: Vec<_> = all.iter().filter(|path| is_part(path)).collect();
    match parts.is_empty() {
        true => in_folder(folder),
        false => Ok(parts.into_iter().map(|part| in_folder(part)).collect::<Result<Vec<_>>>()?.concat()),
    }
}

/// The files of a folder by name, without those of its folders.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_file()).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut all = read().map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_encoder_its_own_files_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "x").unwrap();
            file
        };
        let flan = ["flan/config.json", "flan/model.safetensors", "flan/tokenizer.json"].map(write);
        assert_eq!(encoder_files(&root.path().join("flan")).unwrap(), flan);
        write("sd3/model_index.json");
        write("sd3/transformer/config.json");
        let parts = ["sd3/text_encoder/config.json", "sd3/text_encoder_2/config.json", "sd3/tokenizer/vocab.json"];
        let parts = parts.map(write);
        assert_eq!(encoder_files(&root.path().join("sd3")).unwrap(), parts);
    }

    #[test]
    fn a_file_of_the_hub_is_known_by_its_commit_and_another_by_its_time() {
        let root = tempfile::tempdir().unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cached = root.path().join(format!("models--org--name/snapshots/{commit}/text_encoder/model.safetensors"));
        fs::create_dir_all(cached.parent().unwrap()).unwrap();
        let own = root.path().join("own.safetensors");
        for file in [&cached, &own] {
            fs::write(file, "one").unwrap();
        }
        let before = files(&[cached.clone(), own.clone()]).unwrap();
        assert_eq!(before[0], format!("hf://org/name@{commit}/text_encoder/model.safetensors"));
        for file in [&cached, &own] {
            fs::File::options().append(true).open(file).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        let after = files(&[cached, own]).unwrap();
        assert_eq!((&before[0], &before[1][1]), (&after[0], &after[1][1]));
        assert_ne!(before[1][2], after[1][2]);
    }
}
