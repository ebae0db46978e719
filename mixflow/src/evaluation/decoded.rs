//! Stored latents as the images that an autoencoder makes of them.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::autoencoder::TileConfig;
use mixflow_backbones::{Autoencoder, Backbone};

use crate::Error;
use crate::data::latents::images_at_a_time;
use crate::data::{DataConfig, Dataset};
use crate::evaluation::Generator;
use crate::recipe::{Recipe, SamplingConfig};
use crate::sampling::{Images, Rounding};

/// What makes images of stored latents, as a generator does of its own.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    /// The network.
    pub autoencoder: &'a dyn Autoencoder,
    /// How it decodes piece by piece; none is at once.
    pub tiles: Option<TileConfig>,
    /// Latents at a time, at least one.
    pub batch: usize,
    /// How numbers of its images become bytes.
    pub rounding: Rounding,
}

/// What makes images of a recipe's data, where these are stored latents: as the generator does, at most as many at a time.
///
/// # Errors
/// If the generator has no autoencoder for them.
pub fn decoder<'a, N, B: Backbone>(
    recipe: &Recipe<N>,
    generator: &Generator<'a, B>,
) -> Result<Option<Decoder<'a>>, Error> {
    match (&recipe.data, generator.autoencoder) {
        (DataConfig::Latents { .. }, None) => {
            let reason = "measures see images, but the data are stored latents: name the autoencoder that made them, as \
                          `autoencoder`";
            Err(Error::unfit(&recipe.name, reason))
        }
        (DataConfig::Latents { .. }, Some(autoencoder)) => {
            // Of a program's own autoencoder the size of its images is not known.
            let most = recipe.autoencoder.as_ref().map_or(1, |config| {
                let [_, height, width] = config.image_shape(generator.shape);
                images_at_a_time([height, width])
            });
            let batch = most.min(generator.sampling.batch).max(1);
            let SamplingConfig { tiles, bytes: rounding, .. } = *generator.sampling;
            Ok(Some(Decoder { autoencoder, tiles, batch, rounding }))
        }
        _ => Ok(None),
    }
}

/// The first `count` examples of a set, decoded in batches on the device of the
/// autoencoder. They are not the images that were encoded: what the autoencoder
/// loses is lost.
pub(crate) fn decoded<'a>(
    latents: &'a dyn Dataset,
    count: u64,
    decoder: Decoder<'a>,
    device: &'a Device,
) -> impl Iterator<Item = Result<Images, Error>> + 'a {
    let [channels, height, width] = latents.shape();
    let Decoder { autoencoder, tiles, batch, rounding } = decoder;
    (0..count).step_by(batch).map(move |first| {
        let examples = (first..count).take(batch).map(|index| latents.example(index));
        let examples = examples.collect::<Result<Vec<_>, _>>()?;
        let shape = [examples.len(), channels, height, width];
        let numbers: Vec<f32> = examples.into_iter().flat_map(|example| example.pixels).collect();
        let latents = Tensor::from_data(TensorData::new(numbers, shape), device);
        let images = match tiles {
            Some(tiles) => autoencoder.decode_in(latents, tiles),
            None => autoencoder.decode(latents),
        };
        let shape = images.dims();
        Ok(Images { pixels: images.into_data().iter::<f32>().collect(), shape, evaluations: 0, rounding })
    })
}

#[cfg(test)]
mod tests {
    use mixflow_backbones::autoencoder::{KlAutoencoderConfig, LatentDistribution};

    use super::*;
    use crate::data::{Channels, Classes, Digits};
    use crate::recipe::AutoencoderConfig;

    /// Images are twice the latents, once below the other; in tiles three times.
    #[derive(Debug)]
    struct Twice;

    impl Autoencoder for Twice {
        fn encode(&self, _: Tensor<4>) -> LatentDistribution {
            unreachable!("latents are there already")
        }
        fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
            latents.repeat_dim(2, 2) * 2.0
        }
        fn decode_in(&self, latents: Tensor<4>, _: TileConfig) -> Tensor<4> {
            latents.repeat_dim(2, 2) * 3.0
        }
        fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
            Box::new(Self)
        }
    }

    #[test]
    fn images_are_decoded_in_the_order_of_their_latents() {
        let latents = Digits::new(8, Channels::One).unwrap();
        for (tiles, factor) in [(None, 2.0), (Some(TileConfig::default()), 3.0)] {
            let decoder = Decoder { autoencoder: &Twice, tiles, batch: 8, rounding: Rounding::Floor };
            let batches: Vec<Images> =
                decoded(&latents, 10, decoder, &Device::default()).collect::<Result<_, _>>().unwrap();
            let shapes: Vec<_> = batches.iter().map(|images| images.shape).collect();
            assert_eq!(shapes, [[8, 1, 16, 8], [2, 1, 16, 8]]);
            assert!(batches.iter().all(|images| images.rounding == Rounding::Floor));
            let found: Vec<f32> = batches.into_iter().flat_map(|images| images.pixels).collect();
            let expected = (0..10).flat_map(|index| {
                let image: Vec<f32> =
                    latents.example(index).unwrap().pixels.iter().map(|value| factor * value).collect();
                image.repeat(2)
            });
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn large_images_are_decoded_one_at_a_time_and_as_those_that_are_drawn() {
        let set = ["data.size=8", "network.input_size=8", "network.patch=4", "network.width=24", "network.depth=1"];
        let mut recipe = Recipe::read("digits", &set.map(String::from)).unwrap();
        let network = recipe.network.init(0, &Device::default());
        assert!(decoder(&recipe, &recipe.generator(&network, &Classes(10))).unwrap().is_none());
        recipe.data =
            DataConfig::Latents { path: "nowhere".into(), posterior: Default::default(), flip: false, prior: None };
        let network_of = KlAutoencoderConfig::stable_diffusion();
        recipe.autoencoder = Some(AutoencoderConfig::Kl { network: network_of, weights: "nowhere".into() });
        recipe.sampling.tiles = Some(TileConfig::default());
        recipe.sampling.bytes = Rounding::Floor;
        let drawn = recipe.generator(&network, &Classes(10)).images(&[3], 0).unwrap();
        assert_eq!(drawn.rounding, Rounding::Floor);
        // Sides of latents are an eighth of those of images.
        for (side, sampled, batch) in [(32, 100, 8), (32, 3, 3), (64, 100, 3), (128, 100, 1)] {
            recipe.sampling.batch = sampled;
            let generator = recipe.generator(&network, &Classes(10));
            let generator = Generator { autoencoder: Some(&Twice), shape: [4, side, side], ..generator };
            let found = decoder(&recipe, &generator).unwrap().unwrap();
            assert_eq!(
                (found.batch, found.tiles, found.rounding),
                (batch, recipe.sampling.tiles, Rounding::Floor),
                "{side}"
            );
        }
    }
}
