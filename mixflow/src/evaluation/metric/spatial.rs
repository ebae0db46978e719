use super::{Error, Features};

/// Feature maps as [`Features`], for a *spatial* Fréchet distance (sFID on Inception's maps).
///
/// Takes the first `channels` channels of maps `[n, c, h, w]` and flattens each image to `channels * h * w` numbers; the
/// distance is then [`frechet_distance`](super::frechet_distance) of these. Their order does not change it.
///
/// # Source
/// Nash et al. 2021 (arXiv 2103.03841), with the first 7 channels of a 17 x 17 Inception map; guided-diffusion
/// `evaluations/evaluator.py`, commit 22e0df8.
///
/// # Errors
/// [`Error::Shape`] and [`Error::NonFinite`], counted in the flattened maps; [`Error::Channels`] when there are
/// fewer; [`Error::NoColumns`].
pub fn spatial_features(shape: [usize; 4], maps: &[f32], channels: usize) -> Result<Features, Error> {
    let [images, found, height, width] = shape;
    if found < channels {
        return Err(Error::Channels { needed: channels, found });
    }
    let all = Features::from_f32(images, found * height * width, maps)?;
    let kept = channels * height * width;
    Features::new(images, kept, all.iter().flat_map(|row| &row[..kept]).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_channels() {
        let maps: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let features = spatial_features([2, 3, 1, 2], &maps, 2).unwrap();
        assert_eq!(features.iter().collect::<Vec<_>>(), [[0.0, 1.0, 2.0, 3.0], [6.0, 7.0, 8.0, 9.0]]);
        assert!(matches!(spatial_features([2, 3, 1, 2], &maps, 4), Err(Error::Channels { needed: 4, found: 3 })));
        assert!(matches!(spatial_features([2, 3, 1, 2], &maps, 0), Err(Error::NoColumns)));
    }
}
