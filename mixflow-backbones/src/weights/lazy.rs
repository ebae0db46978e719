//! Tensors that stay where they are: in their file, or on their device.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, Tensor, TensorData};

use crate::Error;

/// A tensor of [`Weights`](super::Weights): its shape and type are known, its values are read when they are asked for.
#[derive(Clone)]
pub struct LazyTensor {
    shape: Vec<usize>,
    dtype: DType,
    values: Values,
}

#[derive(Clone)]
enum Values {
    /// In memory.
    Here(Bytes),
    /// In a file, row by row, or on a device.
    There { path: Arc<Path>, read: Arc<Read> },
}

/// Reads the bytes of a whole tensor.
type Read = dyn Fn() -> Result<Vec<u8>, Error> + Send + Sync;

impl LazyTensor {
    /// A tensor whose bytes `read` reads from the file at `path`.
    pub(super) fn new(
        path: &Arc<Path>,
        shape: Vec<usize>,
        dtype: DType,
        read: impl Fn() -> Result<Vec<u8>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self { shape, dtype, values: Values::There { path: path.clone(), read: Arc::new(read) } }
    }

    /// The values of a tensor of a network, which stay on its device.
    pub(super) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let (shape, dtype) = (tensor.shape().to_vec(), file_type(tensor.dtype()));
        let read = move || Ok(tensor.to_data().convert_dtype(dtype).bytes().to_vec());
        Self::new(&Path::new("a network").into(), shape, dtype, read)
    }

    /// The values that `f` makes of these, of the same shape, in `f32`.
    pub(crate) fn map(self, f: impl Fn(TensorData) -> Result<TensorData, Error> + Send + Sync + 'static) -> Self {
        let (shape, path) = (self.shape.clone(), Path::new("memory").into());
        Self::new(&path, shape, DType::F32, move || Ok(f(self.data()?)?.bytes().to_vec()))
    }

    /// Its extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How many elements it has.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size of its values, bytes.
    pub fn byte_len(&self) -> usize {
        self.num_elements() * self.dtype.size()
    }

    /// Its values, read anew each time, from their file or their device.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged there.
    pub fn data(&self) -> Result<TensorData, Error> {
        self.clone().into_data()
    }

    /// Its values; those in memory are not copied.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn into_data(self) -> Result<TensorData, Error> {
        let Self { shape, dtype, values } = self;
        match values {
            Values::Here(bytes) => Ok(TensorData::from_bytes(bytes, shape, dtype)),
            Values::There { path, read } => TensorData::try_from_bytes_vec(read()?, shape, dtype)
                .map_err(|error| Error::format(&path, format!("holds damaged values: {error}"))),
        }
    }

    /// The same values in another shape of as many elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.num_elements());
        Self { shape, ..self }
    }

    /// `parts` tensors, each with as many rows of this one, in their order; none where they do not come out even. Values
    /// stay where they are.
    pub fn split_rows(&self, parts: usize) -> Option<Vec<Self>> {
        let rows = *self.shape.first().filter(|rows| rows.is_multiple_of(parts))? / parts;
        (0..parts).map(|part| self.rows(std::iter::once(part * rows..(part + 1) * rows))).collect()
    }

    /// These rows of it, one range behind the other; none where it has not as many. Values stay where they are.
    pub fn rows(&self, ranges: impl IntoIterator<Item = Range<usize>>) -> Option<Self> {
        let mut shape = self.shape.clone();
        let rows = shape.first_mut()?;
        let row = self.byte_len() / (*rows).max(1);
        let ranges: Vec<_> = ranges.into_iter().collect();
        if ranges.iter().any(|range| range.end > *rows) {
            return None;
        }
        *rows = ranges.iter().map(ExactSizeIterator::len).sum();
        let of = move |bytes: &[u8]| {
            ranges.iter().flat_map(|range| &bytes[range.start * row..range.end * row]).copied().collect::<Vec<_>>()
        };
        let values = match &self.values {
            Values::Here(bytes) => Values::Here(Bytes::from_bytes_vec(of(bytes))),
            Values::There { path, read } => {
                let read = read.clone();
                Values::There { path: path.clone(), read: Arc::new(move || Ok(of(&read()?))) }
            }
        };
        Some(Self { shape, dtype: self.dtype, values })
    }

    /// One tensor with the rows of all of these, in their order; none where there are none, or types or widths differ.
    /// Values stay where they are.
    pub fn concat_rows(parts: Vec<Self>) -> Option<Self> {
        let first = parts.first()?;
        let (dtype, width) = (first.dtype, first.shape.get(1..)?);
        if parts.iter().any(|part| part.dtype != dtype || part.shape.get(1..) != Some(width)) {
            return None;
        }
        let shape = [&[parts.iter().map(|part| part.shape[0]).sum()], width].concat();
        let path: Arc<Path> = match &first.values {
            Values::Here(_) => Path::new("memory").into(),
            Values::There { path, .. } => path.clone(),
        };
        Some(Self::new(&path, shape, dtype, move || {
            let mut bytes = Vec::new();
            for part in &parts {
                match &part.values {
                    Values::Here(values) => bytes.extend_from_slice(values),
                    Values::There { read, .. } => bytes.extend(read()?),
                }
            }
            Ok(bytes)
        }))
    }
}

/// The type of a file that holds numbers of this one: some types are those of one device.
fn file_type(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => dtype,
        _ => DType::F32,
    }
}

impl From<TensorData> for LazyTensor {
    fn from(data: TensorData) -> Self {
        let (bytes, shape, dtype) = data.into_parts();
        Self { shape: shape.to_vec(), dtype, values: Values::Here(bytes) }
    }
}

/// Without the values.
impl fmt::Debug for LazyTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.shape)
    }
}
