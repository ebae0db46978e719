//! How many latents a second the loader gives to training: `cargo run --release --example read_latents`.
//!
//! Writes 8,192 latents of 4 × 32 × 32 to a temporary folder and reads them in shuffled batches of 256, from the page
//! cache, with none to two worker threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use mixflow::data::latents::{
    Contents, EncodeConfig, Encoded, Images, Latents, Origin, Posterior, Precision, Writer, encode_dataset,
};
use mixflow::data::source::{Directory, Source};
use mixflow::data::{Loader, LoaderConfig, OnBroken};

const SHAPE: [usize; 3] = [4, 32, 32];
const BATCH: usize = 256;
const STEPS: usize = 400;

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("mixflow-latents-{}", std::process::id()));
    let images = folder.join("images/grey");
    std::fs::create_dir_all(&images)?;
    for number in 0..8192 {
        image::RgbImage::new(2, 2).save(images.join(format!("{number:05}.png")))?;
    }

    let source = Directory::open(&folder.join("images"))?;
    let contents = Contents {
        shape: SHAPE,
        precision: Precision::F32,
        deviation: true,
        flipped: false,
        normalised: true,
        image_size: 2,
        classes: source.classes().to_vec(),
        autoencoder: Origin { name: "none".into(), sha256: String::new() },
        features: vec![],
        source: source.describe(),
        shard_examples: 2048,
    };
    let writer = Writer::open(&folder.join("latents"), contents)?;
    let config = EncodeConfig { batch: BATCH, on_broken: OnBroken::Refuse };
    let encode = |images: Images| {
        let numbers = images.shape[0] * SHAPE.iter().product::<usize>();
        Encoded { mean: vec![0.5; numbers], deviation: Some(vec![0.1; numbers]), features: vec![] }
    };
    encode_dataset(&source, config, writer, &AtomicBool::new(false), encode, |_| {})?;

    for posterior in [Posterior::Mean, Posterior::Sample] {
        for workers in 0..=2 {
            let latents = Latents::open(&folder.join("latents"))?.for_training(posterior, false)?;
            let config = LoaderConfig { seed: 0, batch: BATCH, step: 0, flip: false, workers };
            let mut loader = Loader::new(Arc::new(latents), config)?;
            let start = Instant::now();
            for _ in 0..STEPS {
                let batch = loader.next().ok_or("a loader does not end")??;
                assert_eq!(batch.labels.len(), BATCH);
            }
            let rate = (STEPS * BATCH) as f64 / start.elapsed().as_secs_f64();
            println!("{posterior:?}, {workers} workers: {rate:.0} latents/s");
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
