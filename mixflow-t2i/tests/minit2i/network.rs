//! The network itself, and what it is trained by.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use mixflow::FlowMatching;
use mixflow::backbones::keys::renamed;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Backbone, Condition, testing};
use mixflow::schedules::{Linear, Prediction, Scaled, Timestep, Uniform, Weighting};
use mixflow_t2i::mmjit::official_key;
use mixflow_t2i::{MmJitConfig, TextEmbedding};
use mixflow_tests::{Fixture, Tolerance, assert_gradients, assert_official_names, close};

use crate::{CASE, config, network, text};

#[test]
fn every_activation_is_the_official_one() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let check = |name: &str, found: TensorData| fixture.assert_close(name, found, fixture.tolerance(None));
    let (net, x) = (network(&device), fixture.tensor::<4>("in.x", &device));
    let told = text(&fixture, ["in.context", "in.attn_mask"], &device);
    let time = fixture.tensor::<1>("in.t", &device);
    check("out.x0", net.forward(x.clone(), time.clone(), told.clone()).into_data());
    check("out.x0_null", net.forward(x.clone(), time.clone(), told.clone().null()).into_data());
    // It is not told the time.
    let other = net.forward(x.clone(), time * 0.5, told.clone());
    check("out.x0", other.into_data());

    let (mut image, mut words) = (net.embed(x.clone()), net.embed_text(told.tokens));
    let [pixels, places] = ["out.img_embed", "out.pos_embed"].map(|name| fixture.values(name));
    let expected: Vec<f64> = pixels.iter().zip(places.iter().cycle()).map(|(pixel, place)| pixel + place).collect();
    let found: Vec<f64> = image.to_data().iter().collect();
    close("tokens of the image", &found, &expected, fixture.tolerance(None));
    check("out.txt_embed", words.clone().into_data());
    let angles = net.rotary_embeddings(&x, words.dims()[1]);
    for (k, block) in net.txt_preamble_blocks.iter().enumerate() {
        words = block.forward(words, &angles.text);
        check(&format!("out.preamble{k}"), words.clone().into_data());
    }
    for (k, block) in net.double_blocks.iter().enumerate() {
        (image, words) = block.forward(image, words, &angles);
        check(&format!("out.double{k}.x"), image.clone().into_data());
        // After the last block nobody reads the text.
        if k + 1 < net.double_blocks.len() {
            check(&format!("out.double{k}.txt"), words.clone().into_data());
        }
    }
}

/// That of the square is the official code's: a rectangle is a part of a larger square, wherever its tokens are looked at.
#[test]
fn tokens_of_a_rectangle_stand_as_in_a_square() {
    let device = Device::default();
    let net = network(&device);
    let [.., patch] = net.img_embedder.proj1.weight.dims();
    let [rows, columns, side] = [2, 5, 5];
    let x = Tensor::<4>::random([1, 3, side * patch, side * patch], Distribution::Normal(0.0, 1.0), &device);
    let part = x.clone().narrow(2, 0, rows * patch).narrow(3, 0, columns * patch);
    let first = rows * columns;
    let values = |tokens: Tensor<3>| tokens.narrow(1, 0, first).into_data().iter::<f64>().collect::<Vec<_>>();
    close(
        "tokens",
        &values(net.embed(part.clone())),
        &values(net.embed(x.clone())),
        Tolerance { relative: 1e-5, absolute: 1e-5 },
    );
    let turned = |x: &Tensor<4>| {
        net.rotary_embeddings(x, 3).image.tables().clone().map(|table| table.narrow(0, 0, first).into_data())
    };
    assert_eq!(turned(&part), turned(&x));
    // Turned by 90 degrees, rows are columns: the third token of a column is the third row's first.
    let tall = net.rotary_embeddings(&part.clone().permute([0, 1, 3, 2]), 3).image;
    let [angle, _] = tall.tables().clone().map(|table| table.into_data().iter::<f64>().collect::<Vec<_>>());
    let head = angle.len() / first;
    let row_2 = &angle[2 * rows * head..][..head / 4];
    assert!(row_2.iter().enumerate().all(|(k, cos)| {
        let turn = 2.0 * 10_000f64.powf(-2.0 * k as f64 / (head as f64 / 2.0));
        (cos - turn.cos()).abs() < 1e-6
    }));
    let text = TextEmbedding::of_tokens(Tensor::ones([1, 3, 24], &device));
    assert_eq!(net.forward(part.clone(), Tensor::ones([1], &device), text).dims(), part.dims());
}

/// The loss of the velocity, with this floor; 0 is that of the images.
fn objective(floor: f64, weighting: Weighting) -> FlowMatching<Scaled<Linear>, Uniform> {
    let plain = FlowMatching::new(Scaled { path: Linear, noise: 2.0 });
    FlowMatching { prediction: Prediction::Data, weighting, floor, ..plain }
}

#[test]
fn losses_and_gradients_are_the_official_ones() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let tolerance = fixture.tolerance(None);
    let net = network(&device);
    let (images, noise) =
        (fixture.tensor::<4>("in.image", &device), fixture.tensor::<4>("in.loss.noise_unit", &device));
    // Times by the law that recipes name, from the recorded normal numbers.
    let times = |name: &str| -> Vec<Timestep> {
        let times = fixture.values(&format!("in.{name}.z")).into_iter().map(|z| 1.0 / (1.0 + (0.8 - 0.8 * z).exp()));
        let times: Vec<Timestep> = times.map(|t| Timestep { t, m: t }).collect();
        let found = TensorData::new(times.iter().map(|time| time.t as f32).collect::<Vec<_>>(), [times.len()]);
        fixture.assert_close(&format!("out.{name}.t"), found, tolerance);
        times
    };
    let of = |objective: &FlowMatching<Scaled<Linear>, Uniform>, mask, times: &[Timestep]| {
        let told = text(&fixture, ["in.context", mask], &device);
        objective.losses(&net, images.clone(), told, noise.clone(), times).mean()
    };
    // One of the prompts was dropped, but not beside the images that are nearly without noise.
    let [dropped, whole] = ["out.loss.mask_after_drop", "in.attn_mask"];
    let (drawn, near_data) = (times("loss"), times("loss_clip"));
    let noised = objective(0.05, Weighting::Velocity).noised(images.clone(), noise.clone(), &drawn);
    fixture.assert_close("out.loss.x_t", noised.x.into_data(), tolerance);
    let velocity = of(&objective(0.05, Weighting::Velocity), dropped, &drawn);
    fixture.assert_close("out.loss.velocity_amin0.05", velocity.clone().into_data(), tolerance);
    let jax = of(&objective(0.01, Weighting::Velocity), dropped, &drawn);
    fixture.assert_close("out.loss.velocity_amin0.01_jax", jax.into_data(), tolerance);
    let of_images = of(&objective(0.05, Weighting::None), dropped, &drawn);
    fixture.assert_close("out.loss.x0_mse", of_images.into_data(), tolerance);
    let clipped = of(&objective(0.05, Weighting::Velocity), whole, &near_data);
    fixture.assert_close("out.loss_clip.velocity_amin0.05", clipped.into_data(), tolerance);

    let key = |path: &str| official_key(path).replace("model.net.", "");
    let compared = assert_gradients(&fixture, &net, &mut velocity.backward(), key);
    assert_eq!(compared, fixture.names("out.grad.").len());
}

/// `README.md` of the recorded cases.
#[test]
fn published_sizes_have_the_official_names_and_shapes() {
    for (config, keys, parameters) in
        [(MmJitConfig::base(), "minit2i_b16", 258_122_880), (MmJitConfig::large(), "minit2i_l16", 911_766_696)]
    {
        let network = config.init(0, &Device::default());
        assert_official_names(&network, official_key, keys);
        assert_eq!((config.parameters(), network.num_params() as u64), (parameters, parameters));
    }
    // Half of what `torch.utils.flop_counter` 2.15 counts of the official class, without what it throws away: the text after the
    // last block, and what it makes of the time and of the mean of the text.
    let counted = [MmJitConfig::base(), MmJitConfig::large()].map(|config| config.multiply_adds(256));
    assert_eq!(counted, [200_269_627_392, 657_509_842_944]);
}

/// Numbers in [-1, 1] that depend on their place alone.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 1.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[test]
fn it_passes_the_conformance_checks() {
    let device = Device::default().autodiff();
    let config = MmJitConfig {
        input_size: 8,
        patch: 2,
        width: 16,
        depth: 2,
        preamble: 1,
        heads: 2,
        hidden: 24,
        bottleneck: 6,
        context_width: 6,
        context_length: 5,
        ..MmJitConfig::base()
    };
    // One token of each prompt is none.
    let tokens: Tensor<3> = Tensor::cat(vec![numbers([3, 3, 6], &device), Tensor::zeros([3, 1, 6], &device)], 1);
    testing::check(&config.init(0, &device), [3, 3, 8, 8], TextEmbedding::of_tokens(tokens));
}

#[test]
fn files_of_the_official_trainer_are_read() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let names = fixture.manifest["key_map_mini_t2i"].as_object().expect("a map").clone();
    let trained = |name: &str| Some(names[name].as_str().expect("a name").to_string());
    let net = config(&fixture).init(0, &device);
    let read = |weights: Weights| net.clone().load(weights).expect("the same network");
    let weights = |net: &_| Weights::of(net, official_key).to_safetensors(&[]).expect("weights");
    let expected = weights(&network(&device));
    assert_eq!(weights(&read(fixture.weights("weights.").rename(trained))), expected);
    // As `build_transformer_from_checkpoint` finds it.
    let shorter = |name: &str| Some(renamed(name, &[("model.net.", "net.")]));
    assert_eq!(weights(&read(fixture.weights("weights.").rename(shorter))), expected);
}

#[test]
fn configurations_are_those_of_the_official_class() {
    let read = |text: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).expect("room");
        MmJitConfig::from_diffusers(&file).map_err(|error| error.to_string())
    };
    let class = r#""_class_name": "MiniT2IMMJiTModel""#;
    assert_eq!(read(&format!("{{{class}}}")), Ok(MmJitConfig::base()));
    let large = r#""hidden_size": 1248, "txt_hidden_size": 1248, "cond_vec_size": 1248, "depth_double": 23, "num_heads": 24,
        "head_dim": 52, "mlp_ratio": 2.7"#;
    assert_eq!(read(&format!("{{{class}, {large}}}")), Ok(MmJitConfig::large()));
    for (changed, words) in [
        (r#""txt_hidden_size": 64"#, "txt_hidden_size must be hidden_size, found 64 and 768"),
        (r#""head_dim": 60"#, "hidden_size must be 12 heads of 60, found 768"),
        (r#""prediction": "v""#, "prediction must be \"x\", found \"v\""),
        (r#""patch_size": 15"#, "input_size must be divisible by patch, found 512 and 15"),
    ] {
        let fault = read(&format!("{{{class}, {changed}}}")).expect_err(words);
        assert!(fault.contains(words), "{fault}");
    }
}
