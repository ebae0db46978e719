//! Files that are whole or absent, their hashes, and the images, arrays and JSON in them: what every room above stands on.
//!
//! # Image files
//! Folders, archives, shards, captions and evaluation decode JPEG, PNG and WebP files in one way. Where Pillow's
//! `ImageOps.exif_transpose` and `convert("RGB")` have an answer that others share, it is ours:
//!
//! - The content tells the format, not the name.
//! - A file that is cut or damaged as far as its format can tell is an error. JPEG and WebP have no checksums, and
//!   what lacks inside of a JPEG that has its end is not seen: decoders fill it with grey, Pillow's too.
//! - Images are turned as their Exif orientation says, where that is a 16-bit number of APP1 or `eXIf`, as the standard
//!   has it; Pillow also looks into XMP and text chunks. The loaders of guided-diffusion and `SiT` leave them lying.
//! - Alpha is dropped, or is a mask where [`MaskConfig`](crate::data::MaskConfig) asks for one, also that of palettes and of grey images: what is transparent shows the colour stored there.
//! - CMYK becomes RGB without profiles, `(255 − C)(255 − K)/255`; JPEG files hold it inverted.
//! - 16 bits become 8 by `255 v/65535`, rounded. Pillow truncates colours to `v/256` and saturates greys at 255.
//! - Of an animation the first frame is used. Colour profiles and gamma are not applied.
//! - All threads together take at most 1 GiB for decoding and wait for each other beyond that. An image that needs more
//!   is refused before memory is taken.

mod atomic;
pub(crate) mod decode;
pub(crate) mod digest;
pub mod images;
pub(crate) mod listing;
mod lock;
pub mod npz;
mod parts;
mod tiles;
pub(crate) mod unique;
mod weights_file;

pub(crate) use atomic::write_atomic_with;
pub use atomic::{check_writable, write_atomic};
pub use lock::FolderLock;
pub use mixflow_backbones::unfinished::discard_unfinished;
pub(crate) use parts::LABEL;
pub use parts::{PartValues, Parts, PartsConfig};
pub use tiles::Tiles;
pub(crate) use tiles::png;
pub use weights_file::WeightsFile;
