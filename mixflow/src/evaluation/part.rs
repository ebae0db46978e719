//! A part of many images, for processes that share no memory.

use mixflow_backbones::Backbone;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Generator, Visit};
use crate::files::{PartValues, Parts, PartsConfig, WeightsFile};
use crate::{Error, Shard};

impl<B: Backbone> Generator<'_, B> {
    /// What parts of one image a label are of: `weights` are the files of the network and the autoencoder, `settings` all else
    /// that images depend on: how network and autoencoder are made, what was added to its weights, what labels stand for. Where files lie does not matter,
    /// what is in them does.
    pub fn parts_config(
        &self,
        labels: &[usize],
        parts: usize,
        values: PartValues,
        weights: &[WeightsFile],
        settings: &Value,
    ) -> PartsConfig {
        let guide = self.guide.map(|guide| &guide.weights);
        let hashes: Vec<&str> = weights.iter().chain(guide).map(|file| file.sha256.as_str()).collect();
        let sampling = serde_json::to_value(self.sampling).expect("plain data is JSON");
        let labels_read: Vec<u8> = labels.iter().flat_map(|label| (*label as u64).to_le_bytes()).collect();
        let made = json!({
            "weights": hashes,
            "objective": self.objective,
            "sampling": unplaced(sampling),
            "settings": unplaced(settings.clone()),
            "shape": self.shape,
            "seed": self.seed,
            "version": env!("CARGO_PKG_VERSION"),
            "labels_sha256": hex::encode(Sha256::digest(labels_read)),
        });
        PartsConfig {
            images: labels.len() as u64,
            parts,
            batch: self.sampling.batch.max(1) as u64,
            values,
            made: made.as_object().cloned().unwrap_or_default(),
        }
    }

    /// Makes one part of one image a label, bit for bit as it is in all of them on an equal device. One that is there
    /// is not made again.
    ///
    /// # Errors
    /// As [`images`](Self::images), and if the file system refuses.
    ///
    /// # Panics
    /// If the parts are of another number of images, or of other batches.
    pub fn draw_part(&self, parts: &Parts, shard: Shard, labels: &[usize], visit: &mut Visit<'_>) -> Result<(), Error> {
        let (config, own) = (parts.config(), (labels.len() as u64, self.sampling.batch as u64));
        assert_eq!((config.images, config.batch), own, "images of the parts and of a batch");
        let images = parts.images_of(shard);
        if images.is_empty() || parts.has(shard) {
            return Ok(());
        }
        let own = &labels[images.start as usize..images.end as usize];
        self.batches(own, images.start, visit, |batches| parts.write(shard, batches))
    }
}

/// Settings without the names of files, which are told by their contents.
fn unplaced(mut settings: Value) -> Value {
    const FILES: [&str; 5] = ["weights", "encoder_weights", "decoder_weights", "statistics", "folder"];
    if let Some(map) = settings.as_object_mut() {
        map.retain(|key, value| !(FILES.contains(&key.as_str()) && value.is_string()));
        map.values_mut().for_each(|value| *value = unplaced(value.take()));
    }
    settings
}
