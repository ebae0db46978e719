//! A path of one's own, trained with MixFlow: implement [`Schedule::at`], and everything else follows.
//!
//! Run with `cargo run --example custom_schedule`.
#![allow(clippy::print_stdout, reason = "an example shows what it computes")]

use mixflow_schedules::{Coefficients, MixFlow, Prediction, Reversed, Schedule, TimestepSampler};
use rand::{SeedableRng, rngs::ChaCha8Rng};

/// A straight path that leaves and arrives gently: `α = 3t² − 2t³`.
#[derive(Debug)]
struct Smoothstep;

impl Schedule for Smoothstep {
    fn at(&self, t: f64) -> Coefficients {
        let (alpha, d_alpha) = (t * t * (3.0 - 2.0 * t), 6.0 * t * (1.0 - t));
        Coefficients { time: t, alpha, sigma: 1.0 - alpha, d_alpha, d_sigma: -d_alpha }
    }
}

fn main() {
    let (data, noise) = (0.8, -0.4);
    let times = MixFlow::new(0.8);
    let mut rng = ChaCha8Rng::seed_from_u64(7);

    println!("label t  input m     x_m  velocity  data read back");
    for _ in 0..5 {
        let example = times.sample(&mut rng);
        let at = Smoothstep.at(example.m);
        let x = at.alpha * data + at.sigma * noise;
        let [a, b] = Prediction::Velocity.coordinates(&at);
        let velocity = a * data + b * noise;
        let read_back = Prediction::Velocity.convert(Prediction::Data, &at).apply(x, velocity);
        println!("{:7.3}  {:7.3}  {x:6.3}  {velocity:8.3}  {read_back:14.3}", example.t, example.m);
        assert!((read_back - data).abs() < 1e-6, "a velocity and its input determine the data");
    }

    // The same path for a network that counts time from data to noise, as RAE's and REPA's do.
    let (forward, reversed) = (Smoothstep.at(0.25), Reversed(Smoothstep).at(0.25));
    println!("paper time 0.25 is label {} forward and {} reversed", forward.time, reversed.time);
    assert_eq!(forward.d_alpha, -reversed.d_alpha);
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main();
    }
}
