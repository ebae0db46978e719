//! What is in an image of a scene, found without knowing how scenes are drawn.

use crate::data::scenes::{Colour, Shape};

/// Something in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundObject {
    /// What it is; none if it looks like no shape.
    pub shape: Option<Shape>,
    /// Its colour; none if it is none of the four, or of several.
    pub colour: Option<Colour>,
    /// Its centre of mass in the unit square, y downwards.
    pub centre: [f64; 2],
    /// Its share of the image.
    pub area: f64,
}

/// Share of an image from which on something is an object: a third of the smallest that scenes have.
const SPECK: f64 = 0.011;

/// How far a pixel must be from the ground, as red, green and blue in [0, 1], to be of an object of whatever colour.
const FAR: f64 = 0.42;

/// Share of an object's pixels that must have its colour.
const OF_ONE_COLOUR: f64 = 0.75;

/// What an object has in common with its shape at least, area of both over area of either.
const ALIKE: f64 = 0.72;

/// How much of a shape its pixels see in widths of their own: a sharp image is of squares that do not overlap.
const SEEN: [f64; 2] = [1.0, 1.8];

/// All objects of an image on a plain ground.
///
/// The ground is the median of all pixels. A pixel is of an object if it has gone more than half of the way from the ground to
/// one of the four colours, or is far from the ground otherwise. Objects are what is connected of these, by sides; specks
/// are passed over. The shape is the one that an object has most in common with when it is laid over it, of the same area and
/// centre of mass: the area of both over that of either, where pixels at the rim count by how much they are covered.
///
/// # Shapes
/// - pixels: `[3, height, width]`, in [−1, 1]
///
/// # Panics
/// If there are fewer or more pixels.
pub fn find_objects(pixels: &[f32], [height, width]: [usize; 2]) -> Vec<FoundObject> {
    let area = height * width;
    assert_eq!(pixels.len(), 3 * area, "an image of 3 x {height} x {width}");
    let rgb = |i: usize| [0, 1, 2].map(|channel| (f64::from(pixels[channel * area + i]).clamp(-1.0, 1.0) + 1.0) / 2.0);
    let ground = [0, 1, 2].map(|channel| {
        let mut values: Vec<f64> = (0..area).map(|i| rgb(i)[channel]).collect();
        *values.select_nth_unstable_by(area / 2, f64::total_cmp).1
    });
    let offsets: Vec<[f64; 3]> = (0..area).map(|i| minus(rgb(i), ground)).collect();
    let covered = |offset: [f64; 3], colour: Colour| {
        let whole = minus(colour.rgb(), ground);
        dot(offset, whole) / dot(whole, whole)
    };
    let own: Vec<(Colour, f64)> = offsets.iter().map(|offset| nearest(|colour| covered(*offset, colour))).collect();
    let mut inside: Vec<bool> = (0..area).map(|i| own[i].1 > 0.5 || dot(offsets[i], offsets[i]) > FAR * FAR).collect();
    let marked = inside.clone();

    let mut found = vec![];
    for start in 0..area {
        let pixels = connected(start, &mut inside, [height, width]);
        if (pixels.len() as f64) < SPECK * area as f64 {
            continue;
        }
        let count = |colour: Colour| pixels.iter().filter(|i| own[**i].0 == colour).count() as f64;
        let (colour, votes) = nearest(count);
        let mean =
            [0, 1, 2].map(|channel| pixels.iter().map(|i| offsets[*i][channel]).sum::<f64>() / pixels.len() as f64);
        let whole = minus(colour.rgb(), ground);
        // Cosine of 37°: no two of the colours are nearer than 60° from any grey ground.
        let alike = dot(mean, whole) > 0.8 * (dot(mean, mean) * dot(whole, whole)).sqrt();
        let plain = votes >= OF_ONE_COLOUR * pixels.len() as f64;

        // With the rim, whose pixels are covered in part.
        let rim = (0..area).filter(|i| !marked[*i] && near(*i, &pixels, width));
        let cover = |i: usize| ([i % width, i / width], covered(offsets[i], colour).clamp(0.0, 1.0));
        let object: Vec<([usize; 2], f64)> = pixels.iter().copied().chain(rim).map(cover).collect();
        let mass: f64 = object.iter().map(|(_, cover)| cover).sum();
        let centre = [0, 1].map(|axis| {
            object.iter().map(|(place, cover)| (place[axis] as f64 + 0.5) * cover).sum::<f64>() / mass.max(f64::EPSILON)
        });
        let (shape, common) = Shape::ALL
            .into_iter()
            .flat_map(|shape| SEEN.map(|wide| (shape, in_common(shape, &object, centre, mass, wide))))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there are shapes");
        found.push(FoundObject {
            shape: (common >= ALIKE).then_some(shape),
            colour: (alike && plain).then_some(colour),
            centre: [centre[0] / width as f64, centre[1] / height as f64],
            area: mass / area as f64,
        });
    }
    found
}

/// The colour of the largest value, and that.
fn nearest(value: impl Fn(Colour) -> f64) -> (Colour, f64) {
    let all = Colour::ALL.map(|colour| (colour, value(colour)));
    all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are colours")
}

/// What is connected with a pixel by the sides of others that are inside; they are not any longer.
fn connected(start: usize, inside: &mut [bool], [height, width]: [usize; 2]) -> Vec<usize> {
    let (mut pixels, mut next) = (vec![], vec![start]);
    while let Some(i) = next.pop() {
        if !std::mem::take(&mut inside[i]) {
            continue;
        }
        pixels.push(i);
        let (x, y) = (i % width, i / width);
        let sides = [
            (x > 0).then(|| i - 1),
            (x + 1 < width).then(|| i + 1),
            (y > 0).then(|| i - width),
            (y + 1 < height).then(|| i + width),
        ];
        next.extend(sides.into_iter().flatten());
    }
    pixels
}

/// Whether a pixel touches one of others, by a side or a corner.
fn near(i: usize, pixels: &[usize], width: usize) -> bool {
    let place = |i: usize| [i % width, i / width];
    let [x, y] = place(i);
    pixels.iter().map(|other| place(*other)).any(|[other, row]| other.abs_diff(x) <= 1 && row.abs_diff(y) <= 1)
}

/// The area that pixels have in common with a shape of so much area about a centre, over the area of either; a pixel sees so many
/// times its width of the shape.
fn in_common(shape: Shape, object: &[([usize; 2], f64)], centre: [f64; 2], mass: f64, wide: f64) -> f64 {
    /// Points of a side that are looked at.
    const POINTS: usize = 6;
    let scale = mass.sqrt().max(f64::EPSILON);
    let mut both = 0.0;
    for ([x, y], cover) in object {
        let point = |pixel: usize, part: usize, middle: f64| {
            (pixel as f64 + 0.5 + wide * ((part as f64 + 0.5) / POINTS as f64 - 0.5) - middle) / scale
        };
        let points = (0..POINTS * POINTS)
            .filter(|part| holds(shape, [point(*x, part % POINTS, centre[0]), point(*y, part / POINTS, centre[1])]));
        let template = points.count() as f64 / (POINTS * POINTS) as f64;
        both += cover.min(template);
    }
    both / (2.0 * mass - both).max(f64::EPSILON)
}

/// Whether a point is in a shape of area 1 with its centre of mass at the origin, y downwards.
fn holds(shape: Shape, [x, y]: [f64; 2]) -> bool {
    match shape {
        Shape::Circle => x * x + y * y < 1.0 / std::f64::consts::PI,
        Shape::Square => x.abs().max(y.abs()) < 0.5,
        Shape::Triangle => {
            // Equilateral: height h, side 2 h / √3, area h² / √3.
            let height = 3f64.powf(0.25);
            let from_top = y + 2.0 / 3.0 * height;
            (0.0..height).contains(&from_top) && x.abs() < from_top / 3f64.sqrt()
        }
        Shape::Cross => {
            // Bars 0.37 as thick as long: area (2 · 0.37 − 0.37²) times the square of their length.
            let thick: f64 = 0.37;
            let half = 0.5 / (2.0 * thick - thick * thick).sqrt();
            let (least, most) = (x.abs().min(y.abs()), x.abs().max(y.abs()));
            most < half && least < thick * half
        }
    }
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|i| a[i] - b[i])
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|i| a[i] * b[i]).sum()
}
