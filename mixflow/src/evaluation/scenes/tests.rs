use super::*;
use crate::data::scenes::{Category, Colour, Relation, Shape};
use crate::data::{Dataset, Scenes};
use crate::random::{self, Stream, uniform};

/// An image after a blur of three pixels a side, with so much of each neighbour, and with noise of this deviation.
fn spoiled(pixels: &[f32], size: usize, blur: f32, noise: f32, seed: u64) -> Vec<f32> {
    let mut drawn = vec![0.0; pixels.len()];
    random::normal(&mut random::rng(seed, Stream::Noise, 0), &mut drawn);
    let at = |plane: usize, x: isize, y: isize| {
        let inside = |i: isize| i.clamp(0, size as isize - 1) as usize;
        pixels[plane * size * size + inside(y) * size + inside(x)]
    };
    let weights = [(-1, blur), (0, 1.0 - 2.0 * blur), (1, blur)];
    let blurred = (0..pixels.len()).map(|i| {
        let (plane, x, y) = (i / (size * size), (i % size) as isize, (i / size % size) as isize);
        let row = |dy: isize| weights.iter().map(|(dx, weight)| weight * at(plane, x + dx, y + dy)).sum::<f32>();
        weights.iter().map(|(dy, weight)| weight * row(*dy)).sum::<f32>()
    });
    blurred.zip(drawn).map(|(pixel, drawn)| pixel + noise * drawn).collect()
}

/// The share of true images that are found right.
fn right(size: usize, [blur, noise]: [f32; 2], count: u64) -> f64 {
    let scenes = Scenes::new(size, 7).unwrap();
    let shown = |index: &u64| {
        let example = scenes.example(*index).unwrap();
        let pixels = spoiled(&example.pixels, size, blur, noise, *index);
        check(&scenes.captions()[example.label], &pixels, [size; 2]).is_ok()
    };
    (0..count).filter(shown).count() as f64 / count as f64
}

#[test]
fn true_images_are_right() {
    for (size, spoil, count) in [
        (32, [0.0, 0.0], 1500),
        (32, [0.0, 0.2], 600),
        (32, [0.15, 0.1], 600),
        (16, [0.0, 0.0], 400),
        (20, [0.0, 0.1], 400),
        (64, [0.25, 0.2], 100),
    ] {
        let share = right(size, spoil, count);
        assert!(share >= 0.995, "{size} pixels, blur and noise {spoil:?}: {share}");
    }
}

#[test]
fn captions_that_training_does_not_show_are_checked_as_well() {
    let scenes = Scenes::new(32, 7).unwrap();
    let wrong = |label: &usize| {
        (0..4).any(|number| check(&scenes.captions()[*label], &scenes.picture(*label, number), [32; 2]).is_err())
    };
    assert_eq!((0..scenes.classes().len()).find(wrong), None);
}

/// Whether no picture fits both, as the captions alone tell it.
fn contradict(one: &Caption, other: &Caption) -> bool {
    let number = |caption: &Caption| caption.first.count + caption.second.map_or(0, |(_, second)| second.count);
    // "a circle left of a square", "a square right of a circle".
    let turned = |caption: &Caption| {
        let (relation, second) = caption.second?;
        let relation = match relation {
            Relation::And => Relation::And,
            Relation::LeftOf => Relation::RightOf,
            Relation::RightOf => Relation::LeftOf,
            Relation::Above => Relation::Below,
            Relation::Below => Relation::Above,
        };
        Some(Caption { first: second, second: Some((relation, caption.first)) })
    };
    number(one) != number(other)
        || one.category() == other.category() && one != other && turned(one).as_ref() != Some(other)
}

#[test]
fn true_images_do_not_show_what_contradicts_their_caption() {
    let scenes = Scenes::new(32, 9).unwrap();
    let captions = scenes.captions();
    let mut asked = Category::ALL.map(|_| [0, 0]);
    for index in 0..1000 {
        let example = scenes.example(index).unwrap();
        let own = &captions[example.label];
        let found = find_objects(&example.pixels, [32; 2]);
        let mut rng = random::rng(1, Stream::Labels, index);
        // As many of its own category as of all.
        let alike: Vec<&Caption> = captions.iter().filter(|it| it.category() == own.category()).collect();
        for place in 0..8 {
            let from: Vec<&Caption> = if place % 2 == 0 { alike.clone() } else { captions.iter().collect() };
            let other = from[(uniform(&mut rng) * from.len() as f64) as usize];
            if contradict(own, other) {
                let [all, refused] = &mut asked[own.category() as usize];
                *all += 1;
                *refused += usize::from(check_objects(other, found.clone()).is_err());
            }
        }
    }
    for (category, [all, refused]) in Category::ALL.into_iter().zip(asked) {
        assert!(all > 500, "{category:?}: {all}");
        assert!(refused as f64 >= 0.995 * all as f64, "{category:?}: {refused} of {all}");
    }
}

const SIDE: usize = 28;

/// An image painted pixel by pixel, without soft edges, in bytes of red, green and blue.
struct Painted(Vec<[u8; 3]>);

impl Painted {
    fn new(grey: u8) -> Self {
        Self(vec![[grey; 3]; SIDE * SIDE])
    }

    /// Every pixel of a square of 2 r + 1 about a middle that is wanted, by its distance from there.
    fn with(mut self, [x, y]: [i32; 2], r: i32, colour: [u8; 3], wanted: impl Fn(i32, i32) -> bool) -> Self {
        for (dy, dx) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx))).filter(|(dy, dx)| wanted(*dx, *dy)) {
            self.0[(y + dy) as usize * SIDE + (x + dx) as usize] = colour;
        }
        self
    }

    fn disc(self, place: [i32; 2], colour: [u8; 3]) -> Self {
        self.with(place, 4, colour, |x, y| x * x + y * y <= 18)
    }

    fn block(self, place: [i32; 2], colour: [u8; 3]) -> Self {
        self.with(place, 3, colour, |_, _| true)
    }

    /// Rows of 1, 3, 3, 5, 7, 7, 9 and so on: almost as wide as 2 / √3 of the height.
    fn triangle(self, place: [i32; 2], colour: [u8; 3]) -> Self {
        self.with(place, 5, colour, |x, y| f64::from(x.abs()) < (f64::from(y) + 5.5) / 3f64.sqrt())
    }

    fn cross(self, place: [i32; 2], colour: [u8; 3]) -> Self {
        self.with(place, 4, colour, |x, y| x.abs().min(y.abs()) <= 1)
    }

    fn pixels(&self) -> Vec<f32> {
        let plane = |channel: usize| self.0.iter().map(move |rgb| f32::from(rgb[channel]) / 127.5 - 1.0);
        (0..3).flat_map(plane).collect()
    }

    fn check(&self, caption: &str) -> Result<(), CaptionMismatch> {
        check(&caption.parse().unwrap(), &self.pixels(), [SIDE; 2])
    }

    fn found(&self) -> Vec<(Option<Colour>, Option<Shape>)> {
        find_objects(&self.pixels(), [SIDE; 2]).iter().map(|found| (found.colour, found.shape)).collect()
    }
}

const RED: [u8; 3] = [220, 20, 60];
const GREEN: [u8; 3] = [34, 170, 34];
const BLUE: [u8; 3] = [30, 80, 255];
const YELLOW: [u8; 3] = [255, 215, 0];

#[test]
fn images_that_others_painted_are_read() {
    for grey in [100, 128, 150] {
        let two = Painted::new(grey).disc([7, 8], RED).block([20, 9], BLUE);
        for right in
            ["a red circle and a blue square", "a circle left of a square", "a blue square right of a red circle"]
        {
            assert_eq!(two.check(right), Ok(()), "{right}");
        }
        for wrong in ["a blue circle and a red square", "a square left of a circle", "a circle above a square"] {
            assert!(two.check(wrong).is_err(), "{wrong}");
        }
        let four = Painted::new(grey)
            .triangle([6, 7], GREEN)
            .cross([20, 6], YELLOW)
            .triangle([7, 20], GREEN)
            .cross([21, 21], YELLOW);
        assert_eq!(four.check("two green triangles left of two yellow crosses"), Ok(()));
        assert!(matches!(four.check("two triangles"), Err(CaptionMismatch::Count { expected: 2, .. })));
        assert!(matches!(four.check("three triangles and a cross"), Err(CaptionMismatch::Objects(_))));
        assert!(matches!(four.check("two crosses left of two triangles"), Err(CaptionMismatch::Place(_))));
    }
}

#[test]
fn what_is_no_shape_or_of_no_colour_is_found_and_not_named() {
    let empty = Painted::new(128);
    assert_eq!(empty.found(), []);
    assert_eq!(empty.check("a circle").unwrap_err().to_string(), "expected 1 objects, found 0: nothing");
    let middle = [14, 14];
    let bar = Painted::new(128).with(middle, 9, RED, |_, y| y.abs() <= 1);
    assert_eq!(bar.found(), [(Some(Colour::Red), None)]);
    let ring = Painted::new(128).with(middle, 7, RED, |x, y| (16..=49).contains(&(x * x + y * y)));
    assert_eq!(ring.found(), [(Some(Colour::Red), None)]);
    let black = Painted::new(128).disc(middle, [0; 3]);
    assert_eq!(black.found().len(), 1);
    assert_eq!(black.found()[0].0, None);
    let halves = Painted::new(128).disc(middle, RED).with(middle, 4, BLUE, |x, y| x > 0 && x * x + y * y <= 18);
    assert_eq!(halves.found().len(), 1);
    assert_eq!(halves.found()[0].0, None);
    let message = halves.check("a red circle").unwrap_err().to_string();
    assert!(message.starts_with("found other objects: a motley "), "{message}");
    // Touching, they are one thing.
    let touching = Painted::new(128).block([9, 14], RED).block([16, 14], RED);
    assert_eq!(touching.found(), [(Some(Colour::Red), None)]);
    // Two wrong pixels are none.
    let speck = Painted::new(128).disc(middle, GREEN).with([3, 3], 1, RED, |x, y| y == 0 && x >= 0);
    assert_eq!(speck.check("a green circle"), Ok(()));
}

#[test]
fn numbers_that_are_none_are_no_objects() {
    assert_eq!(find_objects(&[f32::NAN; 3 * 256], [16, 16]), []);
}
