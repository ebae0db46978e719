//! What an image of a source is known by.

use sha2::{Digest, Sha256};

use crate::data::source::SourceEntry;

/// What tells whether any of these images may have changed; none where nothing tells.
pub(super) fn stamp<'a>(entries: impl IntoIterator<Item = &'a SourceEntry>) -> Option<String> {
    let mut digest = Sha256::new();
    for SourceEntry { name, stamp, .. } in entries {
        let stamp = stamp.as_ref()?;
        for text in [name, stamp] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
    }
    Some(hex::encode(digest.finalize()))
}
