//! Which images of a source are encoded already: by their names and contents, wherever they stand.

use std::collections::HashMap;
use std::ops::Range;

use super::shard::Shard;
use super::stamp::stamp;
use super::write::Writer;
use crate::data::Error;
use crate::data::source::{Source, SourceEntry};

/// The images that are left to encode, as ranges of their places in the source.
///
/// An image whose stamp is not the one that it was encoded with is read again and compared. `progress` hears how many were
/// compared.
///
/// # Errors
/// If the source has two images of one name, or no longer has what is encoded: the same names with the same classes and
/// contents. Nothing is written.
pub(super) fn missing(
    writer: &mut Writer,
    source: &dyn Source,
    entries: &[SourceEntry],
    mut progress: impl FnMut(u64),
) -> Result<Vec<Range<u64>>, Error> {
    let folder = writer.folder().to_path_buf();
    let fault = |reason: String| Error::Latents { path: folder.clone(), reason };
    let mut places = HashMap::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        if places.insert(entry.name.as_str(), place).is_some() {
            let (name, source) = (&entry.name, source.describe());
            return Err(fault(format!("know images by their names, but {source} has two called `{name}`: rename one")));
        }
    }
    let (mut encoded, mut compared) = (vec![false; entries.len()], 0);
    for number in 0..writer.shards().len() {
        let shard = Shard::open(&folder, &writer.shards()[number], writer.contents())?;
        let mut found = Vec::with_capacity(shard.classes.len());
        for (row, &class) in shard.classes.iter().enumerate() {
            let name = shard.name(row)?;
            let Some(&place) = places.get(name.as_str()) else {
                let source = source.describe();
                return Err(fault(format!(
                    "hold `{name}`, which {source} does not have: put it back, or encode into another folder"
                )));
            };
            let [stored, now] = [class as usize, entries[place].class];
            if stored != now {
                let classes = &writer.contents().classes;
                let [stored, now] = [stored, now].map(|class| classes.get(class).map_or("?", String::as_str));
                return Err(fault(format!(
                    "hold `{name}` as `{stored}`, but it is `{now}` now: encode into another folder"
                )));
            }
            if writer.contents().several_captions && shard.captions(row) != entries[place].weighted_labels() {
                return Err(fault(format!(
                    "hold `{name}` with other captions or weights than it has now: encode into another folder"
                )));
            }
            if std::mem::replace(&mut encoded[place], true) {
                return Err(fault(format!("are damaged: they hold `{name}` twice; encode into another folder")));
            }
            found.push(place);
        }
        let stamp = stamp(found.iter().map(|&place| &entries[place]));
        if stamp.is_none() || stamp != writer.shards()[number].stamp {
            compare(&shard, &found, source, &fault)?;
            writer.restamp(number, stamp);
        }
        compared += found.len() as u64;
        progress(compared);
    }
    Ok(ranges((0..entries.len()).filter(|&place| !encoded[place])))
}

/// Reads the images of a shard, which stand at `places`, and compares them with what was encoded.
fn compare(shard: &Shard, places: &[usize], source: &dyn Source, fault: &dyn Fn(String) -> Error) -> Result<(), Error> {
    let mut row = 0;
    for range in ranges(places.iter().copied()) {
        let mut samples = source.samples(range.start)?;
        for _ in range {
            let sample = samples.next().transpose()?;
            let sample = sample.ok_or_else(|| fault(format!("are of more images than {}", source.describe())))?;
            if shard.hash(row) != Some(sample.hash()) {
                let name = sample.name;
                let what = if sample.mask.is_some() { "image or mask" } else { "image" };
                return Err(fault(format!(
                    "hold another {what} called `{name}` than the source has now: put the old one back, give the new one \
                     another name, or encode into another folder"
                )));
            }
            row += 1;
        }
    }
    Ok(())
}

/// Numbers that follow one another, as ranges.
fn ranges(numbers: impl Iterator<Item = usize>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for number in numbers.map(|number| number as u64) {
        match ranges.last_mut() {
            Some(range) if range.end == number => range.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one range is what is expected")]
    fn numbers_in_a_row_are_one_range() {
        assert_eq!(ranges([].into_iter()), []);
        assert_eq!(ranges([3, 4, 5].into_iter()), [3..6]);
        assert_eq!(ranges([0, 2, 3, 9].into_iter()), [0..1, 2..4, 9..10]);
    }
}
