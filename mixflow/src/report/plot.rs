//! A small chart: lines, bands and marks on two axes, as SVG that takes its colours from the page.

use std::fmt::Write;

use super::html::escape;
use super::ticks::Ticks;

const WIDTH: f64 = Chart::WIDTH;
/// Of the labels right of the data: of the longest names of arms a little more than half is shown.
const MOST_LABEL: f64 = 0.45 * WIDTH;
const LEFT: f64 = 46.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;
/// More points than a line has pixels cannot be seen.
const MOST_POINTS: usize = 800;

/// A chart. Points that the axes have no place for are skipped.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// Unique on the page; ties the picture to its title and description.
    pub(super) id: String,
    pub(super) title: String,
    /// What a reader who cannot see the picture should know.
    pub(super) description: String,
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in order, the last on top.
    pub(super) layers: Vec<Layer>,
}

/// A fitted axis and what it measures.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) ticks: Ticks,
}

/// One thing to draw.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// CSS class that carries the colour.
    pub(super) class: String,
    /// Written at the line's right end; empty for none.
    pub(super) label: String,
    pub(super) shape: Shape,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Line(Vec<(f64, f64)>),
    /// A thin, pale line behind others.
    Faint(Vec<(f64, f64)>),
    Dashed(Vec<(f64, f64)>),
    /// A line with a mark at each point.
    Marks(Vec<(f64, f64)>),
    /// (x, low, high).
    Band(Vec<(f64, f64, f64)>),
}

impl Chart {
    pub(super) const WIDTH: f64 = 460.0;

    /// The chart as an `<svg>` element.
    pub(super) fn svg(&self) -> String {
        let frame = Frame::new(self);
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{description}</desc>\
             <text class=\"axis-name\" x=\"0\" y=\"12\">{y}</text>",
            height = self.height,
            id = self.id,
            title = escape(&self.title),
            description = escape(&self.description),
            y = escape(&self.y.label),
        );
        frame.axes(self, &mut svg);
        let mut labels = Vec::new();
        for layer in &self.layers {
            let end = frame.layer(layer, &mut svg);
            if let Some(end) = end.filter(|_| !layer.label.is_empty()) {
                labels.push((end, layer));
            }
        }
        frame.labels(labels, &mut svg);
        svg.push_str("</svg>");
        svg
    }
}

/// The rectangle that data is drawn in.
struct Frame<'a> {
    x: &'a Ticks,
    y: &'a Ticks,
    right: f64,
    bottom: f64,
}

impl<'a> Frame<'a> {
    fn new(chart: &'a Chart) -> Self {
        // Room for the longest label, at about 8.6 units a character.
        let longest = chart.layers.iter().map(|layer| layer.label.chars().count()).max().unwrap_or(0);
        let right = WIDTH - (8.6 * longest as f64 + 10.0).clamp(20.0, MOST_LABEL);
        Self { x: &chart.x.ticks, y: &chart.y.ticks, right, bottom: chart.height - BOTTOM }
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let x = LEFT + self.x.position(x)? * (self.right - LEFT);
        let y = self.bottom - self.y.position(y)? * (self.bottom - TOP);
        // Far outside is cut, so that no number in the file is absurd.
        let inside = (-WIDTH..2.0 * WIDTH).contains(&x) && (-1e4..1e4).contains(&y);
        inside.then(|| (x, y.clamp(TOP, self.bottom)))
    }

    fn axes(&self, chart: &Chart, svg: &mut String) {
        for (value, text) in &self.y.labels {
            let Some((_, y)) = self.place((self.x.low, *value)) else {
                continue;
            };
            let _ = write!(
                svg,
                "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.right,
                LEFT - 7.0,
                y + 4.0,
                escape(text)
            );
        }
        let mut free = f64::NEG_INFINITY;
        for (value, text) in &self.x.labels {
            let Some((x, _)) = self.place((*value, self.y.low)) else {
                continue;
            };
            let half = 3.4 * text.chars().count() as f64;
            let _ = write!(svg, "<path class=\"mark\" d=\"M{x:.1} {:.1}v5\"/>", self.bottom);
            if x - half < free {
                continue;
            }
            free = x + half + 6.0;
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.bottom + 19.0,
                escape(text)
            );
        }
        let _ = write!(
            svg,
            "<path class=\"base\" d=\"M{LEFT} {bottom:.1}H{right:.1}\"/>\
             <text class=\"axis-name\" x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom = self.bottom,
            right = self.right,
            middle = f64::midpoint(LEFT, self.right),
            y = self.bottom + 37.0,
            label = escape(&chart.x.label)
        );
    }

    /// Draws a layer and returns the height of its right end.
    fn layer(&self, layer: &Layer, svg: &mut String) -> Option<f64> {
        let (points, kind) = match &layer.shape {
            Shape::Band(points) => return self.band(points, &layer.class, svg),
            Shape::Line(points) => (points, "line"),
            Shape::Faint(points) => (points, "faint"),
            Shape::Dashed(points) => (points, "dashed"),
            Shape::Marks(points) => (points, "line"),
        };
        let points: Vec<_> = points.iter().filter_map(|point| self.place(*point)).collect();
        let points = thin(points);
        let &(_, end) = points.last()?;
        let class = &layer.class;
        if points.len() > 1 {
            let _ = write!(svg, "<path class=\"{kind} {class}\" d=\"{}\"/>", path(&points));
        }
        if points.len() == 1 || matches!(layer.shape, Shape::Marks(_)) {
            for (x, y) in &points {
                let _ = write!(svg, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>");
            }
        }
        Some(end)
    }

    fn band(&self, points: &[(f64, f64, f64)], class: &str, svg: &mut String) -> Option<f64> {
        let edges = points.iter().filter_map(|&(x, low, high)| Some((self.place((x, low))?, self.place((x, high))?)));
        let (mut low, high): (Vec<_>, Vec<_>) = thin(edges.collect()).into_iter().unzip();
        let end = f64::midpoint(low.last()?.1, high.last()?.1);
        low.reverse();
        let outline: Vec<_> = high.into_iter().chain(low).collect();
        let _ = write!(svg, "<path class=\"band {class}\" d=\"{}Z\"/>", path(&outline));
        Some(end)
    }

    /// Writes names beside the ends of their lines, pushed apart where they would overlap.
    fn labels(&self, mut labels: Vec<(f64, &Layer)>, svg: &mut String) {
        const APART: f64 = 15.0;
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut heights: Vec<f64> = labels.iter().map(|(y, _)| *y).collect();
        for index in 1..heights.len() {
            heights[index] = heights[index].max(heights[index - 1] + APART);
        }
        let mut limit = self.bottom - 4.0;
        for height in heights.iter_mut().rev() {
            *height = height.min(limit);
            limit = *height - APART;
        }
        for ((_, layer), y) in labels.iter().zip(heights) {
            let (class, x, y) = (&layer.class, self.right + 7.0, y + 4.0);
            let _ =
                write!(svg, "<text class=\"name {class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(&layer.label));
        }
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

/// At most [`MOST_POINTS`], evenly chosen, the first and last among them.
fn thin<P: Copy>(points: Vec<P>) -> Vec<P> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    (0..MOST_POINTS).map(|index| points[index * (points.len() - 1) / (MOST_POINTS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ticks::Scale;
    use super::*;

    fn chart(shape: Shape, scale: Scale, values: &[f64]) -> Chart {
        let axis = || Axis { label: "<axis>".into(), ticks: Ticks::fit(scale, values.iter().copied(), 5) };
        let layers = vec![Layer { class: "start".into(), label: "a & b".into(), shape }];
        Chart {
            id: "c".into(),
            title: "t".into(),
            description: "d".into(),
            height: 300.0,
            x: axis(),
            y: axis(),
            layers,
        }
    }

    #[test]
    fn odd_series_draw_what_they_can() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e308, 1e-308, 2.0];
        for count in 0..=odd.len() {
            let points: Vec<(f64, f64)> = odd[..count].iter().flat_map(|x| odd.iter().map(move |y| (*x, *y))).collect();
            let bands = points.iter().map(|(x, y)| (*x, *y, *y)).collect();
            let shapes =
                [Shape::Line(points.clone()), Shape::Marks(points.clone()), Shape::Faint(points), Shape::Band(bands)];
            for shape in shapes {
                for scale in [Scale::Linear, Scale::Log] {
                    let svg = chart(shape.clone(), scale, &odd[..count]).svg();
                    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                    assert!(svg.contains("&lt;axis&gt;") && !svg.contains("a & b"));
                }
            }
        }
    }

    #[test]
    fn one_point_is_a_dot() {
        let svg = chart(Shape::Line(vec![(1.0, 1.0)]), Scale::Linear, &[1.0]).svg();
        assert_eq!(svg.matches("<circle").count(), 1);
    }

    #[test]
    fn a_million_points_stay_small_and_keep_their_ends() {
        let kept = thin((0..1_000_000).collect());
        assert_eq!((kept.len(), kept[0], kept[MOST_POINTS - 1]), (MOST_POINTS, 0, 999_999));
        let svg =
            chart(Shape::Line((0..1_000_000).map(|x| (f64::from(x), 1.0)).collect()), Scale::Linear, &[0.0, 1e6]).svg();
        assert!(svg.len() < 20_000, "{}", svg.len());
    }

    #[test]
    fn labels_do_not_overlap() {
        let layer = |label: &str| Layer {
            class: "start".into(),
            label: label.into(),
            shape: Shape::Line(vec![(0.0, 0.5), (1.0, 0.5)]),
        };
        let chart = Chart {
            layers: ["one", "two", "three"].map(layer).to_vec(),
            ..chart(Shape::Line(vec![]), Scale::Linear, &[0.0, 1.0])
        };
        let svg = chart.svg();
        let heights: Vec<f64> = svg
            .split("class=\"name")
            .skip(1)
            .filter_map(|text| text.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 3);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 14.9), "{heights:?}");
    }
}
