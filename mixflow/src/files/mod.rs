//! Files that are whole or absent, their hashes, and the images and arrays in them: what every room above stands on.

mod atomic;
pub(crate) mod decode;
pub(crate) mod digest;
pub mod images;
pub(crate) mod listing;
mod lock;
pub mod npz;
mod tiles;
pub(crate) mod unique;
mod weights_file;

pub use atomic::write_atomic;
pub(crate) use atomic::write_atomic_with;
pub use lock::FolderLock;
pub use tiles::Tiles;
pub(crate) use tiles::png;
pub use weights_file::WeightsFile;
