use std::io::{self, Cursor, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::ElementType;
use super::header::Header;

/// An `.npz` archive that is written array by array, and each array piece by piece.
///
/// Entries are stored, with the fields that sizes beyond 4 GiB need; equal arrays give equal bytes.
#[derive(Debug)]
pub struct NpzWriter<W: Write + Seek> {
    archive: ZipWriter<W>,
    /// Bytes that the array begun last still lacks.
    left: u64,
}

impl<W: Write + Seek> NpzWriter<W> {
    /// An archive without arrays.
    pub fn new(writer: W) -> Self {
        Self { archive: ZipWriter::new(writer), left: 0 }
    }

    /// Begins an array; its values follow by [`write`](Self::write).
    ///
    /// # Errors
    /// If the archive cannot be written.
    ///
    /// # Panics
    /// If the array before is not complete.
    pub fn array(&mut self, name: &str, kind: ElementType, shape: &[usize]) -> io::Result<()> {
        assert_eq!(self.left, 0, "bytes that the array before lacks");
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        self.archive.start_file(format!("{name}.npy"), options)?;
        let header = Header::new(kind, shape);
        self.left = header.size;
        self.archive.write_all(&header.bytes())
    }

    /// The next values, row-major and little-endian.
    ///
    /// # Errors
    /// If the archive cannot be written.
    ///
    /// # Panics
    /// If the array has fewer values.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).expect("no more bytes than the shape says");
        self.archive.write_all(bytes)
    }

    /// Completes the archive.
    ///
    /// # Errors
    /// If it cannot be written.
    ///
    /// # Panics
    /// If the last array is not complete.
    pub fn finish(self) -> io::Result<W> {
        assert_eq!(self.left, 0, "bytes that the last array lacks");
        Ok(self.archive.finish()?)
    }
}

/// The array `arr_0` of bytes in an archive: what `numpy.savez(path, array)` writes and guided-diffusion's evaluator
/// reads.
///
/// # Shapes
/// - values: row-major, of shape `shape`
///
/// # Panics
/// If `values` does not have the length of `shape`.
pub fn npz(values: &[u8], shape: &[usize]) -> Vec<u8> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "expected values of shape {shape:?}");
    let write = || {
        let mut writer = NpzWriter::new(Cursor::new(vec![]));
        writer.array("arr_0", ElementType::U8, shape)?;
        writer.write(values)?;
        writer.finish()
    };
    write().expect("memory takes any bytes").into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_follows_its_header_at_a_multiple_of_64() {
        let values: Vec<u8> = (0..24).collect();
        let file = npz(&values, &[2, 2, 2, 3]);
        let head = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2, 3,), }";
        let start = file.windows(head.len()).position(|bytes| bytes == head).unwrap();
        assert_eq!(file[start + 128..][..24], values);
        assert_eq!(file[start + 127], b'\n');
    }

    #[test]
    fn equal_arrays_give_equal_bytes() {
        assert_eq!(npz(&[1, 2], &[2]), npz(&[1, 2], &[2]));
    }
}
