//! The comparison that a network is an arm of, on its card.

use std::fmt::Write;

use mixflow::compare::Results;
use mixflow::numbers::plus_minus;
use mixflow::report::{Arm, Metrics, PerSeed};

/// A column: its name, and its values of an arm.
type Column = (&'static str, fn(&Metrics) -> &PerSeed);

/// All arms side by side: means over seeds with their standard deviations, and what real images reach. `published` is the
/// arm whose weights are there; `sampler` in words.
pub(super) fn side_by_side(results: &Results, published: &Arm, sampler: &str) -> String {
    let table = results.table(sampler);
    let columns: [Column; 5] = [
        ("Fréchet distance ↓", |metrics| &metrics.frechet),
        ("kernel distance ↓", |metrics| &metrics.kernel),
        ("precision ↑", |metrics| &metrics.precision),
        ("recall ↑", |metrics| &metrics.recall),
        ("variance ratio → 1", |metrics| &metrics.variance_ratio),
    ];
    let seeds = table.rows.iter().map(|row| row.metrics.frechet.count()).max().unwrap_or(0);
    let spread = match seeds {
        ..2 => String::new(),
        _ => format!("; mean ± standard deviation over {seeds} post-trainings"),
    };
    let mut text = format!(
        "### The arms side by side\n\n{} images of each network, {sampler}{spread}. These weights are one of **{}**; what was \
         measured of them alone is above.\n\n| |",
        table.samples,
        published.name(),
    );
    for (name, _) in columns {
        let _ = write!(text, " {name} |");
    }
    let _ = write!(text, "\n|---|{}", "---:|".repeat(columns.len()));
    let arms = table.rows.iter().map(|row| {
        let name = row.arm.name();
        (if row.arm == *published { format!("**{name}**") } else { name.into() }, &row.metrics)
    });
    for (name, metrics) in arms.chain([("real images".into(), &table.floor)]) {
        let _ = write!(text, "\n| {name} |");
        for (_, values) in columns {
            let values = values(metrics);
            let shown = values.mean().map_or("–".into(), |mean| plus_minus(mean, values.deviation()));
            let _ = write!(text, " {shown} |");
        }
    }
    text + "\n"
}
