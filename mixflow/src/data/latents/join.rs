//! Latents that several processes make, each of a part of the images, as one folder.

use std::fs;
use std::path::Path;

use super::manifest::{Contents, MANIFEST, Manifest, ShardEntry};
use super::write::{PARTIAL, begun};
use crate::files::write_atomic;
use crate::{Error, Shard, data};

/// Refuses a part that would not fit into a folder of latents: one of a finished folder that has no such part, of a folder that
/// another process fills alone, of another division than the parts that are there, or of other contents.
///
/// # Errors
/// Says which, with both values.
pub fn check_part(folder: &Path, shard: Shard, contents: &Contents) -> Result<(), Error> {
    let read = |folder: &Path, name| Manifest::read(&folder.join(name));
    let own = folder.join(shard.name());
    if read(folder, MANIFEST)?.is_some() && read(&own, MANIFEST)?.is_none() {
        return Err(fault(folder, "are finished: new images are added to them without --shard".into()));
    }
    if read(folder, PARTIAL)?.is_some_and(|begun| !is_joined(&begun)) {
        return Err(fault(folder, "were begun without --shard: go on without it, or choose another folder".into()));
    }
    for other in parts(folder)? {
        let there = folder.join(other.name());
        // One that has written nothing yet says nothing.
        let Some(begun) = read(&there, MANIFEST)?.or(read(&there, PARTIAL)?) else { continue };
        if other.of() != shard.of() {
            return Err(fault(
                folder,
                format!("hold part {other}, which does not go with {shard}: remove it, or divide alike"),
            ));
        }
        if let Some(difference) = begun.contents.difference(contents) {
            return Err(fault(folder, format!("hold part {other} with {difference}; use the same settings for all")));
        }
    }
    Ok(())
}

/// Begins one folder of latents with all of its parts, which are finished folders in it, named by [`Shard::name`]; returns how
/// many there are, which is 0 in every other folder and where it is begun already. A [`Writer`](super::Writer) goes on from
/// there. Files stay where they are, and nothing is moved.
///
/// # Errors
/// Names the parts that are not there or not finished; if one has other contents, or lacks a file, and if the file system
/// refuses.
pub fn join_parts(folder: &Path, contents: &Contents) -> Result<usize, Error> {
    let there = parts(folder)?;
    let (Some(first), Some(last)) = (there.first(), there.last()) else { return Ok(0) };
    if first.of() != last.of() {
        return Err(fault(folder, format!("hold parts of several divisions, {first} and {last}: remove those of one")));
    }
    if Manifest::read(&folder.join(MANIFEST))?.is_some() {
        return Ok(0);
    }
    match Manifest::read(&folder.join(PARTIAL))? {
        Some(begun) if is_joined(&begun) => return Ok(0),
        Some(_) => {
            let reason = format!("were begun without --shard, and hold part {last}: remove one of them");
            return Err(fault(folder, reason));
        }
        None => {}
    }
    let shards = Shard::all(last.of()).map_err(|invalid| fault(folder, invalid.to_string()))?;
    let found = shards.iter().map(|shard| Manifest::read(&folder.join(shard.name()).join(MANIFEST)));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let missing = shards.iter().zip(&found).filter(|(_, manifest)| manifest.is_none());
    let missing: Vec<String> = missing.map(|(shard, _)| shard.to_string()).collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Err(fault(folder, format!("lack parts that are to be encoded yet, with --shard {names}")));
    }
    let mut whole = Manifest::new(contents.clone());
    for (shard, manifest) in shards.iter().zip(found.into_iter().flatten()) {
        if let Some(difference) = manifest.contents.difference(contents) {
            return Err(fault(folder, format!("hold part {shard} with {difference}; use the same settings for all")));
        }
        whole.read += manifest.read;
        for entry in manifest.shards {
            let file = format!("{}/{}", shard.name(), entry.file);
            let bytes = fs::metadata(folder.join(&file)).map(|found| found.len());
            if bytes.is_ok_and(|bytes| bytes == entry.bytes) {
                whole.shards.push(ShardEntry { file, ..entry });
            } else {
                let part = shard.name();
                return Err(fault(folder, format!("lack {file}, or it is damaged: remove {part} and make it again")));
            }
        }
    }
    write_atomic(&folder.join(PARTIAL), &whole.to_json())?;
    Ok(shards.len())
}

/// The classes of the latents that are in a folder or its parts, finished or not, as these number them; none where there are no
/// latents. What is added to them has these first, as [`Renumbered`](crate::data::source::Renumbered) does.
///
/// # Errors
/// If a manifest is damaged or the folder cannot be listed.
pub fn known_classes(folder: &Path) -> Result<Vec<String>, Error> {
    let parts = parts(folder)?.into_iter().map(|part| folder.join(part.name()));
    let all = [folder.to_path_buf()].into_iter().chain(parts).map(|folder| begun(&folder));
    let all = all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().map(|manifest| manifest.contents.classes);
    Ok(all.max_by_key(Vec::len).unwrap_or_default())
}

/// Whether a folder was begun with parts.
fn is_joined(begun: &Manifest) -> bool {
    begun.shards.iter().any(|entry| entry.file.contains('/'))
}

/// The parts that have folders.
fn parts(folder: &Path) -> Result<Vec<Shard>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut found: Vec<Shard> = names.filter_map(|name| Shard::named(name.to_str()?)).collect();
    found.sort_by_key(|shard| (shard.of(), shard.number()));
    Ok(found)
}

fn fault(folder: &Path, reason: String) -> Error {
    data::Error::Latents { path: folder.into(), reason }.into()
}
