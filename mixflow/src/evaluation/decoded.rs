//! Stored latents as the images that an autoencoder makes of them.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::Autoencoder;

use crate::Error;
use crate::data::Dataset;
use crate::sampling::Images;

/// Latents decoded at a time.
const BATCH: usize = 8;

/// The first `count` examples of a set, decoded in batches on the device of the
/// autoencoder. They are not the images that were encoded: what the autoencoder
/// loses is lost.
pub(crate) fn decoded<'a>(
    latents: &'a dyn Dataset,
    count: u64,
    autoencoder: &'a dyn Autoencoder,
    device: &'a Device,
) -> impl Iterator<Item = Result<Images, Error>> + 'a {
    let [channels, height, width] = latents.shape();
    (0..count).step_by(BATCH).map(move |first| {
        let examples = (first..count).take(BATCH).map(|index| latents.example(index));
        let examples = examples.collect::<Result<Vec<_>, _>>()?;
        let shape = [examples.len(), channels, height, width];
        let numbers: Vec<f32> = examples.into_iter().flat_map(|example| example.pixels).collect();
        let images = autoencoder.decode(Tensor::from_data(TensorData::new(numbers, shape), device));
        let shape = images.dims();
        Ok(Images { pixels: images.into_data().iter::<f32>().collect(), shape, evaluations: 0 })
    })
}

#[cfg(test)]
mod tests {
    use mixflow_backbones::autoencoder::LatentDistribution;

    use super::*;
    use crate::data::{Channels, Digits};

    /// Images are twice the latents, once below the other.
    #[derive(Debug)]
    struct Twice;

    impl Autoencoder for Twice {
        fn encode(&self, _: Tensor<4>) -> LatentDistribution {
            unreachable!("latents are there already")
        }
        fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
            latents.repeat_dim(2, 2) * 2.0
        }
        fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
            Box::new(Self)
        }
    }

    #[test]
    fn images_are_decoded_in_the_order_of_their_latents() {
        let latents = Digits::new(8, Channels::One).unwrap();
        let batches: Vec<Images> = decoded(&latents, 10, &Twice, &Device::default()).collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.iter().map(|images| images.shape).collect::<Vec<_>>(), [[8, 1, 16, 8], [2, 1, 16, 8]]);
        let found: Vec<f32> = batches.into_iter().flat_map(|images| images.pixels).collect();
        let expected = (0..10).flat_map(|index| {
            let image: Vec<f32> = latents.example(index).unwrap().pixels.iter().map(|value| 2.0 * value).collect();
            image.repeat(2)
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}
