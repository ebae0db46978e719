//! A part of many images, for processes that share no memory.

use mixflow_backbones::Backbone;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Generator, Visit};
use crate::files::{PartValues, Parts, PartsConfig, WeightsFile};
use crate::{Error, Shard};

impl<B: Backbone> Generator<'_, B> {
    /// What parts of one image a label are of: `weights` are the files of the network and the autoencoder. Where files lie
    /// does not matter, what is in them does.
    pub fn parts(&self, labels: &[usize], parts: usize, values: PartValues, weights: &[WeightsFile]) -> PartsConfig {
        let guide = self.guide.map(|guide| &guide.weights);
        let hashes: Vec<&str> = weights.iter().chain(guide).map(|file| file.sha256.as_str()).collect();
        let mut sampling = serde_json::to_value(self.sampling).expect("plain data is JSON");
        if let Some(guide) = sampling.get_mut("guide").and_then(|guide| guide.as_object_mut()) {
            guide.remove("weights");
        }
        let labels_read: Vec<u8> = labels.iter().flat_map(|label| (*label as u64).to_le_bytes()).collect();
        let made = json!({
            "weights": hashes,
            "objective": self.objective,
            "sampling": sampling,
            "lambda": self.lambda,
            "seed": self.seed,
            "labels": hex::encode(Sha256::digest(labels_read)),
        });
        PartsConfig {
            images: labels.len() as u64,
            parts,
            batch: self.sampling.batch.max(1) as u64,
            values,
            made: made.as_object().cloned().unwrap_or_default(),
        }
    }

    /// Makes one part of one image a label, bit for bit as it is in all of them on the same device. One that is there
    /// is not made again.
    ///
    /// # Errors
    /// As [`images`](Self::images), and if the file system refuses.
    ///
    /// # Panics
    /// If the parts are of another number of images.
    pub fn draw_part(&self, parts: &Parts, shard: Shard, labels: &[usize], visit: &mut Visit<'_>) -> Result<(), Error> {
        assert_eq!(parts.config().images, labels.len() as u64, "images of the parts, and labels");
        let images = parts.images_of(shard);
        if images.is_empty() || parts.file(shard).is_file() {
            return Ok(());
        }
        let own = &labels[images.start as usize..images.end as usize];
        self.batches(own, images.start, visit, |batches| parts.write(shard, batches))
    }
}
