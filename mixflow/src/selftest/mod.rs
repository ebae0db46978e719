//! Whether a device computes as the CPU does: `cargo xtask selftest`.
//!
//! The CPU and GPUs have kernels of their own for the operations of networks, and Burn's for the rest. They are compared
//! operation by operation and on small networks of every kind, from the same weights and random numbers:
//!
//! ```
//! use mixflow::selftest::{Finding, Selftest, Verdict};
//!
//! let device = mixflow::device::named("flex")?;
//! let mut report = |finding: Finding| assert_eq!(finding.verdict, Verdict::Agrees, "{finding:?}");
//! let mut test = Selftest::new(&device, &mut report);
//! test.networks();
//! # Ok::<(), mixflow::Error>(())
//! ```
//!
//! A network of one's own is a [`Subject`].

mod apart;
mod arithmetic;
mod bound;
mod networks;
mod operations;
mod subject;

pub use bound::Verdict;
pub use subject::Subject;

use std::any::Any;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device};
use mixflow_backbones::{Backbone, Precision};

use self::apart::apart;
use self::bound::Bound;
use crate::device::is_cpu;
use crate::objective::{InPrecision, Objective};
use crate::train::Tensors;

/// What was compared, and how far apart it was.
#[derive(Clone, Debug)]
pub struct Finding {
    /// A network, or the device itself.
    pub subject: String,
    /// What of it.
    pub what: &'static str,
    /// The largest relative difference of its tensors, by the norm: of the difference, over that of the tensor or, if that is
    /// larger, of one whose values are as large as those of all tensors on average. Infinite if a tensor is missing, of
    /// another shape or not finite, if all are zero, or if the computation panicked.
    pub difference: f64,
    /// The tensor that differs most, or the panic.
    pub place: String,
    /// The largest difference that rounding explains.
    pub allowed: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Compares a device with the CPU, one thing after the other, and tells what it finds.
pub struct Selftest<'a> {
    device: Device,
    /// Whether the device rounds what it multiplies to 11 bits.
    tf32: bool,
    /// The only subject, in small letters.
    only: Option<String>,
    report: &'a mut dyn FnMut(Finding),
}

impl Debug for Selftest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selftest").field("device", &self.device).field("tf32", &self.tf32).finish_non_exhaustive()
    }
}

impl<'a> Selftest<'a> {
    /// Begins with the matrix products and functions of a device, without autodiff; each finding is told as soon as it is there.
    pub fn new(device: &Device, report: &'a mut dyn FnMut(Finding)) -> Self {
        let mut test = Self { device: device.clone(), tf32: false, only: None, report };
        // Of products alone it is known before whether they are exact.
        test.tf32 = true;
        test.tf32 = test.both("device", bound::PRODUCTS, arithmetic::products) == Verdict::Tf32;
        test.both("device", bound::FUNCTIONS, arithmetic::functions);
        test
    }

    /// Leaves out every subject but those that are called so, or begin so, in whatever capitals: for one that fails.
    #[must_use]
    pub fn only(self, subject: &str) -> Self {
        Self { only: Some(subject.to_lowercase()), ..self }
    }

    /// The operations that networks are built of, with their gradients: where a device has kernels of this project, each of them.
    pub fn operations(&mut self) {
        self.both("operations", bound::OPERATIONS, |device| operations::all(device, DType::F32));
        self.both("operations", bound::ADAMW, operations::adamw);
        let device = self.device.clone();
        if Precision::Bf16.is_supported(&device) {
            let expected = || operations::all(&Device::flex(), DType::F32);
            self.compare("operations", bound::BF16_OPERATIONS, expected, || operations::all(&device, DType::BF16));
        }
    }

    /// All networks for class labels, and an autoencoder's decoder.
    pub fn networks(&mut self) {
        for subject in networks::plain() {
            self.network(&subject);
        }
        self.network(&networks::aligned());
        self.output("autoencoder", networks::decoded);
    }

    /// A network: output, gradients of all parameters, and five training steps on the device and on the CPU; and on the device
    /// itself with blocks that are run again, with products in `bf16`, and with steps so that the CPU remembers for it, where
    /// network and device know that.
    pub fn network<B: Backbone>(&mut self, subject: &Subject<'_, B, impl Objective<B>>) {
        self.network_as(subject, || subject.network.clone());
    }

    /// What a network without training, such as an encoder, makes on a device: tensors by name.
    pub fn output(&mut self, subject: &str, compute: impl Fn(&Device) -> Tensors) {
        self.both(subject, bound::OUTPUT, compute);
    }

    /// The network of a subject, against what stands for it on the device.
    fn network_as<B: Backbone>(&mut self, subject: &Subject<'_, B, impl Objective<B>>, there: impl Fn() -> B) {
        let (device, name) = (&self.device.clone(), subject.name.as_str());
        self.forward_and_backward(subject, &there);
        let (here, cpu) = (&subject.network, &Device::flex());
        self.compare(name, bound::STEPS, || subject.steps(here, cpu), || subject.steps(&there().fork(device), device));

        let (kept, objective) = (|| there().fork(device), &subject.objective);
        if let Some(again) = here.recomputing() {
            let again = || again.clone().fork(device);
            let gradients = |network: B| subject.gradients(&network, objective, device);
            self.compare(name, bound::RECOMPUTED, || gradients(kept()), || gradients(again()));
        }
        let precision = Precision::Bf16;
        if precision.is_supported(device) && here.in_precision(precision).is_some() {
            let rounded = || kept().in_precision(precision).expect("a network that knows bf16");
            let outputs = |network: B| subject.output(&network, device);
            self.compare(name, bound::BF16_OUTPUT, || outputs(kept()), || outputs(rounded()));
            let low = &InPrecision { objective, precision };
            self.compare(
                name,
                bound::BF16_GRADIENTS,
                || subject.gradients(&kept(), objective, device),
                || subject.gradients(&kept(), low, device),
            );
            let steps = |offload| subject.steps_in(precision, offload, &kept(), device);
            self.compare(name, bound::OFFLOADED, || steps(false), || steps(true));
        }
    }

    fn forward_and_backward<B: Backbone>(
        &mut self,
        subject: &Subject<'_, B, impl Objective<B>>,
        there: &impl Fn() -> B,
    ) {
        let (device, cpu) = (&self.device.clone(), &Device::flex());
        let (name, here, there) = (subject.name.as_str(), &subject.network, || there().fork(device));
        self.compare(name, bound::OUTPUT, || subject.output(here, cpu), || subject.output(&there(), device));
        let gradients = |network: &B, device: &Device| subject.gradients(network, &subject.objective, device);
        self.compare(name, bound::GRADIENTS, || gradients(here, cpu), || gradients(&there(), device));
    }

    /// The same computation on the CPU and on the device.
    fn both(&mut self, subject: &str, bound: Bound, compute: impl Fn(&Device) -> Tensors) -> Verdict {
        let device = self.device.clone();
        self.compare(subject, bound, || compute(&Device::flex()), || compute(&device))
    }

    fn compare(
        &mut self,
        subject: &str,
        bound: Bound,
        expected: impl FnOnce() -> Tensors,
        found: impl FnOnce() -> Tensors,
    ) -> Verdict {
        if self.only.as_ref().is_some_and(|only| !subject.to_lowercase().starts_with(only)) {
            return Verdict::Agrees;
        }
        let (difference, place) = catch_unwind(AssertUnwindSafe(|| apart(&expected(), &found())))
            .unwrap_or_else(|panic| (f64::INFINITY, words(&*panic)));
        let verdict = bound.verdict(difference, self.tf32);
        let Bound { what, allowed, .. } = bound;
        (self.report)(Finding { subject: subject.into(), what, difference, place, allowed, verdict });
        verdict
    }
}

/// The short form: the device's arithmetic and operations, and output and gradients of one network. Nothing on the CPU, which others are
/// compared with.
pub fn brief(device: &Device) -> Vec<Finding> {
    let mut findings = vec![];
    if !is_cpu(device) {
        let mut report = |finding| findings.push(finding);
        let (mut test, subject) = (Selftest::new(device, &mut report), networks::sit());
        test.operations();
        test.forward_and_backward(&subject, &|| subject.network.clone());
    }
    findings
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without words"))
}

#[cfg(test)]
mod tests;
