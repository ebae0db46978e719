//! Flat tensors that devices add up or hand on, in a few large buffers.

use std::cmp::Reverse;

use burn::module::ParamId;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::{DType, Device, Tensor};

use super::values::{Flat, widened};
use crate::device::is_cpu;

/// Numbers of a buffer that is handed on at once: 256 MiB.
pub(super) const BUFFER: usize = 64 << 20;

/// Gives each device the sums over all devices, in buffers of about so many numbers.
pub(super) fn all_reduce(devices: Vec<Flat>, buffer: usize) -> Vec<Flat> {
    let rounds = rounds(&[sizes(&devices[0])], buffer);
    assert_same(&devices);
    let mut given: Vec<_> = devices.into_iter().map(Vec::into_iter).collect();
    let mut sums = vec![vec![]; given.len()];
    for round in rounds {
        let taken: Vec<Flat> = given.iter_mut().map(|flat| flat.take(round[0]).collect()).collect();
        let order = ids(&taken[0]);
        let buffers = taken.into_iter().map(joined).collect();
        for (sums, buffer) in sums.iter_mut().zip(Tensor::all_reduce(buffers, ReduceOperation::Sum)) {
            split(buffer, 0, &order, sums);
        }
    }
    sums
}

/// Gives each device the sums over all devices of the parameters that are at home there: `home` is the place of a parameter's
/// device.
pub(super) fn reduce_to_homes(devices: Vec<Flat>, home: impl Fn(ParamId) -> usize, buffer: usize) -> Vec<Flat> {
    assert_same(&devices);
    let count = devices.len();
    // What each device has for each.
    let mut given: Vec<Vec<_>> = devices
        .into_iter()
        .map(|flat| {
            let mut parts = vec![vec![]; count];
            flat.into_iter().for_each(|(id, tensor)| parts[home(id)].push((id, tensor)));
            parts.into_iter().map(|part| largest_first(part).into_iter()).collect()
        })
        .collect();
    let lists: Vec<_> = given[0].iter().map(|part| sizes(part.as_slice())).collect();
    let mut sums = vec![vec![]; count];
    for round in rounds(&lists, buffer) {
        let taken = given.iter_mut().map(|parts| {
            parts.iter_mut().zip(&round).map(|(part, &count)| part.take(count).collect()).collect::<Vec<Flat>>()
        });
        let taken: Vec<_> = taken.collect();
        let orders: Vec<_> = taken[0].iter().map(ids).collect();
        let length = longest(&orders);
        let buffers = taken.into_iter().map(|parts| {
            let device = parts.iter().flatten().next().expect("a round has a tensor").1.device();
            let part =
                |part: Flat| padded(part.into_iter().map(|(_, tensor)| widened(tensor)), length, (&device, DType::F32));
            Tensor::cat(parts.into_iter().map(part).collect(), 0)
        });
        let scattered = Tensor::reduce_scatter(buffers.collect(), 0, ReduceOperation::Sum);
        for ((sums, buffer), order) in sums.iter_mut().zip(scattered).zip(&orders) {
            split(buffer, 0, order, sums);
        }
    }
    sums
}

/// Gives each device what the others have, all of a type; `places` are the devices.
pub(super) fn gather(devices: Vec<Flat>, places: &[Device], dtype: DType, buffer: usize) -> Vec<Flat> {
    let devices: Vec<_> = devices.into_iter().map(largest_first).collect();
    let lists: Vec<_> = devices.iter().map(|flat| sizes(flat)).collect();
    let mut given: Vec<_> = devices.into_iter().map(Vec::into_iter).collect();
    let mut others = vec![vec![]; given.len()];
    for round in rounds(&lists, buffer) {
        let taken: Vec<Flat> = given.iter_mut().zip(&round).map(|(flat, &count)| flat.take(count).collect()).collect();
        let orders: Vec<_> = taken.iter().map(ids).collect();
        let length = longest(&orders);
        let buffers = taken
            .into_iter()
            .zip(places)
            .map(|(part, device)| padded(part.into_iter().map(|(_, tensor)| tensor), length, (device, dtype)));
        for (own, buffer) in Tensor::all_gather(buffers.collect(), 0).into_iter().enumerate() {
            let mut views = vec![];
            for (place, order) in orders.iter().enumerate().filter(|(place, _)| *place != own) {
                split(buffer.clone(), place * length, order, &mut views);
            }
            // A GPU's slice may be a view, which keeps the whole buffer: a product has memory of its own.
            let copied = !is_cpu(&places[own]);
            let parts = views.into_iter().map(|(id, view)| (id, if copied { view * 1.0 } else { view }));
            others[own].extend(parts);
        }
    }
    others
}

/// # Panics
/// If a device has tensors of other parameters, which a sum would mix up.
fn assert_same(devices: &[Flat]) {
    let same = devices.iter().all(|flat| ids(flat) == ids(&devices[0]));
    assert!(same, "devices have gradients of other parameters: a loss must use the same for any rows of a batch");
}

/// Buffers are as long as the longest of their parts: tensors of about the same size go together.
fn largest_first(mut flat: Flat) -> Flat {
    flat.sort_by_key(|(_, tensor)| Reverse(tensor.dims()[0]));
    flat
}

/// Parameters in a buffer, with their numbers.
type Order = Vec<(ParamId, usize)>;

fn ids(flat: &Flat) -> Order {
    flat.iter().map(|(id, tensor)| (*id, tensor.dims()[0])).collect()
}

fn sizes(flat: &[(ParamId, Tensor<1>)]) -> Vec<usize> {
    flat.iter().map(|(_, tensor)| tensor.dims()[0]).collect()
}

/// How many tensors of each list, of these sizes, are in the next buffer, until all were in one. A buffer has its number of
/// numbers in all lists together, and what the last tensor of each has beyond it.
fn rounds(lists: &[Vec<usize>], buffer: usize) -> Vec<Vec<usize>> {
    let share = buffer.div_ceil(lists.len());
    let mut lists: Vec<_> = lists.iter().map(|list| list.iter()).collect();
    let mut rounds = vec![];
    while lists.iter().any(|list| list.len() > 0) {
        let next = lists.iter_mut().map(|list| {
            let (mut count, mut numbers) = (0, 0);
            while numbers < share
                && let Some(size) = list.next()
            {
                (count, numbers) = (count + 1, numbers + size);
            }
            count
        });
        rounds.push(next.collect());
    }
    rounds
}

/// Numbers of the longest part of a buffer.
fn longest(orders: &[Order]) -> usize {
    orders.iter().map(|order| order.iter().map(|(_, size)| size).sum()).max().unwrap_or(0)
}

/// One buffer of all tensors, in `f32`, in which sums are taken.
fn joined(flat: Flat) -> Tensor<1> {
    Tensor::cat(flat.into_iter().map(|(_, tensor)| widened(tensor)).collect(), 0)
}

/// These tensors and zeros, of a length together.
fn padded(tensors: impl Iterator<Item = Tensor<1>>, length: usize, options: (&Device, DType)) -> Tensor<1> {
    let mut parts: Vec<_> = tensors.collect();
    let missing = length - parts.iter().map(|tensor| tensor.dims()[0]).sum::<usize>();
    if missing > 0 {
        parts.push(Tensor::zeros([missing], options));
    }
    Tensor::cat(parts, 0)
}

/// Splits a buffer, from position `start` on, into the parameters of `order`, and adds them to `into`.
fn split(buffer: Tensor<1>, mut start: usize, order: &Order, into: &mut Flat) {
    for &(id, size) in order {
        into.push((id, buffer.clone().narrow(0, start, size)));
        start += size;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What device `place` of some has of parameters of these sizes: numbers that tell where they are from.
    fn given(place: usize, ids: &[ParamId]) -> Flat {
        let device = Device::flex();
        let tensor = |(which, size): (usize, &usize)| {
            let numbers: Vec<f32> = (0..*size).map(|at| (100 * place + 10 * which + at) as f32).collect();
            (ids[which], Tensor::from_data(&numbers[..], &device))
        };
        SIZES.iter().enumerate().map(tensor).collect()
    }

    const SIZES: [usize; 5] = [3, 1, 7, 2, 4];
    const DEVICES: usize = 3;

    fn numbers(flat: &Flat) -> Vec<(ParamId, Vec<f32>)> {
        flat.iter().map(|(id, tensor)| (*id, tensor.to_data().iter::<f32>().collect())).collect()
    }

    /// The sums, by hand: places 0, 1 and 2 add up to 300, and the rest is there three times.
    fn sum(which: usize, ids: &[ParamId]) -> (ParamId, Vec<f32>) {
        (ids[which], (0..SIZES[which]).map(|at| (300 + 3 * (10 * which + at)) as f32).collect())
    }

    #[test]
    fn sums_arrive_where_they_belong_whatever_the_buffers() {
        let ids: Vec<_> = SIZES.iter().map(|_| ParamId::new()).collect();
        // The second device has none.
        let homes = [2, 0, 0, 2, 2];
        let home = |id: ParamId| homes[ids.iter().position(|known| *known == id).expect("it is known")];
        for buffer in [1, 4, 8, 1000] {
            let given = || (0..DEVICES).map(|place| given(place, &ids)).collect::<Vec<_>>();
            let expected: Vec<_> = (0..SIZES.len()).map(|which| sum(which, &ids)).collect();
            for flat in all_reduce(given(), buffer) {
                assert_eq!(numbers(&flat), expected, "{buffer}");
            }
            let reduced = reduce_to_homes(given(), home, buffer);
            for (place, flat) in reduced.iter().enumerate() {
                let own = expected.iter().filter(|(id, _)| home(*id) == place).cloned();
                assert_eq!(numbers(flat).into_iter().collect::<BTreeMap<_, _>>(), own.collect(), "{buffer}");
            }
            let places = vec![Device::flex(); DEVICES];
            for (own, others) in reduced.clone().into_iter().zip(gather(reduced, &places, DType::F32, buffer)) {
                let mut found = [numbers(&own), numbers(&others)].concat();
                found.sort_by_key(|(id, _)| ids.iter().position(|known| known == id));
                assert_eq!(found, expected, "{buffer}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "devices have gradients of other parameters")]
    fn sums_of_different_parameters_are_none() {
        let ids: Vec<_> = SIZES.iter().map(|_| ParamId::new()).collect();
        let mut devices = vec![given(0, &ids), given(1, &ids)];
        devices[1].remove(1);
        let _ = reduce_to_homes(devices, |_| 0, 8);
    }
}
