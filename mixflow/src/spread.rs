//! Work in pieces, on several devices at once, or side by side on the CPU.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use burn::module::Module;
use rayon::ThreadPoolBuilder;

use crate::device::{self, is_cpu};

/// Parameters of a network up to which its operations are too small for several threads.
pub(crate) const SMALL: usize = 16 << 20;

/// Pieces of work at once, at most: memory holds what each of them needs.
const MOST: usize = 8;

/// How many of so many pieces of work with a network are done at once on its device: the CPU does as many as it has threads, 8
/// at most, if the network is small; what is large keeps all threads at work.
pub(crate) fn at_once(network: &impl Module, pieces: usize) -> usize {
    let side_by_side = is_cpu(&device::of(network)) && network.num_params() <= SMALL;
    if side_by_side { rayon::current_num_threads().min(MOST).min(pieces).max(1) } else { 1 }
}

/// Does some work on so many threads of its own; on those of everybody where the system gives no more.
fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    match ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// What a worker sends while it works.
enum Sent<E, R> {
    Event(usize, E),
    Done(usize, Result<R, Box<dyn Any + Send>>),
}

/// Gives `take` the results of all pieces, in their order; each worker does one piece at a time on a thread of its own, the
/// next one that is left, with its share of the CPU's threads. `on_event` gets what workers tell of a piece as it comes. With
/// one worker all is done on this thread, when `take` asks for it.
///
/// At most twice as many pieces are held as there are workers, so that a slow one does not fill memory.
///
/// # Panics
/// If a piece panics.
pub(crate) fn spread<W: Send, P: Send, E: Send, R: Send, T>(
    mut workers: Vec<W>,
    pieces: impl Iterator<Item = P>,
    work: impl Fn(&W, P, &mut dyn FnMut(E)) -> R + Sync,
    mut on_event: impl FnMut(usize, E),
    take: impl FnOnce(&mut dyn Iterator<Item = R>) -> T,
) -> T {
    if workers.len() == 1 {
        let worker = workers.remove(0);
        return take(&mut pieces.enumerate().map(|(number, piece)| work(&worker, piece, &mut |e| on_event(number, e))));
    }
    let (count, work, over) = (workers.len(), &work, &AtomicBool::new(false));
    let (order, orders) = channel();
    let (sender, sent) = sync_channel(count);
    // So that none waits for threads that another one keeps busy.
    let threads = (rayon::current_num_threads() / count).max(1);
    let orders = &Mutex::new(orders);
    thread::scope(|scope| {
        for worker in workers {
            let sender = sender.clone();
            scope.spawn(move || on_threads(threads, move || serve(&worker, (orders, over), work, &sender)));
        }
        drop(sender);
        let (mut pieces, mut begun, mut given, mut early) = (pieces.enumerate(), 0, 0, BTreeMap::new());
        let taken = take(&mut std::iter::from_fn(move || {
            loop {
                while begun - given < 2 * count
                    && let Some(piece) = pieces.next()
                {
                    order.send(piece).ok()?;
                    begun += 1;
                }
                if let Some(result) = early.remove(&given) {
                    given += 1;
                    return Some(result);
                }
                if begun == given {
                    return None;
                }
                match sent.recv().ok()? {
                    Sent::Event(number, event) => on_event(number, event),
                    Sent::Done(number, Ok(result)) => drop(early.insert(number, result)),
                    Sent::Done(_, Err(fault)) => {
                        over.store(true, Ordering::Relaxed);
                        resume_unwind(fault)
                    }
                }
            }
        }));
        // Whoever takes may stop early: what was ordered by then is not begun.
        over.store(true, Ordering::Relaxed);
        taken
    })
}

/// A worker's part: until there are no more orders, all is over, or nobody hears.
fn serve<W, P, E, R>(
    worker: &W,
    (orders, over): (&Mutex<Receiver<(usize, P)>>, &AtomicBool),
    work: &impl Fn(&W, P, &mut dyn FnMut(E)) -> R,
    sender: &SyncSender<Sent<E, R>>,
) {
    let next = || orders.lock().ok()?.recv().ok();
    while let Some((number, piece)) = next()
        && !over.load(Ordering::Relaxed)
    {
        let progress = &mut |event| drop(sender.send(Sent::Event(number, event)));
        let result = catch_unwind(AssertUnwindSafe(|| work(worker, piece, progress)));
        if sender.send(Sent::Done(number, result)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    /// The squares of 0 to 19, the first ones the slowest.
    fn square(worker: &usize, number: u64, progress: &mut dyn FnMut(usize)) -> u64 {
        thread::sleep(Duration::from_millis(20 - number));
        progress(*worker);
        number * number
    }

    #[test]
    fn results_come_in_order_and_every_worker_works() {
        for workers in [1, 2, 5] {
            let mut heard = vec![];
            let on_event = |number, worker| heard.push((number, worker));
            let found: Vec<u64> = spread((0..workers).collect(), 0..20, square, on_event, |results| results.collect());
            assert_eq!(found, (0..20).map(|number| number * number).collect::<Vec<_>>());
            let (numbers, who): (BTreeSet<_>, BTreeSet<_>) = heard.into_iter().unzip();
            assert_eq!((numbers, who), ((0..20).collect(), (0..workers).collect()));
        }
    }

    #[test]
    fn no_piece_is_begun_long_before_its_turn() {
        let begun = AtomicUsize::new(0);
        let work = |(): &(), piece: usize, _: &mut dyn FnMut(())| {
            begun.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(if piece == 0 { 100 } else { 0 }));
        };
        spread(
            vec![(); 3],
            0..1000,
            work,
            |_, ()| {},
            |results| {
                results.next().unwrap();
                assert!(begun.load(Ordering::SeqCst) <= 6, "{begun:?}");
                // Nobody takes the others.
            },
        );
        // Those that were in the works, of which one was about to begin.
        assert!(begun.into_inner() <= 6);
    }

    #[test]
    fn a_panic_is_passed_on() {
        let work = |(): &(), piece: usize, _: &mut dyn FnMut(())| assert_ne!(piece, 3, "out of memory");
        let run = || spread(vec![(); 2], 0..10, work, |_, ()| {}, |results| results.count());
        let fault = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert!(fault.downcast_ref::<String>().unwrap().contains("out of memory"));
    }
}
