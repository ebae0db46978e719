//! Decodes one image of 256 px with the autoencoder of Stable Diffusion, random weights, and prints the time as JSON.
//!
//! `cargo run --workspace --example autoencoder -- 5`, on `RAYON_NUM_THREADS` threads.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use mixflow_backbones::Autoencoder;
use mixflow_backbones::autoencoder::KlAutoencoderConfig;

#[allow(clippy::print_stdout, reason = "an example's output")]
fn main() {
    let steps: usize = std::env::args().nth(1).and_then(|steps| steps.parse().ok()).unwrap_or(3);
    let device = Device::default();
    let autoencoder = KlAutoencoderConfig::stable_diffusion().init(0, &device);
    let latents = Tensor::<4>::random([1, 4, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let decode = || {
        let start = Instant::now();
        let image = autoencoder.decode(latents.clone()).into_data();
        assert_eq!(image.shape().to_vec(), [1, 3, 256, 256]);
        start.elapsed().as_secs_f64()
    };
    decode();
    let mut seconds: Vec<f64> = (0..steps.max(1)).map(|_| decode()).collect();
    seconds.sort_by(f64::total_cmp);
    println!("{{\"case\": \"sd-decode\", \"seconds\": {:.4}}}", seconds[seconds.len() / 2]);
}
