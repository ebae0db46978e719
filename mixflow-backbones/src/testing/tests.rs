use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::*;
use crate::dit::Dit;
use crate::dit_dh::{DitDhConfig, Stack};
use crate::lightning_dit::LightningDitConfig;
use crate::repa::RepaConfig;
use crate::sit::SitConfig;
use crate::{ClassLabels, Condition, Linear};

#[test]
fn sit_and_dit_pass() {
    let device = Device::default().autodiff();
    let tiny = SitConfig { width: 16, depth: 2, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
    for (learn_sigma, classes) in [(true, 3), (false, 10)] {
        let config = SitConfig { learn_sigma, classes, ..tiny.clone() };
        let labels = ClassLabels::new(&[0, 2, classes, 1], classes, &device);
        check(&config.init(0, &device), [4, 4, 4, 4], labels.clone());
        if !learn_sigma {
            check(&Dit::from(config.init(0, &device)), [4, 4, 4, 4], labels);
        }
    }
}

#[test]
fn repa_passes() {
    let device = Device::default().autodiff();
    let tiny = RepaConfig {
        input_size: 4,
        width: 16,
        depth: 2,
        heads: 2,
        hidden: 32,
        classes: 3,
        encoder_depth: 1,
        projector_hidden: 8,
        ..RepaConfig::base(2)
    };
    for (qk_norm, projectors) in [(false, vec![6]), (true, vec![6, 5])] {
        let config = RepaConfig { qk_norm, projectors, ..tiny.clone() };
        let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
        check_aligned(&config.init(0, &device), [4, 4, 4, 4], labels);
    }
}

#[test]
fn dit_dh_passes() {
    let device = Device::default().autodiff();
    let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
    for trained_tables in [true, false] {
        let config = DitDhConfig {
            input_size: 4,
            channels: 8,
            encoder: Stack { width: 16, depth: 1, heads: 2, hidden: 24 },
            head: Stack { width: 24, depth: 1, heads: 2, hidden: 32 },
            classes: 3,
            trained_tables,
            ..DitDhConfig::small()
        };
        check(&config.init(0, &device), [4, 8, 4, 4], labels.clone());
    }
}

#[test]
fn lightning_dit_passes() {
    let device = Device::default().autodiff();
    let labels = ClassLabels::new(&[0, 2, 3, 1], 3, &device);
    let tiny = LightningDitConfig {
        input_size: 4,
        channels: 8,
        width: 16,
        depth: 2,
        heads: 2,
        hidden: 24,
        classes: 3,
        ..LightningDitConfig::extra_large()
    };
    for config in [LightningDitConfig { patch: 2, learn_sigma: true, ..tiny.clone() }, tiny] {
        check(&config.init(0, &device), [4, 8, 4, 4], labels.clone());
    }
}

/// What is wrong with a [`Broken`] network.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Leak,
    Shape,
    Infinite,
    Gradient,
    Unused,
    AlignedOutput,
    AlignedLeak,
    NoProjection,
}

#[derive(Module, Debug)]
struct Broken {
    linear: Linear,
    #[module(skip)]
    fault: Fault,
}

#[derive(Clone, Debug)]
struct Shift {
    shift: Tensor<1>,
    leaks: bool,
}

impl Condition for Shift {
    fn mask(self, mask: Tensor<1, Bool>) -> Self {
        let shift = if self.leaks { self.shift * 0.5 } else { self.shift };
        Self { shift: shift.mask_fill(mask, 0.0), ..self }
    }
    fn null(self) -> Self {
        Self { shift: self.shift.zeros_like(), ..self }
    }
    fn select(self, rows: Tensor<1, Int>) -> Self {
        Self { shift: self.shift.select(0, rows), ..self }
    }
    fn on(self, device: &Device) -> Self {
        Self { shift: self.shift.to_device(device), ..self }
    }
}

impl Backbone for Broken {
    type Condition = Shift;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: Shift) -> Tensor<4> {
        let [batch, ..] = x.dims();
        let zero = self.linear.weight.val() - self.linear.weight.val().detach();
        let y = self.linear.forward(x) + (time + condition.shift).reshape([batch, 1, 1, 1]);
        match self.fault {
            Fault::None | Fault::AlignedOutput | Fault::AlignedLeak | Fault::NoProjection => y,
            Fault::Leak => y.clone() + y.mean_dim(0) * 1e-3,
            Fault::Shape => y.repeat_dim(1, 2),
            Fault::Infinite => y / 0.0,
            Fault::Gradient => y + zero.sqrt().sum().reshape([1, 1, 1, 1]),
            Fault::Unused => y.detach(),
        }
    }
}

impl AlignedBackbone for Broken {
    fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, condition: Shift) -> Aligned {
        let output = self.forward(x, time, condition);
        let tokens: Tensor<3> = output.clone().flatten(1, 2);
        match self.fault {
            Fault::AlignedOutput => Aligned { output: output * 1.001, projections: vec![tokens] },
            Fault::AlignedLeak => {
                Aligned { output, projections: vec![tokens.clone(), tokens.clone() + tokens.mean_dim(0)] }
            }
            Fault::NoProjection => Aligned { output, projections: vec![] },
            _ => Aligned { output, projections: vec![tokens] },
        }
    }
}

fn complaint(fault: Fault, leaks: bool) -> Option<String> {
    let device = Device::default().autodiff();
    let linear = crate::init::Initializer::new(0, &device).xavier_linear(3, 3);
    let condition = Shift { shift: Tensor::from_data([0.5f32, -1.0, 2.0], &device), leaks };
    let checked = catch_unwind(AssertUnwindSafe(|| check_aligned(&Broken { linear, fault }, [3, 1, 2, 3], condition)));
    let panic = checked.err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string()))
}

#[test]
fn faults_are_named() {
    assert_eq!(complaint(Fault::None, false), None);
    for (fault, leaks, expected) in [
        (Fault::Leak, false, "batch independence: row 0 differs by"),
        (Fault::Shape, false, "output shape: expected that of the input, [3, 1, 2, 3], found [3, 2, 2, 3]"),
        (Fault::Infinite, false, "finite output: "),
        (Fault::Gradient, false, "gradients: that of linear.weight is infinite or not a number"),
        (Fault::Unused, false, "gradients: none reaches the parameter linear."),
        (Fault::None, true, "null condition: masking the first row changes the others by"),
        (Fault::AlignedOutput, false, "alignment: the output is not that of `forward`"),
        (Fault::AlignedLeak, false, "alignment: row 0 of projection 1 differs by"),
        (Fault::NoProjection, false, "alignment: there are no projections"),
    ] {
        let found = complaint(fault, leaks).unwrap();
        assert!(found.starts_with(expected), "{fault:?}: {found}");
    }
}
