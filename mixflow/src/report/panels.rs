//! The figure of a comparison: four panels as pictures that need no page, each with its numbers.

use std::fmt::Write;

use super::plot::{Axis, Chart, Layer, Shape};
use super::ticks::{Scale, Ticks};
use super::{Arm, PerSeed, Point, Report, figures};

/// One picture, and the numbers in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Name of its files.
    pub name: &'static str,
    /// The picture, in the colours of light paper.
    pub svg: String,
    /// Its numbers, with a line of names.
    pub csv: String,
}

/// Lost diversity by the dimensions of the data: shares by which deviations are too small.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bias {
    /// Of a perfect network of MixFlow on Gaussian data of low rank, by dimensions.
    pub exact: Vec<Point>,
    /// Of trained networks of MixFlow against standard ones, by dimensions, one a seed.
    pub trained: Vec<Point>,
}

impl Report {
    /// The panels: Slow Flow, `bias` against dimensions, quality against evaluations, recall against quality. What was not
    /// measured has none.
    pub fn panels(&self, bias: &Bias) -> Vec<Panel> {
        let mut panels = vec![];
        for (name, panel) in ["slow-flow", "slow-flow-calibrated"].into_iter().zip(&self.slow_flow) {
            let mut csv = String::from("arm,t,m_5,m_50,m_95\n");
            for band in &panel.bands {
                for time in &band.times {
                    line(&mut csv, band.arm.name(), &[time.t, time.low, time.median, time.high]);
                }
            }
            panels.push(self.panel(name, &figures::slow_flow(name, panel), csv));
        }
        if !bias.exact.is_empty() {
            panels.push(self.panel("dimension", &dimension(bias), bias_csv(bias)));
        }
        let points = self.points();
        if points.iter().any(|(.., ratio, _)| ratio.is_finite()) {
            let mut csv = String::from("arm,evaluations,seed,fdr,recall\n");
            for (arm, evaluations, seed, ratio, recall) in &points {
                line(&mut csv, arm.name(), &[*evaluations as f64, *seed as f64, *ratio, *recall]);
            }
            panels.push(self.panel("quality", &self.quality(), csv.clone()));
            if points.iter().any(|(.., recall)| recall.is_finite()) {
                panels.push(self.panel("recall", &self.recall(), csv));
            }
        }
        panels
    }

    fn panel(&self, name: &'static str, chart: &Chart, csv: String) -> Panel {
        Panel { name, svg: chart.standalone(&self.order()), csv }
    }

    /// Arm, evaluations, seed, `FDr` and recall of everything that was measured.
    fn points(&self) -> Vec<(Arm, u64, usize, f64, f64)> {
        let floor = self.floor();
        let all = self.frechet_by_evaluations.points.iter().flat_map(|point| {
            let recall = |seed: usize| point.recall.0.get(seed).copied().unwrap_or(f64::NAN);
            let seeds = point.frechet.0.iter().enumerate();
            seeds
                .map(move |(seed, frechet)| (point.arm.clone(), point.evaluations, seed, frechet / floor, recall(seed)))
        });
        all.collect()
    }

    fn floor(&self) -> f64 {
        self.frechet_by_evaluations.floor.mean().unwrap_or(f64::NAN)
    }

    fn quality(&self) -> Chart {
        let floor = self.floor();
        let mut data = self.frechet_by_evaluations.clone();
        // It is 1, and would take the axis from the arms.
        data.floor = PerSeed::default();
        for point in &mut data.points {
            point.frechet.0.iter_mut().for_each(|frechet| *frechet /= floor);
        }
        figures::frechet(&data, &self.order(), "Fréchet distance over its floor")
    }

    /// Means over seeds, one mark for each number of evaluations; the line runs from few to many.
    fn recall(&self) -> Chart {
        let (floor, data) = (self.floor(), &self.frechet_by_evaluations);
        let of = |arm: &Arm| -> Vec<(f64, f64)> {
            let mut points: Vec<_> = data.points.iter().filter(|point| point.arm == *arm).collect();
            points.sort_by_key(|point| point.evaluations);
            points.iter().filter_map(|point| Some((point.frechet.mean()? / floor, point.recall.mean()?))).collect()
        };
        let order = self.order();
        let layers: Vec<Layer> = order
            .iter()
            .map(|arm| Layer { class: arm.class(), label: arm.name().into(), shape: Shape::Marks(of(arm)) })
            .collect();
        let all: Vec<(f64, f64)> = order.iter().flat_map(of).collect();
        Chart {
            id: "recall".into(),
            title: "Recall against quality".into(),
            description: "One mark for each number of evaluations. To the left is better, upwards too.".into(),
            height: 330.0,
            x: Axis {
                label: "Fréchet distance over its floor (log scale)".into(),
                ticks: Ticks::fit(Scale::Log, all.iter().map(|point| point.0), 5),
            },
            y: Axis { label: "recall".into(), ticks: Ticks::fit(Scale::Linear, all.iter().map(|point| point.1), 5) },
            layers,
        }
    }
}

fn dimension(bias: &Bias) -> Chart {
    let pairs = |points: &[Point]| points.iter().map(|point| (point.0, 100.0 * point.1)).collect::<Vec<_>>();
    let (exact, trained) = (pairs(&bias.exact), pairs(&bias.trained));
    let x = exact.iter().chain(&trained).map(|point| point.0);
    let y = exact.iter().chain(&trained).map(|point| point.1).chain([0.0]);
    let alone = trained.iter().map(|point| Layer {
        class: Arm::MixFlow.class(),
        label: String::new(),
        shape: Shape::Marks(vec![*point]),
    });
    let line = Layer { class: "real".into(), label: "exact".into(), shape: Shape::Marks(exact.clone()) };
    Chart {
        id: "dimension".into(),
        title: "Lost diversity by dimension".into(),
        description:
            "How far deviations are below those of the data for a perfect network of MixFlow on Gaussian data of low \
                      rank, and below those of standard post-training for trained networks."
                .into(),
        height: 330.0,
        x: Axis { label: "numbers of an example (log scale)".into(), ticks: Ticks::fit(Scale::Log, x, 4) },
        y: Axis { label: "deviation lost, %".into(), ticks: Ticks::fit(Scale::Linear, y, 5) },
        layers: std::iter::once(line).chain(alone).collect(),
    }
}

fn bias_csv(bias: &Bias) -> String {
    let mut csv = String::from("network,dimensions,share\n");
    for (name, points) in [("exact", &bias.exact), ("trained", &bias.trained)] {
        points.iter().for_each(|point| line(&mut csv, name, &[point.0, point.1]));
    }
    csv
}

/// Names of arms have no commas or quotes, but results may come from anywhere.
fn line(csv: &mut String, name: &str, numbers: &[f64]) {
    let _ = write!(csv, "\"{}\"", name.replace('"', "'"));
    for number in numbers {
        let _ = if number.is_finite() { write!(csv, ",{number}") } else { write!(csv, ",") };
    }
    csv.push('\n');
}
