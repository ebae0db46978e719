//! Nanoseconds to draw one example's times, by law: `cargo bench -p mixflow-schedules`.
//!
//! The median of many rounds, with the fastest and the slowest tenth beside it. Without a framework: one as a
//! development dependency would change features that Burn is built with (see ARCHITECTURE.md, "One build for both commands").
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;

use mixflow_schedules::{Beta, Error, LogitNormal, MixFlow, Shifted, TimestepSampler, Uniform};
use rand::{SeedableRng, rngs::ChaCha8Rng};

const ROUNDS: usize = 100;
const DRAWS: usize = 10_000;

fn main() -> Result<(), Error> {
    let logit_normal = LogitNormal::new(0.0, 1.0)?;
    let laws: [(&str, Box<dyn TimestepSampler>); 7] = [
        ("uniform", Box::new(Uniform)),
        ("Beta(2, 1)", Box::new(Beta::MIXFLOW)),
        ("Beta(2, 3)", Box::new(Beta::new(2.0, 3.0)?)),
        ("logit-normal", Box::new(logit_normal)),
        ("shifted logit-normal", Box::new(Shifted::new(6.928, logit_normal)?)),
        ("MixFlow of Beta(2, 1)", Box::new(MixFlow::new(0.8))),
        ("MixFlow of logit-normal", Box::new(MixFlow::wrap(0.8, logit_normal))),
    ];
    println!("{:<26} {:>9} {:>9} {:>9}", "ns per draw", "fastest", "median", "slowest");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for (name, law) in laws {
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..DRAWS {
                    black_box(black_box(&law).sample(&mut rng));
                }
                start.elapsed().as_secs_f64() * 1e9 / DRAWS as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let [fast, median, slow] = [ROUNDS / 10, ROUNDS / 2, ROUNDS - 1 - ROUNDS / 10].map(|index| rounds[index]);
        println!("{name:<26} {fast:>9.1} {median:>9.1} {slow:>9.1}");
    }
    Ok(())
}
