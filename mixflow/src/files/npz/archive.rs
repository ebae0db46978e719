use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use mixflow_backbones::not_data::{LOOKED_AT, why_not_binary};
use zip::{CompressionMethod, ZipArchive};

use super::Array;
use crate::Error;

/// An `.npz` archive: named arrays, stored or compressed, of any size.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Npz {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// If the file cannot be read or is no archive.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut start = Vec::new();
        (&mut file).take(LOOKED_AT as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
        if let Some(problem) = why_not_binary(&start) {
            return Err(Error::array(path, format!("it {problem}")));
        }
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(path, error))?;
        Ok(Self { path: path.into(), archive })
    }

    /// Names of the arrays, such as `arr_0` and `mu`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.archive.file_names_raw().filter_map(|name| str::from_utf8(name).ok()?.strip_suffix(".npy"))
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|found| found == name)
    }

    /// The array of this name, at its first value. Several may be read at once.
    ///
    /// # Errors
    /// If there is none, or it cannot be read: see [`Array::open`].
    pub fn array(&mut self, name: &str) -> Result<Array, Error> {
        let path = self.path.clone();
        let fault = |reason: String| Error::array(&path, reason);
        let Some(index) = self.archive.index_for_name_raw(format!("{name}.npy").as_bytes()) else {
            let names: Vec<_> = self.names().collect();
            return Err(fault(format!("expected an array {name}, found {}", names.join(", "))));
        };
        let entry = self.archive.by_index_raw(index).map_err(|error| unreadable(&path, error))?;
        if entry.encrypted() {
            return Err(fault(format!("{name}: expected an array without password")));
        }
        let (start, packed, size, sum) = (entry.data_start(), entry.compressed_size(), entry.size(), entry.crc32());
        let start = start.ok_or_else(|| fault(format!("{name}: the archive does not say where it starts")))?;
        let method = entry.compression();
        drop(entry);
        let open = || -> io::Result<_> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(BufReader::new(file.take(packed)))
        };
        let bytes = open().map_err(Error::io("open", &path))?;
        let reader: Box<dyn Read + Send> = match method {
            CompressionMethod::Stored => Box::new(bytes),
            CompressionMethod::Deflated => Box::new(BufReader::new(DeflateDecoder::new(bytes))),
            other => return Err(fault(format!("{name}: expected numpy.savez or savez_compressed, found {other}"))),
        };
        Array::new(&path, name, size, reader, Some(sum))
    }
}

fn unreadable(path: &Path, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(source) => Error::io("read", path)(source),
        other => Error::array(path, format!("expected an archive that numpy.savez wrote: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::files::npz::{ElementType, npz};

    /// Archives that NumPy wrote: see `make.py` beside them.
    fn fixture(name: &str) -> Npz {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/npz"));
        Npz::open(&folder.join(name)).unwrap()
    }

    /// Writes an archive of one entry and opens its array.
    fn open(bytes: &[u8]) -> Result<Array, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        Npz::open(file.path())?.array("arr_0")
    }

    fn deflated(entry: &[u8]) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(vec![]));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file("arr_0.npy", options).unwrap();
        writer.write_all(entry).unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_page_or_a_pointer_saved_as_an_archive_is_named() {
        for (bytes, words) in [
            (&b"<!DOCTYPE html>"[..], "it is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"{\"error\":\"Not found\"}", "Not found"),
            (b"", "it is empty"),
        ] {
            let error = open(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn archives_of_numpy_are_read_stored_and_compressed() {
        for name in ["stored.npz", "compressed.npz"] {
            let mut npz = fixture(name);
            assert_eq!(npz.names().collect::<Vec<_>>(), ["arr_0", "mu", "sigma", "labels", "ids", "half"]);
            let mut images = npz.array("arr_0").unwrap();
            let mu = npz.array("mu").unwrap();
            assert_eq!((images.kind(), images.shape()), (ElementType::U8, &[3, 2, 2, 3][..]));
            // Pieces of one image, while another array is being read.
            for image in 0..3 {
                let mut bytes = [0; 12];
                images.read(&mut bytes).unwrap();
                assert_eq!(bytes, std::array::from_fn(|i| (7 * (12 * image + i) % 256) as u8));
            }
            assert!(images.read(&mut [0]).unwrap_err().to_string().contains("found 0"));
            assert_eq!((mu.kind(), mu.values().unwrap()), (ElementType::F64, vec![0.1, -0.2, 0.3]));
            let sigma = npz.array("sigma").unwrap();
            assert_eq!((sigma.kind(), sigma.shape()), (ElementType::F32, &[3, 3][..]));
            assert_eq!(sigma.values().unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
            assert_eq!(npz.array("labels").unwrap().values().unwrap(), [5.0, -7.0]);
            assert_eq!(npz.array("ids").unwrap().values().unwrap(), [1.0, 2.0, 3.0]);
            assert!(npz.array("half").unwrap_err().to_string().contains("<f2"));
            assert!(npz.array("mu_s").unwrap_err().to_string().contains("found arr_0, mu"));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let values: Vec<u8> = (0..=255).collect();
        let mut array = open(&npz(&values, &[4, 8, 8, 1])).unwrap();
        assert_eq!(array.shape(), [4, 8, 8, 1]);
        let mut found = [0; 256];
        array.read(&mut found).unwrap();
        assert_eq!(found, values[..]);
    }

    #[test]
    fn a_damaged_archive_is_refused_wherever_it_is_damaged() {
        let whole = npz(&[9; 300], &[300]);
        for length in 0..whole.len() {
            let array = open(&whole[..length]).and_then(Array::values);
            assert!(array.is_err(), "cut to {length} of {} bytes", whole.len());
        }
        // A wrong bit among the values: the checksum tells.
        let mut damaged = whole.clone();
        let value = whole.windows(8).position(|bytes| bytes == [9; 8]).unwrap();
        damaged[value + 5] ^= 16;
        assert!(open(&damaged).unwrap().values().unwrap_err().to_string().contains("checksum"));
        // Wrong bytes elsewhere: an error or the same values, never a panic.
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            if let Ok(values) = open(&damaged).and_then(Array::values) {
                assert_eq!(values, [9.0; 300], "byte {at}");
            }
        }
    }

    #[test]
    fn an_array_that_says_more_than_it_holds_is_refused() {
        let head = |shape: &str| {
            let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
            [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
        };
        let message = |entry: &[u8]| open(&deflated(entry)).and_then(Array::values).unwrap_err().to_string();
        assert!(message(&head("1000000000000000, ")).contains("found 0"));
        assert!(message(&[&head("3, ")[..], &[1; 4]].concat()).contains("found 4"));
        assert!(message(&head("3, ")[..20]).contains("cut off"));
        // A directory that lies about the size of what is compressed: 300 values are stated, 3 are there.
        let mut lies = deflated(&[&head("300, ")[..], &[1; 3]].concat());
        let real = (head("300, ").len() + 3) as u32;
        let stated = real + 297;
        let places: Vec<_> = (0..lies.len() - 4).filter(|&at| lies[at..at + 4] == real.to_le_bytes()).collect();
        for at in places {
            lies[at..at + 4].copy_from_slice(&stated.to_le_bytes());
        }
        assert!(open(&lies).and_then(Array::values).unwrap_err().to_string().contains("cut off"));
    }
}
