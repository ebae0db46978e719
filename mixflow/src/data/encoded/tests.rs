use std::sync::Mutex;

use mixflow_backbones::autoencoder::{KlAutoencoderConfig, LatentDistribution};

use super::*;
use crate::data::{Channels, Digits, ImageFolder, OnBroken, Shapes, split};
use crate::recipe::AutoencoderConfig;

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
    let encoded = Encoded::new(&digits, &Corner, &Device::default(), &mut |_| Ok(())).unwrap();
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
        let encoded = Encoded::new(&few, &counted, &Device::default(), &mut |_| Ok(())).unwrap();
        let batches = counted.0.into_inner().unwrap();
        assert_eq!((encoded.len(), batches[0], batches.iter().sum()), (Some(60), expected, 60_usize), "{size} pixels");
    }
}

#[test]
fn broken_images_that_others_stand_for_are_told() {
    let root = tempfile::tempdir().unwrap();
    let class = root.path().join("a");
    fs::create_dir(&class).unwrap();
    image::RgbImage::new(8, 8).save(class.join("1.png")).unwrap();
    fs::write(class.join("2.png"), "broken").unwrap();
    let folder = ImageFolder::open(root.path(), 8, OnBroken::Skip).unwrap();
    assert_eq!(
        Encoded::new(&folder, &Corner, &Device::default(), &mut |_| Ok(())).unwrap().broken(),
        [class.join("2.png")]
    );
    let store = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // Opened again, it does not know yet which are broken.
        let folder = ImageFolder::open(root.path(), 8, OnBroken::Skip).unwrap();
        let kept = Encoded::kept(&store.path().join("kept"), "", &folder, &Corner, &Device::default(), &mut |_| Ok(()))
            .unwrap();
        assert_eq!(kept.broken(), [class.join("2.png")]);
    }
}

#[test]
fn what_is_kept_is_not_encoded_again() {
    let root = tempfile::tempdir().unwrap();
    let (folder, device) = (root.path().join("latents"), Device::default());
    let digits: Arc<dyn Dataset> = Arc::new(Digits::new(8, Channels::One).unwrap());
    let (few, _) = split(&digits, digits.len().unwrap() - 60, 0).unwrap();
    let in_memory = Encoded::new(&few, &Corner, &device, &mut |_| Ok(())).unwrap();
    let kept = |key: &str| {
        let counted = Counted::default();
        let kept = Encoded::kept(&folder, key, &few, &counted, &device, &mut |_| Ok(())).unwrap();
        (kept, counted.0.into_inner().unwrap())
    };
    assert_eq!(kept("one").1, [50, 10]);
    let (again, encoded) = kept("one");
    assert!(encoded.is_empty(), "{encoded:?}");
    assert_eq!(
        (again.len(), again.shape(), again.fingerprint().unwrap()),
        (Some(60), [1, 1, 1], few.fingerprint().unwrap())
    );
    // Under another key, and where a shard has changed.
    assert_eq!(kept("two").1, [50, 10]);
    let shard = folder.join("shard-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert_eq!(kept("two").1, [50, 10]);
    assert!(kept("two").1.is_empty());

    let kept = Encoded::kept(&folder, "corner", &few, &Corner, &device, &mut |_| Ok(())).unwrap();
    for index in [0, 49, 50, 59] {
        assert_eq!(kept.example(index).unwrap(), in_memory.example(index).unwrap());
        assert_eq!(kept.label(index).unwrap(), in_memory.label(index).unwrap());
    }
}

/// More images than a shard has: digits again and again, each darker than the one before. The eighth is broken, and is known to be
/// so once it was read.
#[derive(Debug)]
struct Many(Digits, Mutex<Vec<PathBuf>>);

impl Many {
    fn new() -> Self {
        Self(Digits::new(8, Channels::One).unwrap(), Mutex::default())
    }
}

impl Dataset for Many {
    fn len(&self) -> Option<u64> {
        Some(4_120)
    }
    fn classes(&self) -> &[String] {
        self.0.classes()
    }
    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }
    fn example(&self, index: u64) -> Result<Example, data::Error> {
        if index == 7 {
            *self.1.lock().unwrap() = vec!["seven.png".into()];
        }
        let mut example = self.0.example(index % 1797)?;
        example.pixels.iter_mut().for_each(|pixel| *pixel -= index as f32 / 4096.0);
        Ok(example)
    }
    fn broken(&self) -> Vec<PathBuf> {
        self.1.lock().unwrap().clone()
    }
}

/// Shards of 2,000 images: what was stopped goes on behind the last whole one, to the same bytes.
#[test]
fn encoding_goes_on_where_it_was_stopped() {
    let (root, device) = (tempfile::tempdir().unwrap(), Device::default());
    let [whole, stopped] = ["whole", "stopped"].map(|name| root.path().join(name));
    // How it ended, how many images were encoded, and what was told.
    let kept = |folder: &Path, key: &str, most: u64| {
        let (counted, mut told) = (Counted::default(), vec![]);
        let kept = Encoded::kept(folder, key, &Many::new(), &counted, &device, &mut |done| {
            told.push(done);
            if done < most { Ok(()) } else { Err(Error::Stopped) }
        });
        (kept, counted.0.into_inner().unwrap().iter().sum::<usize>(), told)
    };
    let shards = |folder: &Path| {
        let files = (0..3).map(|number| folder.join(format!("shard-{number:05}.safetensors")));
        files.map_while(|file| fs::read(file).ok()).collect::<Vec<_>>()
    };
    let (expected, encoded, told) = kept(&whole, "one", u64::MAX);
    assert_eq!((encoded, told.len(), told[1], told[83]), (4_120, 84, 50, 4_120));
    let expected = expected.unwrap();

    let (ended, encoded, _) = kept(&stopped, "one", 2_500);
    assert!(matches!(ended, Err(Error::Stopped)));
    assert_eq!((encoded, shards(&stopped).len(), stopped.join("manifest.json").exists()), (2_500, 1, false));
    // At once, and twice.
    assert_eq!(kept(&stopped, "one", 2_000).1, 0);
    let (ended, encoded, told) = kept(&stopped, "one", u64::MAX);
    assert_eq!((encoded, told[0], told[1]), (2_120, 2_000, 2_050));
    let found = ended.unwrap();
    assert!(shards(&stopped) == shards(&whole) && shards(&whole).len() == 3);
    for index in 0..4_120 {
        let [found, expected] = [&found, &expected].map(|data| data.example(index).unwrap());
        assert_eq!(found, expected, "image {index}");
    }
    assert_eq!((found.broken(), expected.broken()), (vec!["seven.png".into()], vec!["seven.png".into()]));
    assert_eq!(kept(&stopped, "one", u64::MAX).1, 0);

    // Under another key, and behind a shard that has changed, it begins anew.
    assert!(kept(&stopped, "two", 2_100).0.is_err());
    let shard = stopped.join("shard-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert_eq!(kept(&stopped, "two", 2_100).1, 2_100);
    let (again, encoded, told) = kept(&stopped, "one", u64::MAX);
    assert_eq!((again.is_ok(), encoded, told[0]), (true, 4_120, 0));
}

/// Digits, of which the last one alone has two captions.
#[derive(Debug)]
struct LastTwice(Digits);

impl Dataset for LastTwice {
    fn len(&self) -> Option<u64> {
        Some(60)
    }
    fn classes(&self) -> &[String] {
        self.0.classes()
    }
    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }
    fn several_captions(&self) -> bool {
        true
    }
    fn example(&self, index: u64) -> Result<Example, data::Error> {
        let example = self.0.example(index)?;
        let other = (example.label + 1) % 10;
        let captions = if index == 59 { vec![(example.label, 1.0), (other, 3.0)] } else { vec![] };
        Ok(Example { captions, ..example })
    }
}

#[test]
fn captions_are_kept_whichever_batch_has_the_first_of_several() {
    let (root, device) = (tempfile::tempdir().unwrap(), Device::default());
    let digits = LastTwice(Digits::new(8, Channels::One).unwrap());
    let kept = Encoded::kept(&root.path().join("latents"), "one", &digits, &Corner, &device, &mut |_| Ok(())).unwrap();
    assert!(kept.several_captions());
    for index in [0, 49, 50, 59] {
        let (found, expected) = (kept.example(index).unwrap(), digits.example(index).unwrap());
        let told = |example: &Example| (0..99).map(|position| example.label_at(0, position)).collect::<Vec<_>>();
        assert_eq!(told(&found), told(&expected), "image {index}");
    }
}

#[test]
fn an_image_that_was_replaced_under_its_name_is_encoded_again() {
    let root = tempfile::tempdir().unwrap();
    let [images, run] = ["images", "run"].map(|name| root.path().join(name));
    fs::create_dir_all(images.join("a")).unwrap();
    fs::create_dir(&run).unwrap();
    fs::write(run.join("frozen.json"), "{}").unwrap();
    let write = |name: &str, brightness: u8| {
        image::RgbImage::from_pixel(8, 8, image::Rgb([brightness; 3])).save(images.join("a").join(name)).unwrap();
    };
    let data = serde_json::json!({ "kind": "folder", "path": images, "size": 8, "on_broken": "skip" });
    let recipe = crate::Recipe::read("digits", &[format!("data={data}")]).unwrap();
    // Brightness of both, and how many were encoded.
    let learned = || {
        let (data, counted): (Arc<dyn Dataset>, _) = (recipe.data.open().unwrap(), Counted::default());
        let learned =
            recipe.learned(&run, "training", data, Some(&counted), &Device::default(), &mut |_| Ok(())).unwrap();
        let bright = |index| ((learned.example(index).unwrap().pixels[0] + 1.0) * 127.5).round() as u8;
        ([bright(0), bright(1)], counted.0.into_inner().unwrap())
    };
    write("1.png", 10);
    fs::write(images.join("a/2.png"), "broken").unwrap();
    assert_eq!(learned(), ([10, 10], vec![2]));
    assert_eq!(learned(), ([10, 10], vec![]));
    // Repaired, and another one of the same size.
    for brightness in [20, 30] {
        write("2.png", brightness);
        assert_eq!(learned(), ([10, brightness], vec![2]));
        assert_eq!(learned(), ([10, brightness], vec![]));
    }
}

#[test]
fn what_has_moved_is_not_encoded_again() {
    let root = tempfile::tempdir().unwrap();
    let [images, moved, run] = ["images", "moved", "run"].map(|name| root.path().join(name));
    fs::create_dir_all(images.join("a")).unwrap();
    fs::create_dir(&run).unwrap();
    fs::write(run.join("frozen.json"), "{}").unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([10; 3])).save(images.join("a/1.png")).unwrap();
    let encoded = |images: &Path, weights: &str, latent_channels: usize| {
        let data = serde_json::json!({ "kind": "folder", "path": images, "size": 8 });
        let mut recipe = crate::Recipe::read("digits", &[format!("data={data}")]).unwrap();
        let network = KlAutoencoderConfig { latent_channels, ..KlAutoencoderConfig::stable_diffusion() };
        recipe.autoencoder = Some(AutoencoderConfig::Kl { network, weights: weights.into() });
        let (data, counted): (Arc<dyn Dataset>, _) = (recipe.data.open().unwrap(), Counted::default());
        recipe.learned(&run, "training", data, Some(&counted), &Device::default(), &mut |_| Ok(())).unwrap();
        counted.0.into_inner().unwrap()
    };
    assert_eq!(encoded(&images, "vae.pt", 4), [1]);
    fs::rename(&images, &moved).unwrap();
    assert!(encoded(&moved, "models/vae.pt", 4).is_empty());
    assert_eq!(encoded(&moved, "models/vae.pt", 3), [1], "another autoencoder");
}

/// Means of two by two pixels, of the first channel.
#[derive(Debug)]
pub(in crate::data) struct Halves;

impl Autoencoder for Halves {
    fn encode(&self, images: Tensor<4>) -> LatentDistribution {
        let [batch, _, height, width] = images.dims();
        let pairs = images.narrow(1, 0, 1).reshape([batch * height / 2, 2, width / 2, 2]);
        let mean = pairs.mean_dim(3).mean_dim(1).reshape([batch, 1, height / 2, width / 2]);
        LatentDistribution { mean, deviation: None }
    }
    fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        latents
    }
    fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
        Box::new(Self)
    }
}

#[test]
fn images_of_several_sizes_have_latents_of_several() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    for (number, [width, height]) in [[16, 16], [32, 8], [16, 16], [8, 32], [36, 9]].into_iter().enumerate() {
        let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(7 * x + 5 * y) as u8; 3]));
        image.save(root.path().join(format!("a/{number}.png"))).unwrap();
    }
    let folder = ImageFolder::open(root.path(), 16, OnBroken::Refuse).unwrap();
    let config = data::BucketConfig { step: 4, sizes: vec![] };
    let folder = folder.with_buckets(&config).unwrap();
    let encoded = Encoded::new(&folder, &Halves, &Device::default(), &mut |_| Ok(())).unwrap();
    assert_eq!((encoded.shape(), encoded.len()), ([1, 8, 8], Some(5)));
    assert_eq!(encoded.buckets(), [[1, 4, 16], [1, 8, 8], [1, 16, 4]]);
    assert_eq!([0, 1, 2, 3, 4].map(|index| encoded.bucket(index)), [1, 0, 1, 2, 0]);
    for index in 0..5 {
        let seen = Variation { seed: 0, position: 0, flip: false };
        let image = folder.variant(index, seen).unwrap().pixels;
        let [_, _, width] = folder.buckets()[folder.bucket(index)];
        let expected = [image[0], image[1], image[width], image[width + 1]].iter().sum::<f32>() / 4.0;
        let latent = encoded.variant(index, seen).unwrap().pixels;
        assert!((latent[0] - expected).abs() < 1e-6, "{index}: {} {expected}", latent[0]);
        let expected: usize = encoded.buckets()[encoded.bucket(index)].iter().product();
        assert_eq!(latent.len(), expected);
    }
    // For measures, which see one shape: also where there are as many numbers.
    assert_eq!(encoded.example(0).unwrap().pixels.len(), 64);
    let error = encoded.example(1).unwrap_err().to_string();
    assert!(
        error.starts_with("example 1 is 4 x 16, and not 8 x 8: latents of several sizes are for training"),
        "{error}"
    );
}

#[test]
fn data_without_end_is_refused() {
    let error = Encoded::new(&Shapes::new(8, 0).unwrap(), &Corner, &Device::default(), &mut |_| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no end"), "{error}");
}
