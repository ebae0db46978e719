//! Whether images of [`Scenes`](crate::data::Scenes) show what their captions say, without a network that looks at them.

mod objects;
mod scores;

use std::fmt;

use crate::data::scenes::{Caption, Group, Relation};

pub use objects::{Found, find_objects};
pub(crate) use scores::{SceneScores, Scored};

/// Checks that an image shows what a caption says, and nothing else.
///
/// ```
/// use mixflow::data::Scenes;
/// use mixflow::evaluation::scenes::{Wrong, check};
///
/// let scenes = Scenes::new(32, 0)?;
/// let circle = scenes.picture(0, 0);
/// assert_eq!(check(&"a circle".parse()?, &circle, [32, 32]), Ok(()));
/// let wrong = check(&"two circles".parse()?, &circle, [32, 32]).unwrap_err();
/// assert!(matches!(wrong, Wrong::Count { expected: 2, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - pixels: `[3, height, width]`, in [−1, 1], as [`find_objects`] takes them
///
/// # Errors
/// With what is wrong.
pub fn check(caption: &Caption, pixels: &[f32], size: [usize; 2]) -> Result<(), Wrong> {
    check_objects(caption, find_objects(pixels, size))
}

/// The same of what was found in an image.
///
/// # Errors
/// As [`check`].
pub fn check_objects(caption: &Caption, found: Vec<Found>) -> Result<(), Wrong> {
    let Caption { first, second } = caption;
    let expected = first.count + second.map_or(0, |(_, second)| second.count);
    if found.len() != expected {
        return Err(Wrong::Count { expected, found });
    }
    let is = |object: &Found, group: &Group| {
        object.shape == Some(group.shape) && (group.colour.is_none() || object.colour == group.colour)
            // Of whatever colour it is, it is of one.
            && object.colour.is_some()
    };
    // Every way to take as many objects for the first group as it has.
    let ways = (0..1usize << expected).filter(|way| way.count_ones() as usize == first.count);
    let parted = ways.map(|way| {
        let (ones, others): (Vec<_>, Vec<_>) = found.iter().enumerate().partition(|(place, _)| way >> place & 1 == 1);
        [ones, others].map(|part| part.into_iter().map(|(_, object)| *object).collect::<Vec<Found>>())
    });
    let named: Vec<[Vec<Found>; 2]> = parted
        .filter(|[ones, others]| {
            ones.iter().all(|object| is(object, first))
                && others.iter().all(|object| second.is_some_and(|(_, second)| is(object, &second)))
        })
        .collect();
    if named.is_empty() {
        return Err(Wrong::Objects(found));
    }
    let relation = second.map_or(Relation::And, |(relation, _)| relation);
    let middle = |objects: &[Found]| {
        [0, 1].map(|axis| objects.iter().map(|object| object.centre[axis]).sum::<f64>() / objects.len().max(1) as f64)
    };
    let placed = |[ones, others]: &[Vec<Found>; 2]| relation.holds(middle(ones), middle(others));
    if named.iter().any(placed) { Ok(()) } else { Err(Wrong::Place(found)) }
}

/// Why an image does not show what its caption says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// There are more objects, or fewer.
    #[error("expected {expected} objects, found {}: {}", found.len(), List(found))]
    Count {
        /// As many as the caption names.
        expected: usize,
        /// What there is.
        found: Vec<Found>,
    },
    /// There are as many, but others.
    #[error("found other objects: {}", List(.0))]
    Objects(Vec<Found>),
    /// They are not where the caption says.
    #[error("the objects are in other places: {}", List(.0))]
    Place(Vec<Found>),
}

/// "a red circle at 0.31, 0.50".
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, colour, centre: [x, y], .. } = self;
        let (colour, shape) = (colour.map_or("motley", |it| it.name()), shape.map_or("thing", |it| it.name()));
        write!(f, "a {colour} {shape} at {x:.2}, {y:.2}")
    }
}

struct List<'a>(&'a [Found]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&if all.is_empty() { "nothing".into() } else { all.join("; ") })
    }
}

#[cfg(test)]
mod tests;
