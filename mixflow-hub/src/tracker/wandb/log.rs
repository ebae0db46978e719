//! The frames of a `.wandb` file.
//!
//! # Source
//! The log of `LevelDB` (`doc/log_format.md`) as the official client has it, wandb 0.31, `core/pkg/leveldb/record.go`:
//! the file begins with seven bytes of W&B's, which belong to the first block of 32 KiB, and the checksum is the common
//! CRC-32 of a chunk's kind and data.

use std::io::{self, Read, Seek, SeekFrom};

/// What a file begins with: its name, a magic number and the version 0.
pub(super) const HEADER: &[u8] = b":W&B\xe1\xbe\0";

const BLOCK: usize = 32 << 10;

/// Checksum, length and kind of a chunk.
const CHUNK_HEADER: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// The bytes that add a record to a file that ends at `end`.
pub(super) fn frame(end: u64, mut record: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut first = true;
    loop {
        let left = BLOCK - (end as usize + out.len()) % BLOCK;
        if left < CHUNK_HEADER {
            out.resize(out.len() + left, 0);
            continue;
        }
        let (chunk, rest) = record.split_at(record.len().min(left - CHUNK_HEADER));
        let kind = match (first, rest.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        out.extend(checksum(kind, chunk).to_le_bytes());
        out.extend((chunk.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend(chunk);
        if rest.is_empty() {
            return out;
        }
        (record, first) = (rest, false);
    }
}

fn checksum(kind: u8, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(data);
    hasher.finalize()
}

/// The whole records of a file, up to its end or to what is torn.
#[derive(Debug)]
pub(super) struct Records<R> {
    file: R,
    block: Vec<u8>,
    /// Where the next chunk is in the block.
    next: usize,
    /// Where the block is in the file.
    start: u64,
}

impl<R: Read> Records<R> {
    /// The records of a file; none if it is no `.wandb` file.
    pub(super) fn open(file: R) -> io::Result<Option<Self>> {
        let mut records = Self { file, block: vec![], next: HEADER.len(), start: 0 };
        records.fill()?;
        Ok(records.block.starts_with(HEADER).then_some(records))
    }

    /// The next record; none at the end, or where the rest is torn.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut record = vec![];
        let mut first = true;
        loop {
            if BLOCK - self.next < CHUNK_HEADER {
                self.start += BLOCK as u64;
                self.next = 0;
                self.fill()?;
            }
            let Some((kind, chunk)) = self.chunk() else { return Ok(None) };
            self.next += CHUNK_HEADER + chunk.len();
            record.extend(chunk);
            match (first, kind) {
                (true, FULL) | (false, LAST) => return Ok(Some(record)),
                (true, FIRST) | (false, MIDDLE) => first = false,
                _ => return Ok(None),
            }
        }
    }

    /// Where the record that was read last ends, in bytes from the start.
    pub(super) fn end(&self) -> u64 {
        self.start + self.next as u64
    }

    /// The records behind one that ends at `end`.
    pub(super) fn after(mut file: R, end: u64) -> io::Result<Self>
    where
        R: Seek,
    {
        let (start, next) = (end / BLOCK as u64 * BLOCK as u64, (end % BLOCK as u64) as usize);
        file.seek(SeekFrom::Start(start))?;
        let mut records = Self { file, block: vec![], next, start };
        records.fill()?;
        Ok(records)
    }

    fn chunk(&self) -> Option<(u8, Vec<u8>)> {
        let (header, rest) = self.block.get(self.next..)?.split_first_chunk::<CHUNK_HEADER>()?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let chunk = rest.get(..u16::from_le_bytes([l0, l1]).into())?;
        (checksum(kind, chunk) == u32::from_le_bytes([c0, c1, c2, c3])).then(|| (kind, chunk.to_vec()))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.block.clear();
        self.file.by_ref().take(BLOCK as u64).read_to_end(&mut self.block)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
        let (mut file, mut ends) = (HEADER.to_vec(), vec![]);
        for record in records {
            file.extend(frame(file.len() as u64, record));
            ends.push(file.len() as u64);
        }
        (file, ends)
    }

    fn read(file: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let mut records = Records::open(file).unwrap().unwrap();
        let (mut read, mut end) = (vec![], records.end());
        while let Some(record) = records.next().unwrap() {
            read.push(record);
            end = records.end();
        }
        (read, end)
    }

    #[test]
    fn frames_are_those_of_the_official_client() {
        // What `DataStore` of the package `wandb` 0.19.11 writes for `b"abc"`.
        let expected = [HEADER, b"\xa9\x20\x9d\x53\x03\0\x01abc"].concat();
        assert_eq!(file(&[b"abc".to_vec()]).0, expected);
    }

    #[test]
    fn records_of_every_length_come_back_and_chunks_stay_in_their_block() {
        // Around what fills the first block, with 0 to 8 bytes left; then one over three blocks, and an empty one.
        for length in BLOCK - 30..BLOCK - 5 {
            let record = |seed: u8, length| (0..length).map(|at: usize| at as u8 ^ seed).collect::<Vec<u8>>();
            let records = [record(1, length), record(2, 5), record(3, 2 * BLOCK + 100), vec![], record(4, 9)];
            let (file, ends) = file(&records);
            assert_eq!(read(&file), (records.to_vec(), ends[4]), "{length}");
            for (from, end) in ends.iter().enumerate() {
                let mut rest = Records::after(io::Cursor::new(&file), *end).unwrap();
                for record in &records[from + 1..] {
                    assert_eq!(rest.next().unwrap().as_ref(), Some(record));
                }
                assert_eq!((rest.next().unwrap(), *end), (None, ends[from]));
            }
        }
    }

    #[test]
    fn what_is_torn_or_damaged_ends_the_records_at_the_last_whole_one() {
        let records = [vec![1; 100], vec![2; 40_000], vec![3; 30]];
        let (whole, ends) = file(&records);
        for length in (HEADER.len()..whole.len()).step_by(13) {
            let expected = ends.iter().filter(|&&end| end <= length as u64).count();
            let end = if expected == 0 { HEADER.len() as u64 } else { ends[expected - 1] };
            assert_eq!(read(&whole[..length]), (records[..expected].to_vec(), end), "{length}");
            // Zeros where a power cut left a hole.
            let mut zeroed = whole.clone();
            zeroed[length..].fill(0);
            assert!(read(&zeroed).0.len() <= expected);
        }
        assert!(Records::open(&b":W&B"[..]).unwrap().is_none());
        assert!(Records::open(&b"no such file at all"[..]).unwrap().is_none());
    }
}
