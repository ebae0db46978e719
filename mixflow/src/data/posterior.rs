//! Latents from the moments that an autoencoder left.

/// One draw from the posterior of an autoencoder, normalised: `scale · (mean + deviation · noise) + bias`.
///
/// # Shapes
/// - moments: `[2 · channels, height, width]`, the means, then the standard deviations, not their logarithms
/// - noise: standard normal, `[channels, height, width]`
/// - returns: as noise
///
/// ```
/// use mixflow::data::sample_posterior;
///
/// // The scale of the autoencoder of Stable Diffusion 1 and 2, which has no bias.
/// let latent = sample_posterior(&[1.0, 2.0, 0.5, 0.0], &[-2.0, 3.0], 0.18215, 0.0);
/// assert_eq!(latent, [0.0, 2.0 * 0.18215]);
/// ```
///
/// # Panics
/// Unless there are twice as many moments as numbers of noise.
///
/// # Source
/// `sample_posterior` of REPA (`sihyun-yu/REPA`, train.py, 67f7145).
pub fn sample_posterior(moments: &[f32], noise: &[f32], scale: f32, bias: f32) -> Vec<f32> {
    assert!(
        moments.len() == 2 * noise.len(),
        "{} numbers of noise need {} moments, found {}",
        noise.len(),
        2 * noise.len(),
        moments.len()
    );
    let (means, deviations) = moments.split_at(noise.len());
    let draws = means.iter().zip(deviations).zip(noise);
    draws.map(|((mean, deviation), noise)| scale * (mean + deviation * noise) + bias).collect()
}
