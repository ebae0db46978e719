//! Where on a path a network is trained and sampled.

use crate::{Prediction, Schedule};

/// A stretch of paper time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The end nearer to noise; the first time of a sampler.
    pub start: f64,
    /// The end nearer to data; the last time of a sampler.
    pub end: f64,
}

/// What the network is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use {
    /// Training.
    Train,
    /// Sampling by the probability-flow ODE.
    Ode,
    /// Sampling by an SDE whose last step, of this size, is treated apart; 0 if it is not.
    Sde {
        /// Size of the last step in paper time, 0.04 in the published samplers.
        last_step: f64,
    },
}

/// The published code whose margins are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishedCode {
    /// SiT, and REPA, which agrees with it.
    #[default]
    Sit,
    /// RAE: velocity networks train 0.001 away from noise and stop their ODE 0.001 before data.
    Rae,
}

/// The times that keep clear of the singular ends of `schedule` for a network with this `prediction`.
///
/// Velocity networks need no margin, except where `σ̇` diverges at data (VP). Data networks cannot be read at data, noise and score
/// networks at neither end unless the path starts with `α > 0` (VP). The margin is 10⁻³, or 10⁻⁵ when training on VP.
/// RAE applies the same bounds to its noise-ward training time, hence mirrored here.
///
/// # Source
/// `check_interval` of SiT (`willisma/SiT`, transport/transport.py, 947f95b) and RAE (`bytetriper/RAE`,
/// src/stage2/transport/transport.py, a4d18c4). RAE cannot sample noise and score networks, nor its VP path, which is not
/// ours: there SiT's rule holds.
pub fn interval(schedule: &dyn Schedule, prediction: Prediction, purpose: Use, reference: PublishedCode) -> Interval {
    let diverges = !schedule.at(1.0).d_sigma.is_finite();
    let from_noise = schedule.at(0.0).alpha == 0.0;
    let margin = if diverges && purpose == Use::Train { 1e-5 } else { 1e-3 };

    let rae_velocity = reference == PublishedCode::Rae && !matches!(purpose, Use::Sde { .. });
    let needs_start = from_noise && matches!(prediction, Prediction::Noise | Prediction::Score);
    let needs_end = prediction != Prediction::Velocity || diverges || rae_velocity;
    let start = if needs_start { margin } else { 0.0 };
    let end = match purpose {
        Use::Sde { last_step } if last_step > 0.0 => 1.0 - last_step,
        _ if needs_end => 1.0 - margin,
        _ => 1.0,
    };
    if reference == PublishedCode::Rae && purpose == Use::Train && prediction == Prediction::Velocity && !diverges {
        return Interval { start: 1.0 - end, end: 1.0 - start };
    }
    Interval { start, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cosine, Ddpm, Linear, Reversed, VariancePreserving};

    #[test]
    fn conversions_are_finite_inside_the_interval() {
        for schedule in [&Linear as &dyn Schedule, &Cosine, &VariancePreserving::default(), &Ddpm, &Reversed(Linear)] {
            for from in [Prediction::Velocity, Prediction::Noise, Prediction::Data, Prediction::Score] {
                for purpose in [Use::Train, Use::Ode] {
                    let Interval { start, end } = interval(schedule, from, purpose, PublishedCode::Sit);
                    for t in [start, end] {
                        let velocity = from.convert(Prediction::Velocity, &schedule.at(t));
                        assert!(velocity.x.is_finite() && velocity.y.is_finite(), "{schedule:?} {from:?} {t}");
                    }
                }
            }
        }
    }
}
