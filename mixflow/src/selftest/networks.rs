//! Networks of every kind, as small as they can be with everything that they can have.

use burn::tensor::{Device, Tensor};
use mixflow_backbones::autoencoder::KlAutoencoderConfig;
use mixflow_backbones::dit_dh::{DitDhConfig, Stack};
use mixflow_backbones::lightning_dit::LightningDitConfig;
use mixflow_backbones::repa::RepaConfig;
use mixflow_backbones::sit::SitConfig;
use mixflow_backbones::{Autoencoder, ClassLabels, Network, NetworkConfig};
use mixflow_schedules::{Linear, MixFlow};

use super::Subject;
use super::subject::noise;
use crate::objective::{Alignment, Batch, FlowMatching};
use crate::train::Tensors;

const BATCH: usize = 4;
const CLASSES: usize = 10;

type Objective = FlowMatching<Linear, MixFlow>;

/// The blocks of all of them; widths are divisible by 8, as fast kernels ask for.
const STACK: Stack = Stack { width: 64, depth: 2, heads: 2, hidden: 128 };

fn transformer() -> SitConfig {
    let Stack { width, depth, heads, hidden } = STACK;
    SitConfig { input_size: 8, width, depth, heads, hidden, classes: CLASSES, ..SitConfig::small(2) }
}

fn objective() -> Objective {
    FlowMatching { condition_dropout: 0.25, ..FlowMatching::new(Linear) }.timesteps(MixFlow::new(0.8))
}

fn batch(config: &NetworkConfig, device: &Device) -> Batch<ClassLabels> {
    let [channels, height, width] = config.shape();
    let labels = ClassLabels::new(&[0, 3, 7, 9], CLASSES, device);
    let [rows, columns] = config.token_grid();
    let features =
        (config.projections().iter()).map(|&width| noise([1, BATCH, rows * columns, width], 9, device).squeeze_dim(0));
    let images = noise([BATCH, channels, height, width], 0, device);
    Batch::new(images, labels, 0).with_features(features.collect())
}

fn subject<O: crate::objective::Objective<Network>>(
    config: NetworkConfig,
    objective: O,
) -> Subject<'static, Network, O> {
    let network = config.init(0, &Device::flex());
    Subject::new(config.name(), network, objective, move |device| batch(&config, device))
}

pub(super) fn sit() -> Subject<'static, Network, Objective> {
    subject(NetworkConfig::Sit(transformer()), objective())
}

/// All networks but the aligned one.
pub(super) fn plain() -> Vec<Subject<'static, Network, Objective>> {
    let Stack { width, depth, heads, hidden } = STACK;
    let (input_size, channels, classes) = (4, 8, CLASSES);
    let head = Stack { width: 128, depth: 1, ..STACK };
    let lightning = LightningDitConfig { width, depth, heads, hidden, ..LightningDitConfig::extra_large() };
    let configs = [
        NetworkConfig::Dit(SitConfig { learn_sigma: true, ..transformer() }),
        NetworkConfig::DitDh(DitDhConfig {
            input_size,
            channels,
            classes,
            encoder: STACK,
            head,
            ..DitDhConfig::small()
        }),
        NetworkConfig::LightningDit(LightningDitConfig { input_size, channels, classes, ..lightning }),
    ];
    [sit()].into_iter().chain(configs.map(|config| subject(config, objective()))).collect()
}

/// The network with projectors, normalised queries and keys and the loss of REPA.
pub(super) fn aligned() -> Subject<'static, Network, Alignment<Objective>> {
    let SitConfig { input_size, width, depth, heads, hidden, classes, .. } = transformer();
    let config = RepaConfig {
        input_size,
        width,
        depth,
        heads,
        hidden,
        classes,
        encoder_depth: 1,
        projectors: vec![32],
        projector_hidden: 64,
        qk_norm: true,
        ..RepaConfig::base(2)
    };
    subject(NetworkConfig::Repa(config), Alignment { objective: objective(), weight: 0.5 })
}

/// Images of random latents, by the decoder of Stable Diffusion's kind.
pub(super) fn decoded(device: &Device) -> Tensors {
    let config =
        KlAutoencoderConfig { widths: vec![32, 64], depth: 1, groups: 8, ..KlAutoencoderConfig::stable_diffusion() };
    let latents: Tensor<4> = noise([2, 4, 8, 8], 0, device);
    [("images".into(), config.init(0, device).decode(latents).into_data())].into()
}
