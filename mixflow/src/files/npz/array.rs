use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::ElementType;
use super::header::Header;
use crate::Error;

/// An array that is read from its first value to its last.
pub struct Array {
    path: PathBuf,
    name: String,
    kind: ElementType,
    shape: Vec<usize>,
    /// Bytes not read yet.
    left: u64,
    reader: Box<dyn Read + Send>,
    /// What the bytes after the name's header must sum up to, and their sum so far.
    sum: Option<(u32, crc32fast::Hasher)>,
}

impl Array {
    /// An `.npy` file.
    ///
    /// # Errors
    /// If it cannot be read, is no array of an [`ElementType`], or has another size than its shape says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("open", path))?.len();
        Self::new(path, "the array", size, Box::new(BufReader::new(file)), None)
    }

    /// What `reader` gives: `size` bytes, header included, of CRC-32 `sum`.
    pub(super) fn new(
        path: &Path,
        name: &str,
        size: u64,
        mut reader: Box<dyn Read + Send>,
        sum: Option<u32>,
    ) -> Result<Self, Error> {
        let fault = |reason: String| Error::array(path, format!("{name}: {reason}"));
        let mut read = Recorded { reader: &mut reader, bytes: vec![] };
        let header = Header::read(&mut read).map_err(|error| fault(cut(&error)))?.map_err(fault)?;
        let values = size.saturating_sub(read.bytes.len() as u64);
        if values != header.size {
            let Header { kind, shape, size } = header;
            return Err(fault(format!("expected {size} bytes for values {kind} of shape {shape:?}, found {values}")));
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&read.bytes);
        let mut array = Self {
            path: path.into(),
            name: name.into(),
            kind: header.kind,
            shape: header.shape,
            left: header.size,
            reader,
            sum: sum.map(|sum| (sum, hasher)),
        };
        array.check_sum()?;
        Ok(array)
    }

    /// Type of the values.
    pub fn kind(&self) -> ElementType {
        self.kind
    }

    /// Length of each side, the slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its last value was read.
    pub(crate) fn is_read(&self) -> bool {
        self.left == 0
    }

    /// The bytes of the next values, as many as `bytes` takes. With the last of the array its checksum is compared.
    ///
    /// # Errors
    /// If fewer are left, the file is cut off or cannot be read, or the checksum differs.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let asked = bytes.len() as u64;
        if asked > self.left {
            return Err(self.fault(format!("expected {asked} more bytes, found {}", self.left)));
        }
        self.reader.read_exact(bytes).map_err(|error| self.fault(cut(&error)))?;
        self.left -= asked;
        if let Some((_, hasher)) = &mut self.sum {
            hasher.update(bytes);
        }
        self.check_sum()
    }

    /// All values that are left.
    ///
    /// Memory grows as values arrive, so an array that says more than it holds fails first; still check
    /// [`shape`](Self::shape) before, since a small file may hold a large array in compressed form.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn values(mut self) -> Result<Vec<f64>, Error> {
        let (mut values, mut piece) = (vec![], vec![0; 1 << 16]);
        while self.left > 0 {
            let bytes = self.left.min(piece.len() as u64) as usize;
            self.read(&mut piece[..bytes])?;
            values.extend(piece[..bytes].chunks_exact(self.kind.size()).map(|bytes| self.kind.value(bytes)));
        }
        Ok(values)
    }

    pub(crate) fn fault(&self, reason: impl fmt::Display) -> Error {
        Error::array(&self.path, format!("{}: {reason}", self.name))
    }

    fn check_sum(&mut self) -> Result<(), Error> {
        let done = self.sum.take_if(|_| self.left == 0);
        if done.is_some_and(|(expected, hasher)| hasher.finalize() != expected) {
            return Err(self.fault("the checksum does not match; the file is damaged"));
        }
        Ok(())
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, name, kind, shape, left, .. } = self;
        write!(f, "Array {{ {name} of {}: {kind} {shape:?}, {left} bytes left }}", path.display())
    }
}

fn cut(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file is cut off".into(),
        _ => error.to_string(),
    }
}

/// Keeps what was read.
struct Recorded<'a, R> {
    reader: &'a mut R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Recorded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}
