//! Latents that several processes made, each of a part of the images, as one folder.

use std::fs;
use std::path::Path;

use super::manifest::{MANIFEST, Manifest, ShardEntry, shard_name};
use crate::files::write_atomic;
use crate::{Error, Shard, data};

/// Makes one folder of latents of its parts, which are finished folders in it, named by [`Shard::name`]; returns how many
/// there were, which is 0 in every other folder. Shards are moved, and none is read; after an interruption the same call
/// goes on.
///
/// # Errors
/// Names the parts that are not there or not finished; if parts have other contents than others, and if the file system
/// refuses.
pub fn join_parts(folder: &Path) -> Result<usize, Error> {
    let fault = |reason: String| data::Error::Latents { path: folder.into(), reason };
    let there = parts(folder)?;
    let Some(last) = there.last() else { return Ok(0) };
    let shards = Shard::all(last.of()).map_err(|invalid| fault(invalid.to_string()))?;
    if let Some(whole) = Manifest::read(&folder.join(MANIFEST))? {
        return finish(folder, &whole, &there);
    }
    let found = shards.iter().map(|shard| Manifest::read(&folder.join(shard.name()).join(MANIFEST)));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let missing = shards.iter().zip(&found).filter(|(_, manifest)| manifest.is_none());
    let missing: Vec<String> = missing.map(|(shard, _)| shard.to_string()).collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Err(fault(format!("lack parts that are to be encoded yet, with --shard {names}")).into());
    }
    let manifests: Vec<Manifest> = found.into_iter().flatten().collect();
    let mut whole = Manifest::new(manifests[0].contents.clone());
    for (shard, manifest) in shards.iter().zip(&manifests) {
        if let Some(difference) = whole.contents.difference(&manifest.contents) {
            return Err(fault(format!("have parts that do not fit: {shard} has {difference}")).into());
        }
        whole.read += manifest.read;
        whole.broken.extend(manifest.broken.iter().cloned());
    }
    let entries = shards.iter().zip(manifests).flat_map(|(shard, manifest)| {
        manifest.shards.into_iter().map(|entry| (folder.join(shard.name()).join(&entry.file), entry))
    });
    for (number, (from, entry)) in entries.enumerate() {
        let to = folder.join(shard_name(number));
        let size = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
        match (size(&from), size(&to)) {
            (Some(_), _) => fs::rename(&from, &to).map_err(Error::io("move", &from))?,
            // Moved before an interruption.
            (None, Some(bytes)) if bytes == entry.bytes => {}
            (None, _) => return Err(fault(format!("are damaged: {} is gone", from.display())).into()),
        }
        whole.shards.push(ShardEntry { file: shard_name(number), ..entry });
    }
    write_atomic(&folder.join(MANIFEST), &whole.to_json())?;
    finish(folder, &whole, &shards)
}

/// Removes what is left of parts that were joined.
fn finish(folder: &Path, whole: &Manifest, shards: &[Shard]) -> Result<usize, Error> {
    for shard in shards {
        let part = folder.join(shard.name());
        let joined = |entry: &ShardEntry| whole.shards.iter().any(|own| own.sha256 == entry.sha256);
        if !Manifest::read(&part.join(MANIFEST))?.is_some_and(|manifest| manifest.shards.iter().all(joined)) {
            let reason = format!("are finished, but {} is no part of them: move it elsewhere", part.display());
            return Err(data::Error::Latents { path: folder.into(), reason }.into());
        }
        fs::remove_dir_all(&part).map_err(Error::io("remove", &part))?;
    }
    Ok(shards.len())
}

/// The parts that have folders, all of one division.
fn parts(folder: &Path) -> Result<Vec<Shard>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut found: Vec<Shard> = names.filter_map(|name| Shard::named(name.to_str()?)).collect();
    found.sort_by_key(|shard| (shard.of(), shard.number()));
    if let [first, .., last] = found[..]
        && first.of() != last.of()
    {
        let reason = format!("hold parts of several divisions, {first} and {last}: remove those of one");
        return Err(data::Error::Latents { path: folder.into(), reason }.into());
    }
    Ok(found)
}
