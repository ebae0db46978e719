//! Procedural scenes of a few shapes, with captions.

mod caption;
mod scene;

use super::{Dataset, Error, Example, checked_size};
use crate::random::{self, Stream, uniform};

pub use caption::{Caption, Category, Colour, Group, NotACaption, Relation, Shape, is_unseen};
pub use scene::Object;
use scene::Scene;

/// Scenes on a grey ground, of which every caption is a class: circles, squares, triangles and crosses in red, green, blue
/// and yellow, by number, colour, place and what is bound to what.
///
/// Endless: the scene is a function of (seed, index), and the same at every size. Every category of captions is as likely, and
/// in it every caption but those that training does not show, [`Caption::is_unseen`]; these are classes too, the last of
/// their category or between others, so that networks can be asked for them. A shape in a colour that training does not show
/// is only in pictures whose caption names it. Objects do not overlap. Edges are antialiased as those of
/// [`Shapes`](super::Shapes) are.
///
/// [`evaluation::scenes`](crate::evaluation::scenes) tells whether an image shows what its caption says.
///
/// ```
/// use mixflow::data::{Dataset, Scenes};
///
/// let scenes = Scenes::new(32, 0)?;
/// let label = scenes.label(6)?;
/// println!("{}", scenes.classes()[label]);
/// assert!(!scenes.captions()[label].is_unseen());
/// # Ok::<(), mixflow::data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenes {
    size: usize,
    seed: u64,
    captions: Vec<Caption>,
    classes: Vec<String>,
    /// Labels of each category that training shows.
    seen: Vec<Vec<usize>>,
}

impl Scenes {
    /// Scenes of `size × size` pixels and three channels.
    ///
    /// # Errors
    /// If `size` is not in 16..=4096: in less a circle and a square are the same.
    pub fn new(size: usize, seed: u64) -> Result<Self, Error> {
        if checked_size(size)? < 16 {
            let expected = "at least 16 pixels, so that shapes can be told apart";
            return Err(Error::OutOfRange { name: "size", expected, found: size as u64 });
        }
        let captions = Caption::all();
        let classes = captions.iter().map(ToString::to_string).collect();
        let of = |category| {
            let labels = captions.iter().enumerate().filter(|(_, it)| it.category() == category && !it.is_unseen());
            labels.map(|(label, _)| label).collect()
        };
        let seen = Category::ALL.map(of).into();
        Ok(Self { size, seed, captions, classes, seen })
    }

    /// The captions of the classes.
    pub fn captions(&self) -> &[Caption] {
        &self.captions
    }

    /// What is in the scene of an index.
    pub fn objects(&self, index: u64) -> Vec<Object> {
        let (label, mut rng) = self.begin(index);
        Scene::new(&self.captions[label], &mut || uniform(&mut rng)).objects
    }

    /// Pixels of a scene of this label, also of one that training does not show; another for each number.
    ///
    /// # Shapes
    /// - `[3, size, size]`, in [−1, 1]
    ///
    /// # Panics
    /// If the label is out of range.
    pub fn picture(&self, label: usize, number: u64) -> Vec<f32> {
        // Indices that no training gets to.
        let mut rng = random::rng(self.seed, Stream::Scene, u64::MAX - number);
        Scene::new(&self.captions[label], &mut || uniform(&mut rng)).pixels(self.size)
    }

    /// The label of an index, and the random numbers that follow it.
    fn begin(&self, index: u64) -> (usize, impl rand::Rng + use<>) {
        let mut rng = random::rng(self.seed, Stream::Scene, index);
        let mut below = |count: usize| (uniform(&mut rng) * count as f64) as usize;
        let category = &self.seen[below(self.seen.len())];
        (category[below(category.len())], rng)
    }
}

impl Dataset for Scenes {
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
        let (label, mut rng) = self.begin(index);
        let pixels = Scene::new(&self.captions[label], &mut || uniform(&mut rng)).pixels(self.size);
        Ok(Example::new(pixels, label))
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        Ok(self.begin(index).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_dataset;

    #[test]
    fn it_is_a_data_set_and_the_same_at_every_size() {
        let [small, large] = [16, 64].map(|size| Scenes::new(size, 3).unwrap());
        check_dataset(&small);
        assert_ne!(small.example(9).unwrap(), small.example(10).unwrap());
        assert_ne!(small.example(9).unwrap(), Scenes::new(16, 4).unwrap().example(9).unwrap());
        for index in 0..32 {
            let (small, large) = (small.example(index).unwrap(), large.example(index).unwrap());
            assert_eq!(small.label, large.label);
            // Of four by four pixels; coverage by distance is not quite that by area.
            let mean = |i: usize| {
                let (plane, row, column) = (i / 256, i / 16 % 16, i % 16);
                let pixel = |k: usize| large.pixels[plane * 4096 + (4 * row + k / 4) * 64 + 4 * column + k % 4];
                (0..16).map(pixel).sum::<f32>() / 16.0
            };
            let differences = small.pixels.iter().enumerate().map(|(i, pixel)| (pixel - mean(i)).abs());
            assert!(differences.sum::<f32>() / 768.0 < 0.02, "scene {index}");
        }
        for size in [0, 15, 5000] {
            assert!(Scenes::new(size, 0).unwrap_err().to_string().contains("size must be"));
        }
    }

    #[test]
    fn training_shows_every_category_as_often_and_no_unseen_caption_or_colour() {
        let scenes = Scenes::new(16, 0).unwrap();
        let (mut categories, mut captions) = ([0f64; 6], vec![0; scenes.captions.len()]);
        for index in 0..12_000 {
            let label = scenes.label(index).unwrap();
            captions[label] += 1;
            categories[scenes.captions[label].category() as usize] += 1.0;
            assert!(
                scenes.objects(index).iter().all(|object| !is_unseen(object.colour, object.shape)),
                "scene {index}"
            );
        }
        assert!(categories.iter().all(|count| (count - 2000.0).abs() < 5.0 * 2000f64.sqrt()), "{categories:?}");
        for (caption, count) in scenes.captions.iter().zip(captions) {
            assert_eq!(count == 0, caption.is_unseen(), "{caption}: {count}");
        }
        // Asked for, one that training lacks is drawn as it says.
        let label = scenes.classes.iter().position(|name| name == "a yellow circle").unwrap();
        assert!(scenes.captions[label].is_unseen());
        assert_ne!(scenes.picture(label, 0), scenes.picture(label, 1));
    }

    #[test]
    fn objects_are_what_the_caption_says_and_apart() {
        let scenes = Scenes::new(16, 5).unwrap();
        for index in 0..2000 {
            let (caption, objects) = (&scenes.captions[scenes.label(index).unwrap()], scenes.objects(index));
            let groups = [Some(caption.first), caption.second.map(|(_, second)| second)].into_iter().flatten();
            let named: Vec<Group> = groups.flat_map(|group| vec![group; group.count]).collect();
            assert_eq!(objects.len(), named.len(), "{caption}");
            for (place, (object, group)) in objects.iter().zip(&named).enumerate() {
                assert!(object.shape == group.shape && group.colour.is_none_or(|it| it == object.colour), "{caption}");
                let [x, y] = object.centre;
                let side = x.min(y).min(1.0 - x).min(1.0 - y);
                // A circle about it is inside, and apart from those about others.
                assert!(side > object.radius, "{caption}: {object:?}");
                for other in &objects[..place] {
                    let [dx, dy] = [x - other.centre[0], y - other.centre[1]];
                    assert!(dx.hypot(dy) > object.radius + other.radius + 0.05, "{caption}: {object:?}, {other:?}");
                }
            }
        }
    }
}
