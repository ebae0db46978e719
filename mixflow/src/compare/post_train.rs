//! The trainings of a comparison that begin from its start.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;

use super::phases::{Phases, post_training};
use super::{Progress, Study, arms};
use crate::data::Dataset;
use crate::evaluation::ValidationImages;
use crate::recipe::{NetworkSettings, ObjectiveConfig, PostTraining};
use crate::report::Arm;
use crate::spread::{at_once, spread};
use crate::train::{Event, Start};
use crate::{Error, Objective, device, memory};

/// An arm, the number of its seed, and its network.
pub(super) type Trained<B> = (Arm, u64, B);

impl<N: NetworkSettings> Study<'_, N> {
    /// The network of every arm and seed, in their order; nothing if it was asked to stop. On the CPU those of a small network are
    /// trained side by side, as many as memory holds.
    pub(super) fn post_train<O: Objective<N::Network>>(
        &self,
        (post, trainings): (&PostTraining, &[(Arm, ObjectiveConfig)]),
        (start, origin): (&N::Network, &Start),
        objective: &(impl Fn(&ObjectiveConfig) -> O + Sync),
        (learned, validation): (&Arc<dyn Dataset>, Option<&ValidationImages<'_, N>>),
        phases: &RefCell<Phases>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Vec<Trained<N::Network>>>, Error> {
        let config = post.training(&self.recipe.training);
        let seeds = (0..post.seeds).flat_map(|seed| trainings.iter().map(move |(arm, settings)| (arm, settings, seed)));
        let each: Vec<_> = seeds.map(|(arm, settings, seed)| (arm, settings, seed, arms::folder(arm, seed))).collect();
        let Some((first, ..)) = each.first() else { return Ok(Some(vec![])) };
        progress(Progress::Begin("post-training", Some(each.len() as u64 * post.steps)));
        phases.borrow_mut().begin(&post_training(first));

        // Set when the study is to stop, and when one training has failed: the others save what they have.
        let halt = &AtomicBool::new(false);
        let halted = || {
            if self.stop.load(Ordering::Relaxed) {
                halt.store(true, Ordering::Relaxed);
            }
            halt.load(Ordering::Relaxed)
        };
        let pieces = each.iter().map(|(_, settings, seed, folder)| (*settings, *seed, folder, start.clone()));
        let train =
            |(): &(), (settings, seed, folder, start): (_, u64, &String, _), progress: &mut dyn FnMut(Event)| {
                if halted() {
                    return Ok(None);
                }
                let progress = &mut |event| {
                    progress(event);
                    halted();
                };
                let train = || {
                    arms::started(&self.folder.join(folder), origin)?;
                    let (network, settings) = (self.recipe.adapted(start)?, (settings, objective));
                    self.train(folder, network, settings, (&config, halt), seed + 1, learned, validation, progress)
                };
                train().inspect_err(|_: &Error| halt.store(true, Ordering::Relaxed))
            };
        let on_event = |number: usize, event| {
            let (arm, .., folder) = &each[number];
            phases.borrow_mut().spent(&post_training(arm));
            progress(Progress::Training { folder: &self.folder.join(folder), event });
        };
        // All are heard to their end, of which the fault of one counts more than that others were stopped.
        let workers = vec![(); self.trainings_at_once(start, each.len())];
        let ended: Vec<_> = spread(workers, pieces, train, on_event, |ended| ended.collect());
        let networks: Option<Vec<_>> = ended.into_iter().collect::<Result<Vec<_>, Error>>()?.into_iter().collect();
        let arms = each.iter().map(|(arm, _, seed, _)| ((*arm).clone(), *seed));
        Ok(networks.map(|networks| arms.zip(networks).map(|((arm, seed), network)| (arm, seed, network)).collect()))
    }

    /// How many of so many trainings go on at once: of those that several devices share, one.
    fn trainings_at_once(&self, start: &N::Network, trainings: usize) -> usize {
        if !self.beside.is_empty() {
            return 1;
        }
        // Half of it is for all else.
        let held = memory(&device::of(start)) / 2 / self.recipe.training_bytes(start.num_params() as u64).max(1);
        at_once(start, trainings).min(held as usize).max(1)
    }
}
