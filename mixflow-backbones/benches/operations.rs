//! The operations of `mixflow_backbones::ops` against Burn's own, forward and with the backward pass, on the CPU:
//! `cargo bench -p mixflow-backbones`, or with `--profile dev` as `cargo xtask` builds them.
//!
//! Sizes are those of `cargo xtask bench`. Ours and Burn's take turns; printed are the medians and their ratio, below 1 where
//! ours is faster.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;

use burn::optim::{AdamWConfig, Optimizer};
use burn::tensor::module::{self, attention};
use burn::tensor::ops::{AttentionModuleOptions, AvgPoolOptions, ConvOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Distribution, Tensor, activation};
use mixflow_backbones::ops::{self, AdamW, AdamWState, Window};

const ROUNDS: usize = 15;
/// Of a round of one operation, in seconds.
const ROUND: f64 = 0.02;

fn main() {
    println!(
        "{:<24} {:<22} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6}",
        "", "ms", "forward", "Burn", "ratio", "both", "Burn", "ratio"
    );
    for (batch, tokens, width, heads, hidden) in [(64, 16, 128, 4, 512), (8, 256, 384, 6, 1536)] {
        of_blocks(batch, tokens, width, heads, hidden);
    }
    of_images();
    of_steps();
}

/// What SiT, the transformers of RAE and those of text are made of.
fn of_blocks(batch: usize, tokens: usize, width: usize, heads: usize, hidden: usize) {
    let x = [batch, tokens, width];
    let (head, row, example) = (width / heads, [1, 1, width], [batch, 1, width]);
    let to = |outputs: usize, inputs: usize| [1, outputs, inputs];
    compare(
        "linear",
        [x, to(3 * width, width), [1, 1, 3 * width]],
        |[x, w, b]| ops::linear(x, w.squeeze_dim(0), Some(b.flatten(0, 2))),
        |[x, w, b]| module::linear(x, w.squeeze_dim::<2>(0).transpose(), Some(b.flatten(0, 2))),
    );
    compare(
        "linear, down",
        [[batch, tokens, hidden], to(width, hidden), row],
        |[x, w, b]| ops::linear(x, w.squeeze_dim(0), Some(b.flatten(0, 2))),
        |[x, w, b]| module::linear(x, w.squeeze_dim::<2>(0).transpose(), Some(b.flatten(0, 2))),
    );
    compare(
        "attention",
        [[batch, tokens, 3 * width]],
        |[qkv]| ops::attention(qkv, heads),
        |[qkv]| {
            let parts = qkv.reshape([batch, tokens, 3, heads, head]).permute([2, 0, 3, 1, 4]);
            let [q, k, v] = [0, 1, 2].map(|part| parts.clone().narrow(0, part, 1).squeeze_dim::<4>(0));
            let mixed = attention(q, k, v, None, None, AttentionModuleOptions::default());
            mixed.swap_dims(1, 2).reshape([batch, tokens, width])
        },
    );
    let ones = Tensor::ones([width], &Device::flex());
    compare("layer_norm", [x], |[x]| ops::layer_norm(x, 1e-6), |[x]| module::layer_norm(x, ones.clone(), None, 1e-6));
    compare(
        "affine_layer_norm",
        [x, row, row],
        |[x, w, b]| ops::affine_layer_norm(x, w.flatten(0, 2), b.flatten(0, 2), 1e-6),
        |[x, w, b]| module::layer_norm(x, w.flatten(0, 2), Some(b.flatten(0, 2)), 1e-6),
    );
    compare(
        "modulated_layer_norm",
        [x, example, example],
        |[x, shift, scale]| ops::modulated_layer_norm(x, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-6),
        |[x, shift, scale]| module::layer_norm(x, ones.clone(), None, 1e-6) * (scale + 1.0) + shift,
    );
    let rms = |x: Tensor<3>| x.clone() / (x.square().mean_dim(2) + 1e-6).sqrt();
    compare(
        "modulated_rms_norm",
        [x, row, example, example],
        |[x, w, shift, scale]| {
            ops::modulated_rms_norm(x, w.flatten(0, 2), shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-6)
        },
        |[x, w, shift, scale]| rms(x) * w * (scale + 1.0) + shift,
    );
    compare(
        "qk_rms_norm",
        [[batch, tokens, 3 * width], [1, 1, head], [1, 1, head]],
        |[qkv, q, k]| ops::qk_rms_norm(qkv, q.flatten(0, 2), k.flatten(0, 2), heads, 1e-6),
        |[qkv, q, k]| {
            let part = |index| qkv.clone().narrow(2, index * width, width).reshape([batch, tokens * heads, head]);
            let [q, k] = [rms(part(0)) * q, rms(part(1)) * k];
            Tensor::cat(vec![q.reshape(x), k.reshape(x), qkv.narrow(2, 2 * width, width)], 2)
        },
    );
    let table = || random::<2>([tokens, head]);
    let (cos, sin) = (table(), table());
    compare(
        "rotate",
        [x],
        |[x]| ops::rotate(x, cos.clone(), sin.clone(), heads, ops::Pairs::Adjacent),
        |[x]| {
            let pairs: Tensor<5> = x.reshape([batch, tokens, heads, head / 2, 2]);
            let turned = Tensor::cat(vec![-pairs.clone().narrow(4, 1, 1), pairs.clone().narrow(4, 0, 1)], 4);
            let table = |table: &Tensor<2>| table.clone().reshape([1, tokens, 1, head / 2, 2]);
            (pairs * table(&cos) + turned * table(&sin)).reshape([batch, tokens, width])
        },
    );
    compare(
        "gated_residual",
        [x, x, example],
        |[x, y, gate]| ops::gated_residual(x, y, gate.squeeze_dim(1)),
        |[x, y, gate]| x + y * gate,
    );
    let inner = [batch, tokens, hidden];
    compare("gelu", [inner], |[x]| ops::gelu(x), |[x]| activation::gelu(x));
    compare("gelu_tanh", [inner], |[x]| ops::gelu_tanh(x), |[x]| activation::gelu_approximate(x));
    compare(
        "swiglu",
        [[batch, tokens, 2 * hidden]],
        |[x]| ops::swiglu(x),
        |[x]| activation::silu(x.clone().narrow(2, 0, hidden)) * x.narrow(2, hidden, hidden),
    );
    compare("silu", [[batch, 1, width]], |[x]| ops::silu(x), |[x]| activation::silu(x));
}

/// What autoencoders and Inception are made of.
fn of_images() {
    let image = [1, 512, 32, 32];
    let channel = [1, 512, 1, 1];
    compare(
        "conv2d 3x3",
        [image, [512, 512, 3, 3], channel],
        |[x, w, b]| ops::conv2d(x, w, Some(b.flatten(0, 3)), Window::padded([1, 1])),
        |[x, w, b]| module::conv2d(x, w, Some(b.flatten(0, 3)), ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
    );
    compare(
        "conv2d 1x1",
        [image, [512, 512, 1, 1], channel],
        |[x, w, b]| ops::conv2d(x, w, Some(b.flatten(0, 3)), Window::default()),
        |[x, w, b]| module::conv2d(x, w, Some(b.flatten(0, 3)), ConvOptions::new([1, 1], [0, 0], [1, 1], 1)),
    );
    compare(
        "conv2d 3x3, every 2nd",
        [[8, 32, 149, 149], [32, 32, 3, 3], [1, 32, 1, 1]],
        |[x, w, b]| ops::conv2d(x, w, Some(b.flatten(0, 3)), Window::default().every(2)),
        |[x, w, b]| module::conv2d(x, w, Some(b.flatten(0, 3)), ConvOptions::new([2, 2], [0, 0], [1, 1], 1)),
    );
    let group_norm = |x: Tensor<4>, w: Tensor<4>, b: Tensor<4>| {
        let groups = x.reshape([1, 32, 512 / 32 * 32 * 32]);
        let normalised = module::layer_norm(groups, Tensor::ones([512 / 32 * 32 * 32], &Device::flex()), None, 1e-6);
        normalised.reshape(image) * w + b
    };
    compare(
        "group_norm",
        [image, channel, channel],
        |[x, w, b]| ops::group_norm(x, w.flatten(0, 3), b.flatten(0, 3), 32, 1e-6),
        |[x, w, b]| group_norm(x, w, b),
    );
    compare(
        "group_norm_silu",
        [image, channel, channel],
        |[x, w, b]| ops::group_norm_silu(x, w.flatten(0, 3), b.flatten(0, 3), 32, 1e-6),
        |[x, w, b]| activation::silu(group_norm(x, w, b)),
    );
    compare(
        "upsample",
        [image],
        |[x]| ops::upsample(x),
        |[x]| {
            let twice = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([64, 64]);
            module::interpolate(x, twice)
        },
    );
    compare(
        "max_pool2d",
        [[8, 64, 147, 147]],
        |[x]| ops::max_pool2d(x, [3, 3], Window::default().every(2)),
        |[x]| module::max_pool2d(x, burn::tensor::ops::MaxPoolOptions::new([3, 3]).with_stride([2, 2])),
    );
    compare(
        "average_pool2d",
        [[8, 192, 35, 35]],
        |[x]| ops::average_pool2d(x, [3, 3], Window::padded([1, 1])),
        |[x]| {
            let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
            module::avg_pool2d(x, options.with_count_include_pad(false))
        },
    );
}

/// What is done with every parameter of a step: its optimizer with the moving average, and the norm of its gradient.
fn of_steps() {
    for shape in [[512, 128], [1536, 384]] {
        let (gradient, zeros) = (random::<2>(shape), || Tensor::<2>::zeros(shape, &Device::flex()));
        let adamw = AdamW {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            gradient_scale: 0.5,
            average_decay: 0.999,
            step: 3,
        };
        let (parameter, average) = (random(shape), Some(zeros()));
        let mut ours = Some(AdamWState { parameter, first_moment: zeros(), second_moment: zeros(), average });
        let theirs = AdamWConfig::new().with_weight_decay(0.01).build();
        let mut state = Some((random::<2>(shape), None, zeros()));
        let forward = turns(&mut || ours = ours.take().map(|state| adamw.update(state, gradient.clone())), &mut || {
            let (parameter, moments, average) = state.take().expect("put back below");
            let (parameter, moments) = theirs.step(1e-4, parameter, gradient.clone() * 0.5, moments);
            let average = average * 0.999 + parameter.clone() * 0.001;
            state = Some((parameter, moments, average));
        });
        print("AdamW with average", &shape, forward, None);
        let forward = turns(&mut || drop(black_box(ops::squared_norm(gradient.clone()))), &mut || {
            drop(black_box(gradient.clone().square().sum()))
        });
        print("squared_norm", &shape, forward, None);
    }
}

/// Times both on random inputs of these shapes; the gradient is that of the sum.
fn compare<const D: usize, const E: usize, const N: usize>(
    name: &str,
    shapes: [[usize; D]; N],
    ours: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    burn: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    let inputs = shapes.map(random);
    let difference = (ours(inputs.clone()) - burn(inputs.clone())).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-3, "{name}: {difference} apart");
    let forward = turns(&mut || drop(black_box(ours(inputs.clone()))), &mut || drop(black_box(burn(inputs.clone()))));
    let tracked = inputs.map(|input| input.autodiff().require_grad());
    let both = turns(&mut || drop(black_box(ours(tracked.clone()).sum().backward())), &mut || {
        drop(black_box(burn(tracked.clone()).sum().backward()))
    });
    print(name, &shapes[0], forward, Some(both));
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Median seconds of a call of each.
fn turns(ours: &mut dyn FnMut(), burn: &mut dyn FnMut()) -> [f64; 2] {
    let time = |f: &mut dyn FnMut(), calls: usize| {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        start.elapsed().as_secs_f64() / calls as f64
    };
    ours();
    burn();
    let calls = ((ROUND / time(ours, 1).max(time(burn, 1))) as usize).clamp(1, 10_000);
    let mut rounds = [vec![], vec![]];
    for _ in 0..ROUNDS {
        rounds[0].push(time(ours, calls));
        rounds[1].push(time(burn, calls));
    }
    rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}

fn print(name: &str, shape: &[usize], forward: [f64; 2], both: Option<[f64; 2]>) {
    print!("{name:<24} {:<22}", format!("{shape:?}"));
    for [ours, burn] in [Some(forward), both].into_iter().flatten() {
        print!(" {:>8.3} {:>8.3} {:>6.2}", ours * 1e3, burn * 1e3, ours / burn);
    }
    println!();
}
