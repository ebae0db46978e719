//! The result table, for the page and for the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Arm;
use super::html::escape;
use super::measurement::{Measurement, decimals, thousands};

/// All metrics of all arms, with the floor that no generator can be expected to beat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// Solver, in words.
    pub sampler: String,
    /// Network evaluations per image.
    pub evaluations: u64,
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
    /// Kernel distance of pixels; smaller is better.
    pub kid: Measurement,
    /// Share of generated images that lie among real ones.
    pub precision: Measurement,
    /// Share of real images that lie among generated ones.
    pub recall: Measurement,
    /// Variance of generated pixels over that of real ones; below 1, diversity is lost.
    pub variance_ratio: Measurement,
}

/// Heading, direction of improvement, most decimals and value of a column.
type Column = (&'static str, &'static str, usize, fn(&Metrics) -> &Measurement);

// Shares of a few hundred images have no more than three decimals.
const COLUMNS: [Column; 5] = [
    ("Fréchet", "↓", 6, |metrics| &metrics.frechet),
    ("KID", "↓", 6, |metrics| &metrics.kid),
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
            1 => "one seed, so without a spread".to_owned(),
            seeds => format!("mean ± standard deviation over {seeds} seeds"),
        };
        format!(
            "{}, {} network evaluations per image, {} images per arm and seed; {seeds}. All metrics on pixels.",
            if self.sampler.is_empty() { "Unnamed sampler" } else { &self.sampler },
            thousands(self.evaluations),
            thousands(self.samples as u64),
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

    /// One cell per column, with as many decimals as the arms' smallest mean needs.
    fn cells(&self, metrics: &Metrics) -> [Cell; COLUMNS.len()] {
        COLUMNS.map(|(_, _, most, value)| {
            let values = || self.rows.iter().map(|row| value(&row.metrics));
            let means = values().filter_map(Measurement::mean).map(f64::abs);
            let smallest = means.filter(|mean| *mean > 0.0).min_by(f64::total_cmp);
            let decimals = smallest.map_or(3, decimals).min(most);
            let text = value(metrics).text(decimals);
            let (mean, spread) = text.split_once(" ± ").unwrap_or((&text, ""));
            let alone = spread.is_empty() && values().any(|value| value.deviation().is_some());
            Cell {
                mean: mean.to_owned(),
                spread: if spread.is_empty() { String::new() } else { format!(" ± {spread}") },
                gap: if alone { format!(" ± {:.decimals$}", 0.0) } else { String::new() },
            }
        })
    }
}

/// A number and its spread, or a gap as wide where there is none, so that means stand below each other.
struct Cell {
    mean: String,
    spread: String,
    gap: String,
}

impl Cell {
    fn html(&self) -> String {
        let gap = match self.gap.as_str() {
            "" => String::new(),
            gap => format!("<span class=\"gap\" aria-hidden=\"true\">{gap}</span>"),
        };
        format!("<td>{}<span class=\"dim\">{}</span>{gap}</td>", self.mean, self.spread)
    }

    fn text(&self) -> String {
        format!("{}{}{}", self.mean, self.spread, " ".repeat(self.gap.chars().count()))
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
        assert!(lines[2].starts_with("start               12.5 ± 0.5") && lines[2].contains("0.500"), "{text}");
        assert!(lines[6].contains("Heun, 50 network evaluations per image, 1,797 images"), "{text}");
    }

    #[test]
    fn an_empty_table_prints() {
        assert!(Table::default().to_string().contains("real against real"));
    }
}
