//! Arrays in NumPy's `.npz` and `.npy` files, as the evaluator of guided-diffusion writes and reads them.
//!
//! Files come from strangers and may be larger than memory: an [`Array`] is read in pieces, headers are bounded, and
//! whatever does not hold what it says gives an [`Error::Array`](crate::Error::Array).

mod archive;
mod array;
mod header;
mod write;

pub use archive::Npz;
pub use array::Array;
pub use header::ElementType;
pub use write::{NpzWriter, npz};
