//! What is in a scene, and its pixels.

use super::super::shapes::{Point, Rgb, length, minus, polygon_distance};
use super::{Caption, Colour, Group, Relation, Shape, is_unseen};

/// Something in a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// What it is.
    pub shape: Shape,
    /// In which colour.
    pub colour: Colour,
    /// Where its middle is in the unit square, y downwards.
    pub centre: [f64; 2],
    /// Radius of a circle of about its area.
    pub radius: f64,
}

impl Object {
    /// How far it reaches from its middle.
    fn reach(&self) -> f64 {
        let corners = corners(self.shape);
        self.radius * corners.iter().map(|corner| length(*corner)).fold(1.0, f64::max)
    }

    /// Signed distance from the outline, negative inside.
    fn distance(&self, point: Point) -> f64 {
        let point = minus(point, self.centre).map(|x| x / self.radius);
        self.radius
            * match self.shape {
                Shape::Circle => length(point) - 1.0,
                other => polygon_distance(&corners(other), point),
            }
    }
}

/// Corners in units of the radius; those of a circle are none.
fn corners(shape: Shape) -> Vec<Point> {
    match shape {
        Shape::Circle => vec![],
        Shape::Square => vec![[-0.89, -0.89], [0.89, -0.89], [0.89, 0.89], [-0.89, 0.89]],
        // cos and sin of 30°, times 1.5.
        Shape::Triangle => vec![[0.0, -1.5], [1.299, 0.75], [-1.299, 0.75]],
        Shape::Cross => {
            let (long, short) = (1.15, 0.42);
            let arm = [[-short, -long], [short, -long], [short, -short]];
            let turned = |quarter: usize| arm.map(|[x, y]| [[x, y], [-y, x], [-x, -y], [y, -x]][quarter]);
            (0..4).flat_map(turned).collect()
        }
    }
}

/// The largest radius where there are so many objects, from one on.
const LARGEST: [f64; 4] = [0.20, 0.16, 0.14, 0.13];

/// Room between objects, and at the sides.
const GAP: f64 = 0.06;

/// By how much more an object is left of another than above or below it, and likewise.
const CLEARLY: f64 = 0.12;

/// A scene, drawn at random.
pub(super) struct Scene {
    pub(super) objects: Vec<Object>,
    paints: Vec<Rgb>,
    ground: f64,
}

impl Scene {
    /// A scene of what a caption says; `random` gives numbers in [0, 1).
    pub(super) fn new(caption: &Caption, random: &mut dyn FnMut() -> f64) -> Self {
        let ground = 0.42 + 0.16 * random();
        let objects = loop {
            let objects = propose(caption, random);
            if fits(caption, &objects) {
                break objects;
            }
        };
        let paints = objects.iter().map(|object| object.colour.rgb().map(|value| value * (0.92 + 0.13 * random())));
        Self { paints: paints.collect(), objects, ground }
    }

    /// `[3, size, size]` in [−1, 1].
    pub(super) fn pixels(&self, size: usize) -> Vec<f32> {
        let area = size * size;
        let mut pixels = vec![(2.0 * self.ground - 1.0) as f32; 3 * area];
        for (object, paint) in self.objects.iter().zip(&self.paints) {
            for i in 0..area {
                let centre = |i: usize| (i as f64 + 0.5) / size as f64;
                let distance = object.distance([centre(i % size), centre(i / size)]);
                let covered = (0.5 - distance * size as f64).clamp(0.0, 1.0);
                for (channel, value) in paint.iter().enumerate() {
                    let pixel = &mut pixels[channel * area + i];
                    *pixel += covered as f32 * (2.0 * value.min(1.0) as f32 - 1.0 - *pixel);
                }
            }
        }
        pixels
    }
}

/// Objects of a caption, anywhere.
fn propose(caption: &Caption, random: &mut dyn FnMut() -> f64) -> Vec<Object> {
    let groups = [Some(caption.first), caption.second.map(|(_, second)| second)];
    let groups: Vec<Group> = groups.into_iter().flatten().collect();
    let count: usize = groups.iter().map(|group| group.count).sum();
    let mut objects = Vec::with_capacity(count);
    for Group { count: alike, colour, shape } in groups {
        for _ in 0..alike {
            let seen: Vec<Colour> = Colour::ALL.into_iter().filter(|colour| !is_unseen(*colour, shape)).collect();
            let drawn = seen[(random() * seen.len() as f64) as usize];
            let largest = LARGEST[count - 1];
            let radius = largest * (0.8 + 0.2 * random());
            let mut object = Object { shape, colour: colour.unwrap_or(drawn), centre: [0.0; 2], radius };
            let margin = object.reach() + GAP / 2.0;
            object.centre = [0; 2].map(|_| margin + (1.0 - 2.0 * margin) * random());
            objects.push(object);
        }
    }
    objects
}

/// Whether objects are apart, and clearly where the caption says, which are two then.
fn fits(caption: &Caption, objects: &[Object]) -> bool {
    let apart = |a: &Object, b: &Object| length(minus(a.centre, b.centre)) > a.reach() + b.reach() + GAP;
    let (first, second) = objects.split_at(caption.first.count);
    let placed = |relation: Relation| {
        let clearly = |a: &Object, b: &Object| {
            let [x, y] = minus(b.centre, a.centre);
            relation == Relation::And || relation.holds(a.centre, b.centre) && (x.abs() - y.abs()).abs() > CLEARLY
        };
        first.iter().all(|a| second.iter().all(|b| clearly(a, b)))
    };
    let all = objects.iter().enumerate();
    all.flat_map(|(place, a)| objects[..place].iter().map(move |b| (a, b))).all(|(a, b)| apart(a, b))
        && caption.second.is_none_or(|(relation, _)| placed(relation))
}
