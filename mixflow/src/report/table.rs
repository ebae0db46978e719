//! The result table, for the page and for the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Arm;
use super::html::escape;
use super::measurement::Measurement;
use crate::data::Labels;
use crate::numbers::{MOST_DECIMALS, thousands};

/// All metrics of all arms, with the floor that no generator can be expected to beat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// Solver, in words.
    pub sampler: String,
    /// Network evaluations per image; the fewest of all rows, where an adaptive solver took as many as it needed.
    pub evaluations: u64,
    /// The most evaluations of all rows; 0 where they are the same.
    pub most_evaluations: u64,
    /// How the classes of the generated images were chosen, as far as known.
    pub labels: Option<Labels>,
    /// Generated images per arm and seed.
    pub samples: usize,
    /// One row per arm.
    pub rows: Vec<Row>,
    /// Real images against other real images.
    pub floor: Metrics,
}

/// One arm of a [`Table`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The network.
    pub arm: Arm,
    /// Its metrics.
    pub metrics: Metrics,
}

/// What is measured, one value per seed each; empty where it was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Fréchet distance of pixels (not FID: no Inception network is involved); smaller is better.
    pub frechet: Measurement,
    /// Kernel distance of pixels (not KID, for the same reason); smaller is better.
    #[serde(alias = "kid")]
    pub kernel: Measurement,
    /// Share of generated images that lie among real ones.
    pub precision: Measurement,
    /// Share of real images that lie among generated ones.
    pub recall: Measurement,
    /// Variance of generated pixels over that of real ones; below 1, diversity is lost.
    pub variance_ratio: Measurement,
}

/// Heading, direction of improvement, most decimals of a number without spread, and value of a column.
type Column = (&'static str, &'static str, usize, fn(&Metrics) -> &Measurement);

// Shares of a few hundred images have no more than three decimals.
const COLUMNS: [Column; 5] = [
    ("Fréchet", "↓", MOST_DECIMALS, |metrics| &metrics.frechet),
    ("kernel", "↓", MOST_DECIMALS, |metrics| &metrics.kernel),
    ("precision", "↑", 3, |metrics| &metrics.precision),
    ("recall", "↑", 3, |metrics| &metrics.recall),
    ("variance", "→ 1", 3, |metrics| &metrics.variance_ratio),
];

impl Table {
    /// The metrics of `arm`.
    pub fn metrics(&self, arm: Arm) -> Option<&Metrics> {
        self.rows.iter().find(|row| row.arm == arm).map(|row| &row.metrics)
    }

    /// Seeds per arm: the most that any Fréchet distance has.
    pub fn seeds(&self) -> usize {
        self.rows.iter().map(|row| row.metrics.frechet.count()).max().unwrap_or(0)
    }

    /// How the numbers were measured, in one sentence.
    pub fn caption(&self) -> String {
        let seeds = match self.seeds() {
            1 => "one post-training of each kind, so without a spread".to_owned(),
            seeds => format!("mean ± standard deviation over {seeds} post-trainings of each kind"),
        };
        format!(
            "{}, {}, {} images per arm and seed{}; {seeds}. All metrics on pixels.",
            if self.sampler.is_empty() { "Unnamed sampler" } else { &self.sampler },
            evaluations_text(self.evaluations, self.most_evaluations),
            thousands(self.samples as u64),
            self.labels.map_or(String::new(), |labels| format!(", {}", labels.describe())),
        )
    }

    pub(super) fn html(&self) -> String {
        let mut html = format!(
            "<table><caption><span>{}</span></caption><thead><tr><th scope=\"col\">arm</th>",
            escape(&self.caption())
        );
        for (name, direction, ..) in COLUMNS {
            html += &format!("<th scope=\"col\">{name} <span class=\"dim\">{direction}</span></th>");
        }
        html += "</tr></thead><tbody>";
        for row in &self.rows {
            let (class, name) = (row.arm.class(), row.arm.name());
            html += &format!("<tr><th scope=\"row\"><span class=\"swatch {class}\"></span>{name}</th>");
            html += &self.cells(&row.metrics).map(|cell| cell.html()).concat();
            html += "</tr>";
        }
        html += "<tr class=\"floor\"><th scope=\"row\">real against real</th>";
        html += &self.cells(&self.floor).map(|cell| cell.html()).concat();
        html + "</tr></tbody></table>"
    }

    /// One cell per column.
    fn cells(&self, metrics: &Metrics) -> [Cell; COLUMNS.len()] {
        COLUMNS.map(|(_, _, most, value)| {
            let parts = |metrics: &Metrics| {
                let (mean, spread) = value(metrics).rounded(most);
                (mean, spread.map_or(String::new(), |spread| format!(" ± {spread}")))
            };
            let all = || self.rows.iter().map(|row| &row.metrics).chain([&self.floor]).map(parts);
            let widest = |width: fn(&(String, String)) -> usize| all().map(|parts| width(&parts)).max().unwrap_or(0);
            let (mean, spread) = parts(metrics);
            Cell {
                after_mean: widest(|(mean, _)| decimal_part(mean)).saturating_sub(decimal_part(&mean)),
                after_spread: widest(|(_, spread)| spread.chars().count()).saturating_sub(spread.chars().count()),
                mean,
                spread,
            }
        })
    }
}

/// "20 network evaluations per image", or from which number to which.
pub(crate) fn evaluations_text(least: u64, most: u64) -> String {
    if most > least {
        return format!("{} to {} network evaluations per image", thousands(least), thousands(most));
    }
    format!("{} network evaluations per image", thousands(least))
}

/// Characters from the decimal point on.
fn decimal_part(number: &str) -> usize {
    number.find('.').map_or(0, |point| number.len() - point)
}

/// A number and its spread, each with a gap behind it, so that decimal points stand below each other in a column.
struct Cell {
    mean: String,
    after_mean: usize,
    spread: String,
    after_spread: usize,
}

impl Cell {
    fn html(&self) -> String {
        let gap = |width: usize| match width {
            0 => String::new(),
            width => format!("<span class=\"gap\" aria-hidden=\"true\">{}</span>", "0".repeat(width)),
        };
        let [after_mean, after_spread] = [self.after_mean, self.after_spread].map(gap);
        format!("<td>{}{after_mean}<span class=\"dim\">{}</span>{after_spread}</td>", self.mean, self.spread)
    }

    fn text(&self) -> String {
        let [after_mean, after_spread] = [self.after_mean, self.after_spread].map(|width| " ".repeat(width));
        format!("{}{after_mean}{}{after_spread}", self.mean, self.spread)
    }
}

/// Aligned columns for a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |name: &str, cells: [String; COLUMNS.len()]| [vec![name.to_owned()], cells.to_vec()].concat();
        let mut lines = vec![line("arm", COLUMNS.map(|(name, direction, ..)| format!("{name} {direction}")))];
        lines
            .extend(self.rows.iter().map(|row| line(row.arm.name(), self.cells(&row.metrics).map(|cell| cell.text()))));
        lines.push(line("real against real", self.cells(&self.floor).map(|cell| cell.text())));

        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
        let rule = "─".repeat(widths.iter().sum::<usize>() + 3 * COLUMNS.len());
        for (index, line) in lines.iter().enumerate() {
            if index == 1 || index == lines.len() - 1 {
                writeln!(f, "{rule}")?;
            }
            write!(f, "{:<1$}", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "   {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        write!(f, "{}", self.caption())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_table_is_aligned() {
        let metrics =
            |frechet: [f64; 3]| Metrics { frechet: frechet.into(), recall: [0.5].into(), ..Metrics::default() };
        let table = Table {
            sampler: "Heun".into(),
            evaluations: 50,
            samples: 1797,
            most_evaluations: 50,
            labels: Some(Labels::Reference),
            rows: vec![
                Row { arm: Arm::Start, metrics: metrics([12.0, 12.5, 13.0]) },
                Row { arm: Arm::Control, metrics: metrics([9.75, 10.0, 10.25]) },
            ],
            floor: metrics([1.0, 1.0, 1.0]),
        };
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[..6].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines[2].starts_with("start               12.5   ± 0.5  ") && lines[2].contains("0.500"), "{text}");
        assert!(lines[3].starts_with("λ control           10.00  ± 0.25 "), "{text}");
        assert!(lines[6].contains("Heun, 50 network evaluations per image, 1,797 images"), "{text}");
        assert!(lines[6].contains("seed, classes as often as among the real images; mean"), "{text}");
        let adaptive = Table { most_evaluations: 1280, ..table };
        assert!(adaptive.caption().contains("50 to 1,280 network evaluations"), "{}", adaptive.caption());
    }

    #[test]
    fn results_that_call_the_kernel_distance_kid_are_read() {
        let metrics: Metrics = serde_json::from_str(r#"{"frechet": [1.0], "kid": [0.5, 0.25]}"#).unwrap();
        assert_eq!(metrics.kernel, [0.5, 0.25].into());
        assert!(!serde_json::to_string(&metrics).unwrap().contains("kid"));
    }

    #[test]
    fn an_empty_table_prints() {
        assert!(Table::default().to_string().contains("real against real"));
    }
}
