//! Devices that fail in a training, which Burn tells by a panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use burn::tensor::Device;

use crate::error::words;
use crate::{Error, device};

/// What the thread of a device panics with again where its result is wanted.
struct DeviceFault {
    /// The device's place among those of the training, from 0.
    place: usize,
    reason: String,
}

/// Does what these devices compute, together, in a step.
///
/// # Errors
/// [`Error::DeviceFailed`] where that panics: with the device in whose work [`on_each`] it did, else with all of them.
pub(super) fn guarded<R>(devices: &[Device], step: u64, work: impl FnOnce() -> R) -> Result<R, Error> {
    // What is half done belongs to the work and goes with it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let (place, reason) = match (device::failed(devices), panic.downcast::<DeviceFault>()) {
            (Some((place, reason)), _) => (Some(place), reason),
            (None, Ok(fault)) => (Some(fault.place), fault.reason),
            (None, Err(panic)) => (None, words(&*panic)),
        };
        let of = devices.len();
        let name = |place: usize| match of {
            1 => device::name(&devices[place]),
            _ => format!("device {} of {of} ({})", place + 1, device::name(&devices[place])),
        };
        let names: Vec<_> = place.map_or(0..of, |place| place..place + 1).map(name).collect();
        Error::DeviceFailed { device: names.join(", or "), step, reason }
    })
}

/// Does the work of each device on a thread of its own, and gives the results in order.
pub(super) fn on_each<W: Send, R: Send>(work: Vec<W>, run: impl Fn(W) -> R + Sync) -> Vec<R> {
    let run = &run;
    let results: Vec<thread::Result<R>> = thread::scope(|scope| {
        let threads: Vec<_> = work.into_iter().map(|work| scope.spawn(move || run(work))).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let placed = |(place, result): (usize, thread::Result<R>)| {
        result.unwrap_or_else(|panic| resume_unwind(Box::new(DeviceFault { place, reason: words(&*panic) })))
    };
    results.into_iter().enumerate().map(placed).collect()
}
