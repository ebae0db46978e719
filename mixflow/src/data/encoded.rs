//! Images as the latents of an autoencoder, in memory.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::autoencoder::Autoencoder;

use crate::data::{self, Dataset, Example, Fingerprint};
use crate::{Error, check_memory};

/// Images encoded at a time, of 128 x 128 pixels or less; fewer of larger ones, since an autoencoder keeps a hundred numbers
/// and more for each pixel.
const BATCH: usize = 50;
const PIXELS: usize = BATCH * 128 * 128;

/// The latents of every image of a finite data set, means where the autoencoder gives a law.
///
/// Meant for data that fits into memory; larger sets are encoded once, into [`Latents`](crate::data::Latents).
#[derive(Debug)]
pub struct Encoded {
    latents: Vec<f32>,
    labels: Vec<usize>,
    fingerprint: Fingerprint,
    shape: [usize; 3],
    /// Images that others stand for.
    broken: Vec<PathBuf>,
    remarks: Vec<String>,
}

impl Encoded {
    /// Encodes all images on the device of the autoencoder.
    ///
    /// # Errors
    /// If an image cannot be read, the data has no end, or their latents do not fit memory.
    pub fn new(data: &dyn Dataset, autoencoder: &dyn Autoencoder, device: &Device) -> Result<Self, Error> {
        let endless = "it encodes all images beforehand, but the data has no end; take digits or a folder";
        let len = data.len().ok_or_else(|| Error::unfit("autoencoder", endless))?;
        let [channels, height, width] = data.shape();
        let batch = (PIXELS / (height * width)).clamp(1, BATCH) as u64;
        let (mut latents, mut labels, mut shape) = (Vec::new(), Vec::new(), [0; 3]);
        for start in (0..len).step_by(batch as usize) {
            let mut pixels = Vec::new();
            for index in start..len.min(start + batch) {
                let example = data.example(index)?;
                pixels.extend(example.pixels);
                labels.push(example.label);
            }
            let count = pixels.len() / (channels * height * width);
            let images = Tensor::from_data(TensorData::new(pixels, [count, channels, height, width]), device);
            let encoded = autoencoder.encode(images).mean;
            let [_, c, h, w] = encoded.dims();
            shape = [c, h, w];
            let what = || format!("the latents of {len} images, which are kept in memory unless `encode` stores them,");
            check_memory(what, &[len, (c * h * w) as u64, 4])?;
            latents.extend(encoded.into_data().iter::<f32>());
        }
        Ok(Self {
            latents,
            labels,
            fingerprint: data.fingerprint()?,
            shape,
            broken: data.broken(),
            remarks: data.remarks(),
        })
    }
}

/// What a network learns of images: their latents by an autoencoder on `device`, or without one the images themselves.
///
/// # Errors
/// As [`Encoded::new`].
pub fn learned(
    images: Arc<dyn Dataset>,
    autoencoder: Option<&dyn Autoencoder>,
    device: &Device,
) -> Result<Arc<dyn Dataset>, Error> {
    Ok(match autoencoder {
        Some(autoencoder) => Arc::new(Encoded::new(&*images, autoencoder, device)?),
        None => images,
    })
}

impl Dataset for Encoded {
    fn len(&self) -> Option<u64> {
        Some(self.labels.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.fingerprint.classes
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn example(&self, index: u64) -> Result<Example, data::Error> {
        let size: usize = self.shape.iter().product();
        let latent = &self.latents[index as usize * size..][..size];
        Ok(Example { pixels: latent.to_vec(), label: self.labels[index as usize], features: vec![] })
    }

    fn label(&self, index: u64) -> Result<usize, data::Error> {
        Ok(self.labels[index as usize])
    }

    fn broken(&self) -> Vec<PathBuf> {
        self.broken.clone()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    /// That of the images.
    fn fingerprint(&self) -> Result<Fingerprint, data::Error> {
        Ok(self.fingerprint.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mixflow_backbones::autoencoder::LatentDistribution;

    use super::*;
    use crate::data::{Channels, Digits, Folder, OnBroken, Shapes, split};

    /// Halves of the upper left quarter.
    #[derive(Debug)]
    struct Corner;

    impl Autoencoder for Corner {
        fn encode(&self, images: Tensor<4>) -> LatentDistribution {
            LatentDistribution { mean: images.narrow(2, 0, 4).narrow(3, 0, 4) * 0.5, deviation: None }
        }
        fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
            latents
        }
        fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
            Box::new(Self)
        }
    }

    #[test]
    fn latents_stand_where_their_images_stood() {
        let digits = Digits::new(8, Channels::One).unwrap();
        let encoded = Encoded::new(&digits, &Corner, &Device::default()).unwrap();
        assert_eq!((encoded.len(), encoded.shape(), encoded.classes()), (digits.len(), [1, 4, 4], digits.classes()));
        assert_eq!(encoded.fingerprint().unwrap(), digits.fingerprint().unwrap());
        for index in [0, 49, 50, 1796] {
            let (image, latent) = (digits.example(index).unwrap(), encoded.example(index).unwrap());
            assert_eq!((latent.label, encoded.label(index).unwrap()), (image.label, image.label));
            assert_eq!(latent.pixels[5], image.pixels[9] / 2.0);
        }
    }

    /// How many images it was given at a time.
    #[derive(Debug, Default)]
    struct Counted(Mutex<Vec<usize>>);

    impl Autoencoder for Counted {
        fn encode(&self, images: Tensor<4>) -> LatentDistribution {
            self.0.lock().unwrap().push(images.dims()[0]);
            LatentDistribution { mean: images.narrow(2, 0, 1).narrow(3, 0, 1), deviation: None }
        }
        fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
            latents
        }
        fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
            unreachable!("one device encodes")
        }
    }

    #[test]
    fn large_images_are_encoded_few_at_a_time() {
        for (size, expected) in [(8, 50), (128, 50), (512, 3), (1024, 1)] {
            let digits: Arc<dyn Dataset> = Arc::new(Digits::new(size, Channels::One).unwrap());
            let (few, _) = split(&digits, digits.len().unwrap() - 60, 0).unwrap();
            let counted = Counted::default();
            let encoded = Encoded::new(&few, &counted, &Device::default()).unwrap();
            let batches = counted.0.into_inner().unwrap();
            assert_eq!(
                (encoded.len(), batches[0], batches.iter().sum()),
                (Some(60), expected, 60_usize),
                "{size} pixels"
            );
        }
    }

    #[test]
    fn broken_images_that_others_stand_for_are_told() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("a");
        std::fs::create_dir(&class).unwrap();
        image::RgbImage::new(8, 8).save(class.join("1.png")).unwrap();
        std::fs::write(class.join("2.png"), "broken").unwrap();
        let folder = Folder::open(root.path(), 8, OnBroken::Skip).unwrap();
        assert_eq!(Encoded::new(&folder, &Corner, &Device::default()).unwrap().broken(), [class.join("2.png")]);
    }

    #[test]
    fn data_without_end_is_refused() {
        let error = Encoded::new(&Shapes::new(8, 0).unwrap(), &Corner, &Device::default()).unwrap_err().to_string();
        assert!(error.contains("no end"), "{error}");
    }
}
