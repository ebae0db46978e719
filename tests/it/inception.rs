//! The Inception network against torch-fidelity, pytorch-fid and TensorFlow, with weights that a formula gives.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::LazyLock;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::data::{Channels, Dataset, Digits, Example};
use mixflow::evaluation::ImageFeatures;
use mixflow::evaluation::inception::{
    EvaluationOptions, InceptionNetwork, InceptionSet, PoolFeatures, Setting, Statistics, evaluate, features,
};
use mixflow::evaluation::metric::{Features, Gaussian};
use mixflow::files::images::ByteImage;
use mixflow::files::npz::{ElementType, NpzWriter};
use mixflow::sampling::Images;
use mixflow_backbones::inception::{Inception, Resize, SIDE, official_key};
use mixflow_backbones::weights::Weights;
use mixflow_tests::{Fixture, close};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| Fixture::read("metrics/inception_v3"));

/// A file of weights, with the counts of batches that newer versions of PyTorch store.
static WEIGHTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = FIXTURE.manifest["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            let name = entry[1].as_str().expect("a name");
            let shape: Vec<usize> =
                entry[2].as_array().expect("a shape").iter().map(|n| n.as_u64().expect("a side") as usize).collect();
            let values = parameter(name, entry[0].as_u64().expect("an index"), &shape);
            (name.into(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let counts = tensors.iter().filter_map(|(name, ..)| name.strip_suffix("running_mean"));
    let counts: Vec<_> = counts.map(|unit| (format!("{unit}num_batches_tracked"), vec![], vec![0; 8])).collect();
    tensors.extend(counts);
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let dtype = if shape.is_empty() { Dtype::I64 } else { Dtype::F32 };
        (name, TensorView::new(dtype, shape.clone(), bytes).expect("bytes of this shape"))
    });
    safetensors::serialize(views, None).expect("a file")
});

static NETWORK: LazyLock<Inception> = LazyLock::new(|| {
    let weights = Weights::from_safetensors(&WEIGHTS).expect("weights");
    Inception::new(&Device::default()).load(weights).expect("the published layout")
});

/// The formula of the manifest.
fn parameter(name: &str, k: u64, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape[1..].iter().product();
    let uniform = |i: u64| {
        let index = (3_u64 << 48).wrapping_add(k << 32).wrapping_add(i);
        let mut z = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 * 2_f64.powi(-53)
    };
    let value = |u: f64| match name {
        "fc.weight" => (2.0 * u - 1.0) * (3.0 / 2048.0_f64).sqrt(),
        "fc.bias" => 0.1 * (2.0 * u - 1.0),
        _ if name.ends_with("conv.weight") => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
        _ if name.ends_with("bn.weight") => 0.8 + 0.4 * u,
        _ if name.ends_with("running_var") => 0.5 + u,
        _ => 0.2 * (2.0 * u - 1.0),
    };
    (0..shape.iter().product::<usize>() as u64).map(|i| value(uniform(i)) as f32).collect()
}

/// A recorded image, `[height, width, channels]`.
fn image(index: usize) -> (Vec<u8>, [usize; 3]) {
    let data = FIXTURE.data(&format!("in.image{index}"));
    let [channels, height, width] = data.shape()[..] else { panic!("no image") };
    let planes: Vec<u8> = data.iter::<u8>().collect();
    let bytes = (0..height * width * channels).map(|i| planes[i % channels * height * width + i / channels]).collect();
    (bytes, [height, width, channels])
}

fn input(index: usize, resize: Resize) -> Tensor<4> {
    let (bytes, shape) = image(index);
    Tensor::from_data(TensorData::new(resize.input(&bytes, shape), [1, 3, SIDE, SIDE]), &Device::default())
}

fn assert_close(name: &str, found: Tensor<2>) {
    let shape = FIXTURE.data(name).shape().to_vec();
    FIXTURE.assert_close(
        name,
        TensorData::new(found.into_data().try_to_vec::<f32>().expect("f32"), shape),
        FIXTURE.tolerance(None),
    );
}

#[test]
fn formula_weights_are_those_of_the_manifest() {
    let weights = Weights::of(&*NETWORK, official_key);
    let checks = FIXTURE.manifest["parameter_checks"].as_object().expect("checks");
    assert_eq!(weights.iter().len(), FIXTURE.manifest["parameters"].as_array().expect("a list").len());
    for (name, check) in checks {
        let values: Vec<f32> =
            weights.get(name).expect("a parameter").data().expect("in memory").iter::<f32>().collect();
        for i in 0..3 {
            assert_eq!(values[i], check["first3"][i].as_f64().expect("a number") as f32, "{name}");
        }
        let sum: f64 = values.iter().copied().map(f64::from).sum();
        assert!((sum - check["sum_float64"].as_f64().expect("a number")).abs() < 1e-9, "{name}");
    }
}

#[test]
fn both_resizes_equal_the_references() {
    for index in 0..2 {
        let (bytes, shape) = image(index);
        for (resize, name) in [(Resize::Adm, "tf1"), (Resize::PytorchFid, "halfpixel")] {
            let planes = resize.resize(&bytes, shape);
            let every = |i: usize| planes[i / 529 * SIDE * SIDE + i / 23 % 23 * 13 * SIDE + i % 23 * 13];
            let found = TensorData::new((0..3 * 529).map(every).collect::<Vec<f32>>(), [3, 23, 23]);
            FIXTURE.assert_close(&format!("out.image{index}.resized_{name}_sub13"), found, FIXTURE.tolerance(None));
        }
    }
}

#[test]
fn every_recorded_feature_is_matched() {
    for index in 0..2 {
        let out = |name: &str| format!("out.image{index}.{name}");
        let activations = NETWORK.forward(input(index, Resize::Adm));
        for (width, mean) in [64, 192, 768, 2048].into_iter().zip(activations.means()) {
            assert_close(&out(&width.to_string()), mean);
        }
        assert_close(&out("logits_unbiased"), NETWORK.unbiased_logits(activations.pool()));
        assert_close(&out("logits"), NETWORK.fc.forward(activations.pool()));
        assert_close(&out("spatial_chw"), activations.spatial.flatten(1, 3));
        assert_close(&out("pytorch_fid_2048"), NETWORK.forward(input(index, Resize::PytorchFid)).pool());
    }
}

#[test]
fn probabilities_leave_the_bias_out() {
    let pool = FIXTURE.tensor::<1>("out.image0.2048", &Device::default()).unsqueeze();
    let found: Vec<f64> = NETWORK.probabilities(pool).into_data().iter::<f64>().collect();
    let logits = FIXTURE.values("out.image0.logits_unbiased");
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    for (probability, logit) in found.iter().zip(&logits) {
        // f32 sums of 2048 products.
        assert!((probability - logit.exp() / total).abs() < 1e-5);
    }
}

#[test]
fn a_feature_depends_on_neither_the_batch_nor_its_neighbours() {
    let [a, b] = [0, 1].map(|index| {
        let (bytes, shape) = image(index);
        ByteImage { bytes, shape }
    });
    let mut told = vec![];
    let images = [&a, &b, &a].map(|image| Ok(image.clone()));
    let found = features(images, &NETWORK, Resize::Adm, |done| told.push(done)).expect("features");
    assert_eq!((found.pool.rows(), told), (3, vec![3]));
    // The same image at two places of a batch: the same bits.
    let logits_found = found.logits.as_ref().expect("these are no reference");
    assert_eq!((found.pool.row(0), logits_found.row(0)), (found.pool.row(2), logits_found.row(2)));
    let tolerance = FIXTURE.tolerance(None);
    for index in 0..2 {
        close("pool", found.pool.row(index), &FIXTURE.values(&format!("out.image{index}.2048")), tolerance);
        let logits = FIXTURE.values(&format!("out.image{index}.logits_unbiased"));
        close("logits", logits_found.row(index), &logits, tolerance);
    }
    let spatial = [0, 1].map(|index| FIXTURE.values(&format!("out.image{index}.spatial_chw")));
    let mean: Vec<f64> = spatial[0].iter().zip(&spatial[1]).map(|(a, b)| (2.0 * a + b) / 3.0).collect();
    close("spatial", found.spatial.mean(), &mean, tolerance);
}

/// An archive as guided-diffusion's reference batches are: images, and statistics of other ones.
fn reference_batch(path: &Path, images: &[u8], shape: &[usize], mean: f64) {
    let mut writer = NpzWriter::new(Cursor::new(vec![]));
    writer.array("arr_0", ElementType::U8, shape).expect("a header");
    writer.write(images).expect("images");
    for (name, side, value) in [("mu", 2048, mean), ("mu_s", 2023, 0.0)] {
        writer.array(name, ElementType::F64, &[side]).expect("a header");
        writer.write(&value.to_le_bytes().repeat(side)).expect("a mean");
        writer.array(&name.replace("mu", "sigma"), ElementType::F64, &[side, side]).expect("a header");
        writer.write(&vec![0; 8 * side * side]).expect("a covariance");
    }
    fs::write(path, writer.finish().expect("an archive").into_inner()).expect("written");
}

#[test]
fn statistics_of_the_other_resize_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let wide = |width: usize| Gaussian::new(vec![0.0; width], vec![0.0; width * width], 0).expect("a covariance");
    let told = |spatial: Option<Gaussian>, resize| {
        let path = folder.path().join("statistics.npz");
        Statistics { pool: wide(2048), spatial }.write(&path).expect("written");
        InceptionSet::read(&path, &NETWORK, resize, |_, _| panic!("there are no images")).expect("statistics").remarks
    };
    let pytorch = told(None, Resize::Adm);
    assert!(pytorch.len() == 1 && pytorch[0].ends_with("--resize pytorch-fid"), "{pytorch:?}");
    let adm = told(Some(wide(2023)), Resize::PytorchFid);
    assert!(adm.len() == 1 && adm[0].ends_with("--resize adm"), "{adm:?}");
    for (spatial, resize) in [(None, Resize::PytorchFid), (Some(wide(2023)), Resize::Adm)] {
        assert_eq!(told(spatial, resize), Vec::<String>::new());
    }
}

#[test]
fn images_are_measured_against_a_reference_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("inception.safetensors"), &*WEIGHTS).expect("written");
    let (description, network) =
        InceptionNetwork::read(&at("inception.safetensors"), Resize::Adm, Inception::new(&Device::default()))
            .expect("weights");
    assert!(!description.published && description.sha256.len() == 64);

    let bytes: Vec<u8> = (0..5 * 4 * 6 * 3).map(|i: u32| (i * i * 31 % 251) as u8).collect();
    reference_batch(&at("reference.npz"), &bytes, &[5, 4, 6, 3], 0.25);
    let mut told = vec![];
    let reference =
        InceptionSet::read(&at("reference.npz"), &network, Resize::Adm, |done, count| told.push((done, count)));
    let reference = reference.expect("a reference batch");
    // The statistics are the file's, what the other metrics read is of its images.
    assert_eq!((told, reference.given_statistics, reference.statistics.pool.mean()[9]), (vec![(5, 5)], true, 0.25));
    let images = bytes.chunks(72).map(|bytes| Ok(ByteImage { bytes: bytes.into(), shape: [4, 6, 3] }));
    let same = features(images, &network, Resize::Adm, |_| {}).expect("features");
    assert_eq!(reference.features.as_ref().expect("images").pool, same.pool);
    // A comparison sees the same of images that are planes of numbers.
    let planes = bytes.chunks(72).flat_map(|image| (0..72).map(|at| image[at % 24 * 3 + at / 24]));
    let pixels = planes.map(|byte| (f32::from(byte) - 127.5) / 127.5).collect();
    let images = Images { pixels, shape: [5, 3, 4, 6], ..Images::default() };
    let seen = PoolFeatures { network: &network, resize: Resize::Adm }.features(&images);
    assert_eq!(seen.expect("features"), same.pool);

    // Narrow statistics in place of the wide ones, whose Fréchet distance takes long.
    let narrow = |sample: &InceptionSet| {
        let features = sample.features.clone().expect("images");
        let pool = features.pool.iter().flat_map(|row| &row[..3]).copied().collect();
        let pool = Gaussian::from_features(&Features::new(5, 3, pool).expect("features"));
        let statistics = Statistics { pool: pool.expect("five rows"), spatial: None };
        InceptionSet { statistics, features: Some(features), given_statistics: false, remarks: vec![] }
    };
    let generated = narrow(&InceptionSet::try_from(same).expect("a sample"));
    let (name, options) = (("reference", &narrow(&reference)), EvaluationOptions::default());
    let found = evaluate(name, ("generated", &generated), description, options, Setting::default()).expect("numbers");
    assert!(found.fid.abs() < 1e-6, "{found}");
    assert_eq!((found.precision, found.recall, found.generated.images), (Some(1.0), Some(1.0), Some(5)));
    assert!(found.to_string().contains("do not compare these numbers with those of papers"));
}

/// Images that nobody can read, so many that no memory holds their features.
#[derive(Debug)]
struct Endless(Vec<String>);

impl Dataset for Endless {
    fn len(&self) -> Option<u64> {
        Some(1 << 40)
    }

    fn classes(&self) -> &[String] {
        &self.0
    }

    fn shape(&self) -> [usize; 3] {
        [3, 8, 8]
    }

    fn example(&self, _: u64) -> Result<Example, mixflow::data::Error> {
        panic!("an image was read")
    }
}

#[test]
fn more_training_data_than_memory_holds_are_refused_before_an_image_is_read() {
    let data = Endless(vec!["one".into()]);
    let found = InceptionSet::of_data(&data, 1 << 40, None, &NETWORK, Resize::Adm, |_| {});
    let error = found.expect_err("16 PB").to_string();
    assert!(error.contains("images of the training data") && error.contains("--against"), "{error}");
}

#[test]
fn no_logits_are_kept_of_training_data() {
    let data = Digits::new(8, Channels::Three).expect("digits come along");
    let found = InceptionSet::of_data(&data, 3, None, &NETWORK, Resize::Adm, |_| {}).expect("three images");
    let features = found.features.expect("there are images");
    assert_eq!((features.pool.rows(), features.logits), (3, None));
}
