//! `cargo xtask bench --latents`: how many latents a second the loader gives to training.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use mixflow::data::latents::{Contents, EncodedBatch, Image, Latents, Origin, PosteriorMode, StoragePrecision, Writer};
use mixflow::data::source::SourceEntry;
use mixflow::data::{Loader, LoaderConfig};

use crate::terminal::{Result, print};

const SHAPE: [usize; 3] = [4, 32, 32];
const EXAMPLES: usize = 8192;
const BATCH: usize = 256;
const STEPS: usize = 400;

/// Writes latents of 4 x 32 x 32 to a temporary folder and reads them in shuffled batches, from the page cache.
pub(crate) fn measure() -> Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("mixflow-latents-{}", std::process::id()));
    let measured = write(&folder).and_then(|()| read(&folder));
    // That it could not be made is told by what it was to be measured by.
    let _ = std::fs::remove_dir_all(&folder);
    measured.map(|()| ExitCode::SUCCESS)
}

fn write(folder: &Path) -> Result<()> {
    let contents = Contents {
        shape: SHAPE,
        precision: StoragePrecision::F32,
        deviation: true,
        flipped: false,
        normalised: true,
        image_size: 256,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: vec!["grey".into()],
        autoencoder: Origin { name: "none".into(), sha256: String::new() },
        features: vec![],
        source: "none".into(),
        shard_examples: 2048,
    };
    let mut writer = Writer::open(folder, contents)?;
    let numbers = BATCH * SHAPE.iter().product::<usize>();
    let encoded =
        EncodedBatch { mean: vec![0.5; numbers], deviation: Some(vec![0.1; numbers]), features: vec![], mask: None };
    for first in (0..EXAMPLES).step_by(BATCH) {
        let image = |number: usize| Image {
            entry: SourceEntry { name: number.to_string(), class: 0, captions: vec![], stamp: None },
            sha256: [0; 32],
        };
        let images: Vec<_> = (first..first + BATCH).map(image).collect();
        writer.push(&images, &encoded, None)?;
        writer.commit()?;
    }
    writer.finish()?;
    Ok(())
}

fn read(folder: &Path) -> Result<()> {
    print("posterior  workers  latents/s")?;
    for (name, posterior) in [("mean", PosteriorMode::Mean), ("drawn", PosteriorMode::Sample)] {
        for workers in 0..=2 {
            let latents = Latents::open(folder)?.for_training(posterior, false)?;
            let config = LoaderConfig { seed: 0, batch: BATCH, step: 0, flip: false, workers };
            let mut loader = Loader::new(Arc::new(latents), config)?;
            let start = Instant::now();
            for _ in 0..STEPS {
                loader.next().ok_or("a loader does not end")??;
            }
            let rate = (STEPS * BATCH) as f64 / start.elapsed().as_secs_f64();
            print(format_args!("{name:<9} {workers:>8} {rate:>10.0}"))?;
        }
    }
    Ok(())
}
