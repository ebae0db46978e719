//! How long it takes to compare every image with every other.

use std::time::Instant;

use mixflow::evaluation::metric::{Features, precision_recall};
use mixflow::numbers::thousands;

use crate::progress::Progress;
use crate::terminal::Result;

/// Says before long comparisons how many there are and how long they take, by the time that a few of them take.
pub(crate) fn say_how_long(progress: &Progress, pairs: u64, sets: [&Features; 2]) -> Result<()> {
    const FEW: usize = 256;
    const LONG: f64 = 60.0;
    let few = sets.map(|set| set.select(&(0..set.rows().min(FEW)).collect::<Vec<_>>()));
    let started = Instant::now();
    precision_recall(&few[0], &few[1], 1)?;
    let [a, b] = few.map(|set| set.rows() as f64);
    let seconds = started.elapsed().as_secs_f64() * pairs as f64 / (a * a + b * b + 2.0 * a * b);
    if seconds > LONG {
        let (pairs, columns) = (thousands(pairs), thousands(sets[0].columns() as u64));
        progress.line(&format!(
            "  every image is compared with every other: {pairs} pairs of {columns} numbers, about {:.0} minutes",
            (seconds / 60.0).ceil()
        ));
    }
    Ok(())
}
