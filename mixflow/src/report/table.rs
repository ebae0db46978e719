//! The result table, for the page and for the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Arm;
use super::cell::{Cell, decimal_part};
use super::html::escape;
use super::per_seed::PerSeed;
use crate::data::Labels;
use crate::evaluation::{Best, are_pixels, pixels};
use crate::numbers::{MOST_DECIMALS, counted, thousands};

/// All metrics of all arms, with the floor that no generator can be expected to beat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// What all measures saw of images.
    #[serde(skip_serializing_if = "are_pixels")]
    pub features: String,
    /// Generated images per arm and seed.
    pub samples: usize,
    /// One row per arm.
    pub rows: Vec<Row>,
    /// Real images against other real images.
    pub floor: Metrics,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            sampler: String::new(),
            evaluations: 0,
            most_evaluations: 0,
            labels: None,
            features: pixels(),
            samples: 0,
            rows: vec![],
            floor: Metrics::default(),
        }
    }
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
    /// Fréchet distance; of pixels it is not FID, for no Inception network is involved. Smaller is better.
    pub frechet: PerSeed,
    /// Kernel distance; of pixels it is not KID, for the same reason. Smaller is better.
    #[serde(alias = "kid")]
    pub kernel: PerSeed,
    /// Share of generated images that lie among real ones.
    pub precision: PerSeed,
    /// Share of real images that lie among generated ones.
    pub recall: PerSeed,
    /// Variance of generated features over that of real ones; below 1, diversity is lost.
    pub variance_ratio: PerSeed,
    /// The Fréchet distance over that of the floor: 1 is as good as real images.
    pub frechet_ratio: PerSeed,
    /// Sliced Wasserstein distance. Smaller is better.
    pub sliced: PerSeed,
    /// Balls of real images that a generated one lies in, over their `k`.
    pub density: PerSeed,
    /// Share of real images with a generated one in their ball.
    pub coverage: PerSeed,
    /// Seconds of the training.
    pub training_seconds: PerSeed,
    /// Seconds that drawing the images took.
    pub sampling_seconds: PerSeed,
    /// One's own, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<OwnMetric>,
}

impl Metrics {
    /// Every measure of quality by name, with which values are good.
    pub fn measures(&self) -> Vec<(&str, Best, &PerSeed)> {
        let known = KNOWN.iter().filter(|(.., kind, _)| *kind != Kind::Cost);
        let known = known.map(|&(name, best, .., value)| (name, best, value(self)));
        known.chain(self.more.iter().map(|own| (own.name.as_str(), own.best, &own.values))).collect()
    }
}

/// What a measure of one's own found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnMetric {
    /// Its name.
    pub name: String,
    /// Which values are good.
    pub best: Best,
    /// What those are of that stand in a table of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// One value per seed.
    pub values: PerSeed,
}

/// A column of the table.
struct Column<'a> {
    name: &'a str,
    best: Best,
    /// Most decimals of a number without spread.
    decimals: usize,
    /// Its value in a row.
    value: Box<dyn Fn(&Metrics) -> PerSeed + 'a>,
}

impl Column<'_> {
    fn direction(&self) -> &'static str {
        match self.best {
            Best::Low => "↓",
            Best::High => "↑",
            Best::One => "→ 1",
        }
    }
}

/// The columns of a table.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    /// Quality, and one's own that are of no group.
    Main,
    /// What there is no room for, on the page alone.
    More,
    /// One's own of this group.
    Group(&'a str),
}

/// What a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Quality, in every table.
    Quality,
    /// Quality, on the page where it was measured: results of before have none.
    More,
    /// What it took, likewise.
    Cost,
}

/// Name, direction of improvement, most decimals, kind and value of a column.
type KnownColumn = (&'static str, Best, usize, Kind, fn(&Metrics) -> &PerSeed);

// Shares of a few hundred images have no more than three decimals.
const KNOWN: [KnownColumn; 11] = [
    ("Fréchet", Best::Low, MOST_DECIMALS, Kind::Quality, |metrics| &metrics.frechet),
    ("FDr", Best::Low, 3, Kind::More, |metrics| &metrics.frechet_ratio),
    ("kernel", Best::Low, MOST_DECIMALS, Kind::Quality, |metrics| &metrics.kernel),
    ("sliced", Best::Low, MOST_DECIMALS, Kind::More, |metrics| &metrics.sliced),
    ("precision", Best::High, 3, Kind::Quality, |metrics| &metrics.precision),
    ("recall", Best::High, 3, Kind::Quality, |metrics| &metrics.recall),
    ("density", Best::High, 3, Kind::More, |metrics| &metrics.density),
    ("coverage", Best::High, 3, Kind::More, |metrics| &metrics.coverage),
    ("variance", Best::One, 3, Kind::Quality, |metrics| &metrics.variance_ratio),
    ("train s", Best::Low, 1, Kind::Cost, |metrics| &metrics.training_seconds),
    ("draw s", Best::Low, 1, Kind::Cost, |metrics| &metrics.sampling_seconds),
];

impl Table {
    /// The metrics of `arm`.
    pub fn metrics(&self, arm: &Arm) -> Option<&Metrics> {
        self.rows.iter().find(|row| row.arm == *arm).map(|row| &row.metrics)
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
            "{}, {}, {} per arm and seed{}; {seeds}. All metrics on {}.",
            if self.sampler.is_empty() { "Unnamed sampler" } else { &self.sampler },
            evaluations_text(self.evaluations, self.most_evaluations),
            counted(self.samples as u64, "image"),
            self.labels.map_or(String::new(), |labels| format!(", {}", labels.describe())),
            self.features,
        )
    }

    /// What the Fréchet distance is called.
    pub(super) fn frechet_name(&self) -> String {
        match are_pixels(&self.features) {
            true => "pixel Fréchet distance".into(),
            false => format!("Fréchet distance of {}", self.features),
        }
    }

    /// Groups of one's own measures, in their order.
    fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = self.floor.more.iter().filter_map(|own| own.group.as_deref()).collect();
        groups.dedup();
        groups
    }

    fn columns(&self, part: Part<'_>) -> Vec<Column<'_>> {
        let shown = |&(.., kind, value): &KnownColumn| match part {
            Part::Main => kind == Kind::Quality,
            Part::More => kind != Kind::Quality && self.rows.iter().any(|row| value(&row.metrics).count() > 0),
            Part::Group(_) => false,
        };
        let known = KNOWN.into_iter().filter(shown).map(|(name, best, decimals, _, value)| {
            let value = Box::new(move |metrics: &Metrics| value(metrics).clone());
            Column { name, best, decimals, value }
        });
        let wanted = move |(_, own): &(usize, &OwnMetric)| match part {
            Part::Main => own.group.is_none(),
            Part::More => false,
            Part::Group(group) => own.group.as_deref() == Some(group),
        };
        let own = self.floor.more.iter().enumerate().filter(wanted).map(|(place, own)| {
            let value = move |metrics: &Metrics| {
                metrics.more.get(place).map_or_else(PerSeed::default, |own| own.values.clone())
            };
            let decimals = if own.group.is_some() { 3 } else { MOST_DECIMALS };
            Column { name: &own.name, best: own.best, decimals, value: Box::new(value) }
        });
        known.chain(own).collect()
    }

    /// The table, those of groups, and behind a fold the measures that it has no room for.
    pub(super) fn html(&self) -> String {
        let scrolling = |part, caption: &str| format!("<div class=\"scroll\">{}</div>", self.part(part, caption));
        let mut html = scrolling(Part::Main, &self.caption());
        html.extend(self.groups().into_iter().map(|group| scrolling(Part::Group(group), group)));
        if !self.columns(Part::More).is_empty() {
            html += &format!(
                "<details><summary>More measures, and seconds</summary>{}</details>",
                scrolling(Part::More, &self.caption())
            );
        }
        html
    }

    fn part(&self, part: Part<'_>, caption: &str) -> String {
        let mut html =
            format!("<table><caption><span>{}</span></caption><thead><tr><th scope=\"col\">arm</th>", escape(caption));
        for column in self.columns(part) {
            let (name, direction) = (escape(column.name), column.direction());
            html += &format!("<th scope=\"col\">{name} <span class=\"dim\">{direction}</span></th>");
        }
        html += "</tr></thead><tbody>";
        for row in &self.rows {
            let (class, name) = (row.arm.class(), escape(row.arm.name()));
            html += &format!("<tr><th scope=\"row\"><span class=\"swatch {class}\"></span>{name}</th>");
            html.extend(self.cells(&row.metrics, part).iter().map(Cell::html));
            html += "</tr>";
        }
        html += "<tr class=\"floor\"><th scope=\"row\">real against real</th>";
        html.extend(self.cells(&self.floor, part).iter().map(Cell::html));
        html + "</tr></tbody></table>"
    }

    /// One cell per column.
    fn cells(&self, metrics: &Metrics, part: Part<'_>) -> Vec<Cell> {
        let cell = |Column { decimals, value, .. }: Column<'_>| {
            let parts = |metrics: &Metrics| {
                let (mean, spread) = value(metrics).rounded(decimals);
                (mean, spread.map_or(String::new(), |spread| format!(" ± {spread}")))
            };
            let all = || self.rows.iter().map(|row| &row.metrics).chain([&self.floor]).map(parts);
            let widest = |width: fn(&(String, String)) -> usize| all().map(|parts| width(&parts)).max().unwrap_or(0);
            let (mean, spread) = parts(metrics);
            Cell {
                after_mean: widest(|(mean, _)| decimal_part(mean)).saturating_sub(decimal_part(&mean)),
                after_spread: widest(|(_, spread)| spread.chars().count()).saturating_sub(spread.chars().count()),
                widest: all().map(|(_, spread)| spread).max_by_key(|spread| spread.chars().count()).unwrap_or_default(),
                mean,
                spread,
            }
        };
        self.columns(part).into_iter().map(cell).collect()
    }

    /// The columns of a part for a terminal.
    fn lines(&self, f: &mut fmt::Formatter<'_>, part: Part<'_>) -> fmt::Result {
        let columns = self.columns(part);
        let headings = columns.iter().map(|column| format!("{} {}", column.name, column.direction()));
        let line = |name: &str, metrics: &Metrics| {
            let cells = self.cells(metrics, part).iter().map(Cell::text).collect();
            [vec![name.to_owned()], cells].concat()
        };
        let mut lines = vec![std::iter::once("arm".to_owned()).chain(headings).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().map(|row| line(row.arm.name(), &row.metrics)));
        lines.push(line("real against real", &self.floor));

        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
        let rule = "─".repeat(widths.iter().sum::<usize>() + 3 * columns.len());
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
        Ok(())
    }
}

/// "20 network evaluations per image", or from which number to which.
pub(crate) fn evaluations_text(least: u64, most: u64) -> String {
    if most > least {
        return format!("{} to {} network evaluations per image", thousands(least), thousands(most));
    }
    format!("{} network evaluations per image", thousands(least))
}

/// Aligned columns for a terminal; last those of groups.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(f, Part::Main)?;
        write!(f, "{}", self.caption())?;
        for group in self.groups() {
            f.write_str("\n\n")?;
            self.lines(f, Part::Group(group))?;
            f.write_str(group)?;
        }
        Ok(())
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
            most_evaluations: 50,
            labels: Some(Labels::Reference),
            features: pixels(),
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
    fn groups_of_measures_have_tables_of_their_own() {
        let own = |name: &str, group: &str, values: [f64; 2]| {
            let group = (!group.is_empty()).then(|| group.to_owned());
            OwnMetric { name: name.into(), best: Best::High, group, values: values.into() }
        };
        let metrics = |value: f64| {
            let counting = own("counting", "Captions.", [value, value + 0.25]);
            let alone = own("alone", "", [value; 2]);
            let more =
                vec![alone, counting, own("overall", "Captions.", [0.5; 2]), own("counting too", "Others.", [0.1; 2])];
            Metrics { more, ..Metrics::default() }
        };
        let rows = vec![Row { arm: Arm::Standard, metrics: metrics(0.25) }];
        let table = Table { rows, floor: metrics(1.0), ..Table::default() };
        let text = table.to_string();
        let parts: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(parts.len(), 3, "{text}");
        let headings: Vec<&str> = parts.iter().map(|part| part.lines().next().unwrap()).collect();
        assert!(headings[0].contains("Fréchet") && headings[0].ends_with("alone ↑"), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(headings[1]), ["arm", "counting", "↑", "overall", "↑"]);
        assert_eq!(words(headings[2]), ["arm", "counting", "too", "↑"]);
        assert!(parts[2].contains("0.100 ± 0.000"), "{text}");
        // Mean and deviation of 0.25 and 0.5.
        assert!(parts[1].contains("0.38 ± 0.18") && parts[1].ends_with("\nCaptions."), "{text}");
        let html = table.html();
        assert!(html.matches("<table>").count() == 3 && html.contains("<span>Others.</span></caption>"), "{html}");
    }

    #[test]
    fn an_empty_table_prints() {
        assert!(Table::default().to_string().contains("real against real"));
    }
}
