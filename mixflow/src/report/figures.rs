//! The report's charts.

use super::per_seed::{PerSeed, Point};
use super::plot::{Axis, Chart, Layer, Shape};
use super::summary::capitalised;
use super::ticks::{Scale, Ticks};
use super::{Arm, Curve, FrechetByEvaluations, SlowFlowPanel};

/// Losses by step: raw pale, smoothed strong. Log axis where the loss falls by more than a factor of eight.
pub(super) fn loss(id: String, title: &str, curves: &[&Curve]) -> Chart {
    let smooth: Vec<(&Curve, Vec<Point>)> = curves.iter().map(|curve| (*curve, smoothed(&curve.points))).collect();
    let values = || smooth.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (low, high) = values().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let scale = if low > 0.0 && high > 8.0 * low { Scale::Log } else { Scale::Linear };

    // The axis fits the bulk of the raw values; a lone spike is cut at the frame.
    let mut raw: Vec<f64> = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|point| point.1))
        .filter(|value| value.is_finite())
        .collect();
    raw.sort_by(f64::total_cmp);
    let bulk = |share: f64| raw.get((share * raw.len().saturating_sub(1) as f64) as usize).copied();
    let fitted = values().chain(bulk(0.005)).chain(bulk(0.995));
    let steps = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));

    let pairs = |points: &[Point]| points.iter().map(|point| (point.0, point.1)).collect();
    let mut layers: Vec<Layer> = curves
        .iter()
        .map(|curve| Layer {
            class: curve.arm.class(),
            label: String::new(),
            shape: Shape::Faint(pairs(&curve.points)),
        })
        .collect();
    let mut named = Vec::new();
    for (curve, points) in &smooth {
        let new = !named.contains(&&curve.arm) && smooth.iter().any(|(other, _)| other.arm != curve.arm);
        named.push(&curve.arm);
        let label = if new { curve.arm.name().to_owned() } else { String::new() };
        layers.push(Layer { class: curve.arm.class(), label, shape: Shape::Line(pairs(points)) });
    }
    let last = smooth.iter().filter_map(|(curve, points)| {
        points.last().map(|point| format!("{} ends at {:.4}", curve.arm.name(), point.1))
    });
    Chart {
        id,
        title: title.to_owned(),
        description: format!("Loss by training step. {}.", last.collect::<Vec<_>>().join("; ")),
        height: 290.0,
        x: Axis { label: "training step".into(), ticks: Ticks::fit(Scale::Linear, steps, 5) },
        y: Axis {
            label: if scale == Scale::Log { "loss (log scale)" } else { "loss" }.into(),
            ticks: Ticks::fit(scale, fitted, 5),
        },
        layers,
    }
}

/// Mean over a fortieth of the curve around each point; points that are not finite are skipped.
fn smoothed(points: &[Point]) -> Vec<Point> {
    let finite = points.iter().filter(|point| point.0.is_finite() && point.1.is_finite());
    let points: Vec<Point> = finite.copied().collect();
    let reach = points.len() / 80;
    let mut sums = vec![0.0];
    for point in &points {
        sums.push(sums[sums.len() - 1] + point.1);
    }
    let smooth = |(index, point): (usize, &Point)| {
        // At the ends the window is cut, not shrunk to a point: the last value is the one that is read.
        let (first, last) = (index.saturating_sub(reach), (index + reach + 1).min(points.len()));
        Point(point.0, (sums[last] - sums[first]) / (last - first) as f64)
    };
    points.iter().enumerate().map(smooth).collect()
}

/// Fréchet distance, of this `name`, by number of evaluations: a line through the means, a band over the seeds, the floor
/// dashed.
pub(super) fn frechet(data: &FrechetByEvaluations, arms: &[Arm], name: &str) -> Chart {
    let mut evaluations: Vec<f64> = data.points.iter().map(|point| point.evaluations as f64).collect();
    evaluations.sort_by(f64::total_cmp);
    evaluations.dedup();
    let values: Vec<f64> =
        data.points.iter().flat_map(|point| point.frechet.finite()).chain(data.floor.mean()).collect();
    let (low, high) =
        values.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let (scale, label) = if low > 0.0 && high > 8.0 * low {
        (Scale::Log, format!("{name} (log scale)"))
    } else {
        (Scale::Linear, name.to_owned())
    };

    let mut layers = Vec::new();
    if let (Some(floor), Some(first), Some(last)) = (data.floor.mean(), evaluations.first(), evaluations.last()) {
        layers.push(Layer {
            class: "real".into(),
            label: "real vs real".into(),
            shape: Shape::Dashed(vec![(*first, floor), (*last, floor)]),
        });
    }
    for arm in arms {
        let points = by_evaluations(data, arm);
        let band = points.iter().filter_map(|(x, y)| y.range().map(|(low, high)| (*x, low, high))).collect();
        layers.push(Layer { class: arm.class(), label: String::new(), shape: Shape::Band(band) });
    }
    for arm in arms {
        let points = by_evaluations(data, arm).iter().filter_map(|(x, y)| Some((*x, y.mean()?))).collect();
        layers.push(Layer { class: arm.class(), label: arm.name().into(), shape: Shape::Marks(points) });
    }
    Chart {
        id: "frechet".into(),
        title: format!("{} by number of network evaluations", capitalised(name)),
        description: "One line per arm; the numbers are in the table beside it. Smaller is better.".into(),
        height: 330.0,
        x: Axis { label: "network evaluations per image (log scale)".into(), ticks: Ticks::at(&evaluations) },
        y: Axis { label, ticks: Ticks::fit(scale, values.into_iter(), 5) },
        layers,
    }
}

fn by_evaluations<'d>(data: &'d FrechetByEvaluations, arm: &Arm) -> Vec<(f64, &'d PerSeed)> {
    let points = data.points.iter().filter(|point| point.arm == *arm);
    let mut points: Vec<_> = points.map(|point| (point.evaluations as f64, &point.frechet)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Arms whose bands lie over one another in a figure of Slow Flow, at most.
const MOST_BANDS: usize = 5;

/// The nearest ground-truth time of generated states, under the diagonal where generation runs late.
pub(super) fn slow_flow(id: &str, panel: &SlowFlowPanel) -> Chart {
    let mut layers =
        vec![Layer { class: "real".into(), label: String::new(), shape: Shape::Dashed(vec![(0.0, 0.0), (1.0, 1.0)]) }];
    // Of more arms than can be told apart there are lines alone.
    let bands = if panel.bands.len() <= MOST_BANDS { &panel.bands[..] } else { &[] };
    for band in bands {
        let times = band.times.iter().map(|time| (time.t, time.low, time.high)).collect();
        layers.push(Layer { class: band.arm.class(), label: String::new(), shape: Shape::Band(times) });
    }
    for band in &panel.bands {
        let times = band.times.iter().map(|time| (time.t, time.median)).collect();
        // One network alone is named by the page.
        let label = if panel.bands.len() > 1 { band.arm.name() } else { "" };
        layers.push(Layer { class: band.arm.class(), label: label.into(), shape: Shape::Line(times) });
    }
    let ends = panel.bands.iter().filter_map(|band| band.times.last().map(|time| (&band.arm, time)));
    let ends =
        ends.filter(|(_, time)| [time.t, time.low, time.median, time.high].iter().all(|value| value.is_finite()));
    let ends = ends.map(|(arm, time)| {
        format!("{}: median {:.2}, 5 to 95 % from {:.2} to {:.2}", arm.name(), time.median, time.low, time.high)
    });
    Chart {
        id: id.into(),
        title: format!("Slow Flow, {}", panel.title),
        description: format!("At the last sampling time. {}.", ends.collect::<Vec<_>>().join("; ")),
        height: 400.0,
        x: Axis { label: "sampling time t".into(), ticks: Ticks::fixed(0.0, 1.0, 5) },
        y: Axis { label: format!("{} m", panel.title), ticks: Ticks::fixed(0.0, 1.0, 5) },
        layers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_straight_lines_and_removes_ripples() {
        let curve = |ripple: f64| -> Vec<Point> {
            (0..800)
                .map(|step| Point(f64::from(step), f64::from(step) + ripple * f64::from(step % 2 * 2 - 1)))
                .collect()
        };
        assert_eq!(smoothed(&curve(0.0))[10..790], curve(0.0)[10..790]);
        let worst = smoothed(&curve(10.0))[20..780].iter().map(|point| (point.0 - point.1).abs()).fold(0.0, f64::max);
        // One of the 21 points in the window has no partner to cancel it.
        assert!(worst <= 10.0 / 21.0 + 1e-9, "{worst}");
        assert_eq!(smoothed(&[Point(0.0, f64::NAN), Point(1.0, 2.0)]), [Point(1.0, 2.0)]);
        assert!(smoothed(&[]).is_empty());
    }
}
