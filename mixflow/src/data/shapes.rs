//! Procedural coloured shapes.

use std::f64::consts::TAU;

use super::{Dataset, Error, Example, checked_size};
use crate::random::{self, Stream, uniform};

/// Coloured shapes on pastel grounds: circle, square, triangle and star in red, green, blue and yellow.
///
/// Endless: the scene is a function of (seed, index), drawn at random with every class equally likely. It is described
/// in the unit square, so an index shows the same scene at every size. Edges are antialiased by the exact signed
/// distance to the outline: a pixel's coverage falls linearly over one pixel's width.
#[derive(Clone, Debug)]
pub struct Shapes {
    size: usize,
    seed: u64,
    classes: Vec<String>,
}

impl Shapes {
    /// Scenes of `size × size` pixels and three channels.
    ///
    /// # Errors
    /// If `size` is not in 1..=4096.
    pub fn new(size: usize, seed: u64) -> Result<Self, Error> {
        let class = |outline: &Outline| COLOURS.map(|(colour, _)| format!("{colour} {}", outline.name));
        let classes = OUTLINES.iter().flat_map(class).collect();
        Ok(Self { size: checked_size(size)?, seed, classes })
    }
}

impl Dataset for Shapes {
    fn len(&self) -> Option<u64> {
        None
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn shape(&self) -> [usize; 3] {
        [3, self.size, self.size]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        let scene = Scene::new(self.seed, index);
        let area = self.size * self.size;
        let mut pixels = vec![0.0; 3 * area];
        for i in 0..area {
            let centre = |i: usize| (i as f64 + 0.5) / self.size as f64;
            let colour = scene.colour([centre(i % self.size), centre(i / self.size)], 1.0 / self.size as f64);
            for (channel, value) in colour.into_iter().enumerate() {
                pixels[channel * area + i] = (2.0 * value - 1.0) as f32;
            }
        }
        Ok(Example::new(pixels, scene.label))
    }
}

/// Red, green, blue in [0, 1], as displayed.
pub(super) type Rgb = [f64; 3];

/// A point or vector in the unit square, y downwards.
pub(super) type Point = [f64; 2];

const COLOURS: [(&str, Rgb); 4] = [
    ("red", [0.88, 0.20, 0.24]),
    ("green", [0.16, 0.66, 0.36]),
    ("blue", [0.16, 0.42, 0.88]),
    ("yellow", [0.98, 0.76, 0.12]),
];

/// A shape as a star-like polygon; radii are in units of the radius of a circle of about equal area.
struct Outline {
    name: &'static str,
    /// Corners of the polygon; 0 is a circle.
    corners: usize,
    /// Distance of the even corners from the centre.
    outer: f64,
    /// Distance of the odd corners from the centre.
    inner: f64,
}

const OUTLINES: [Outline; 4] = [
    Outline { name: "circle", corners: 0, outer: 1.0, inner: 1.0 },
    Outline { name: "square", corners: 4, outer: 1.2, inner: 1.2 },
    Outline { name: "triangle", corners: 3, outer: 1.4, inner: 1.4 },
    Outline { name: "star", corners: 10, outer: 1.4, inner: 0.68 },
];

/// Rounding of corners, in the same units.
const ROUND: f64 = 0.07;

struct Scene {
    label: usize,
    centre: Point,
    radius: f64,
    polygon: Vec<Point>,
    paint: Rgb,
    ground: Rgb,
}

impl Scene {
    fn new(seed: u64, index: u64) -> Self {
        let mut rng = random::rng(seed, Stream::Scene, index);
        let mut between = |low: f64, high: f64| low + (high - low) * uniform(&mut rng);
        let label = between(0.0, (OUTLINES.len() * COLOURS.len()) as f64) as usize;
        let outline = &OUTLINES[label / COLOURS.len()];
        let radius = between(0.17, 0.29);
        let margin = radius * (outline.outer + ROUND) + 0.03;
        let centre = [between(margin, 1.0 - margin), between(margin, 1.0 - margin)];
        let rotation = between(0.0, TAU);
        let light = between(0.92, 1.08);
        let ground = [between(0.80, 0.98), between(0.80, 0.98), between(0.80, 0.98)];

        let corner = |i: usize| {
            let angle = rotation + TAU * i as f64 / outline.corners as f64;
            let distance = radius * if i.is_multiple_of(2) { outline.outer } else { outline.inner };
            [centre[0] + distance * angle.cos(), centre[1] + distance * angle.sin()]
        };
        Self {
            label,
            centre,
            radius,
            polygon: (0..outline.corners).map(corner).collect(),
            paint: COLOURS[label % COLOURS.len()].1.map(|value| value * light),
            ground,
        }
    }

    /// Signed distance from the outline, negative inside.
    fn distance(&self, point: Point) -> f64 {
        if self.polygon.is_empty() {
            length(minus(point, self.centre)) - self.radius
        } else {
            polygon_distance(&self.polygon, point) - ROUND * self.radius
        }
    }

    /// The colour of a pixel of the given width: ground, soft shadow, then the shape, lit from above.
    fn colour(&self, point: Point, width: f64) -> Rgb {
        let covered = |distance: f64, width: f64| (0.5 - distance / width).clamp(0.0, 1.0);
        let shadow = covered(self.distance(minus(point, [0.015, 0.03])), 0.09);
        let shadow = 0.22 * shadow * shadow * (3.0 - 2.0 * shadow);
        let shape = covered(self.distance(point), width);
        let lit = 1.0 - 0.12 * (point[1] - self.centre[1]) / self.radius;
        std::array::from_fn(|channel| {
            let ground = self.ground[channel] * (1.04 - 0.08 * point[1]) * (1.0 - shadow);
            let paint = self.paint[channel] * lit;
            (ground + (paint - ground) * shape).clamp(0.0, 1.0)
        })
    }
}

/// Exact signed distance from a simple polygon, negative inside.
pub(super) fn polygon_distance(polygon: &[Point], point: Point) -> f64 {
    let mut nearest = f64::INFINITY;
    let mut inside = false;
    let mut from = polygon[polygon.len() - 1];
    for &to in polygon {
        let (edge, offset) = (minus(to, from), minus(point, from));
        let along = (dot(offset, edge) / dot(edge, edge)).clamp(0.0, 1.0);
        let gap = minus(offset, edge.map(|e| e * along));
        nearest = nearest.min(dot(gap, gap));
        // A ray to the right crosses the outline an odd number of times from inside.
        let crosses = (from[1] > point[1]) != (to[1] > point[1]);
        inside ^= crosses && offset[0] < edge[0] * offset[1] / edge[1];
        from = to;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

pub(super) fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

pub(super) fn length(a: Point) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_the_same_scene_at_every_size() {
        let [small, large] = [32, 128].map(|size| Shapes::new(size, 3).unwrap());
        for index in 0..32 {
            let (small, large) = (small.example(index).unwrap(), large.example(index).unwrap());
            assert_eq!(small.label, large.label);
            let average = |i: usize| {
                let (plane, row, column) = (i / 1024, i / 32 % 32, i % 32);
                let block = |k: usize| large.pixels[plane * 16384 + (4 * row + k / 4) * 128 + 4 * column + k % 4];
                (0..16).map(block).sum::<f32>() / 16.0
            };
            let differences: Vec<_> = small.pixels.iter().enumerate().map(|(i, v)| (v - average(i)).abs()).collect();
            // Area average and distance ramp differ only on the outline: a little along it, more at corners.
            let mean = differences.iter().sum::<f32>() / differences.len() as f32;
            let most = differences.iter().copied().fold(0.0, f32::max);
            assert!(mean < 0.01 && most < 0.5, "scene {index}: mean {mean}, most {most}");
        }
    }

    #[test]
    fn scenes_depend_on_seed_and_index_only() {
        let shapes = Shapes::new(16, 3).unwrap();
        assert_eq!(shapes.example(9).unwrap(), shapes.example(9).unwrap());
        assert_ne!(shapes.example(9).unwrap(), shapes.example(10).unwrap());
        assert_ne!(shapes.example(9).unwrap(), Shapes::new(16, 4).unwrap().example(9).unwrap());
        assert!(shapes.example(u64::MAX).unwrap().pixels.iter().all(|v| (-1.0..=1.0).contains(v)));
    }

    #[test]
    fn classes_are_named_and_equally_likely() {
        let shapes = Shapes::new(1, 0).unwrap();
        assert_eq!(shapes.classes().len(), 16);
        assert_eq!((&*shapes.classes()[0], &*shapes.classes()[15]), ("red circle", "yellow star"));
        let mut counts = [0f64; 16];
        (0..16_000).for_each(|index| counts[Scene::new(0, index).label] += 1.0);
        assert!(counts.iter().all(|count| (count - 1000.0).abs() < 5.0 * 1000f64.sqrt()), "{counts:?}");
    }

    #[test]
    fn polygon_distances_are_exact() {
        let square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        for (point, expected) in
            [([0.5, 0.25], -0.25), ([2.0, 0.5], 1.0), ([4.0, 5.0], 5.0), ([0.5, -3.0], 3.0), ([1.0, 0.5], 0.0)]
        {
            assert!((polygon_distance(&square, point) - expected).abs() < 1e-15, "{point:?}");
        }
    }

    #[test]
    fn the_shape_has_its_colour_and_stays_inside() {
        let shapes = Shapes::new(64, 1).unwrap();
        for index in 0..200 {
            let scene = Scene::new(1, index);
            let edge = (0..64).flat_map(|i| [(0, i), (63, i), (i, 0), (i, 63)]);
            let centre = |(x, y)| [(f64::from(x) + 0.5) / 64.0, (f64::from(y) + 0.5) / 64.0];
            assert!(edge.map(centre).all(|point| scene.distance(point) > 0.0), "scene {index}");
            let [red, green, blue] = scene.colour(scene.centre, 1.0 / 64.0);
            let colour = match shapes.classes()[scene.label].split(' ').next().unwrap() {
                "red" => red > 2.0 * green && red > 2.0 * blue,
                "green" => green > 1.5 * red && green > 1.5 * blue,
                "blue" => blue > 1.5 * green && blue > 2.0 * red,
                _ => red > 2.0 * blue && green > 2.0 * blue,
            };
            assert!(colour, "scene {index}");
        }
    }
}
