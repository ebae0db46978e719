//! Whether images of [`Scenes`](crate::data::Scenes) show what their captions say, without a network that looks at them.

mod objects;
mod scores;

use std::fmt;

use crate::data::scenes::{Caption, Group, Relation};

pub use objects::{FoundObject, find_objects};
pub(crate) use scores::{SceneScores, Scored};

/// Checks that an image shows what a caption says, and nothing else.
///
/// ```
/// use mixflow::data::Scenes;
/// use mixflow::evaluation::scenes::{CaptionMismatch, check};
///
/// let scenes = Scenes::new(32, 0)?;
/// let circle = scenes.picture(0, 0);
/// assert_eq!(check(&"a circle".parse()?, &circle, [32, 32]), Ok(()));
/// let wrong = check(&"two circles".parse()?, &circle, [32, 32]).unwrap_err();
/// assert!(matches!(wrong, CaptionMismatch::Count { expected: 2, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - pixels: `[3, height, width]`, in [−1, 1], as [`find_objects`] takes them
///
/// # Errors
/// With what is wrong.
pub fn check(caption: &Caption, pixels: &[f32], size: [usize; 2]) -> Result<(), CaptionMismatch> {
    check_objects(caption, find_objects(pixels, size))
}

/// The same of what was found in an image.
///
/// # Errors
/// As [`check`].
pub fn check_objects(caption: &Caption, found: Vec<FoundObject>) -> Result<(), CaptionMismatch> {
    let Caption { first, second } = caption;
    let expected = first.count + second.map_or(0, |(_, second)| second.count);
    if found.len() != expected {
        return Err(CaptionMismatch::Count { expected, found });
    }
    let is = |object: &FoundObject, group: &Group| {
        object.shape == Some(group.shape) && (group.colour.is_none() || object.colour == group.colour)
            // Of whatever colour it is, it is of one.
            && object.colour.is_some()
    };
    // Every way to take as many objects for the first group as it has.
    let ways = (0..1usize << expected).filter(|way| way.count_ones() as usize == first.count);
    let parted = ways.map(|way| {
        let (ones, others): (Vec<_>, Vec<_>) = found.iter().enumerate().partition(|(place, _)| way >> place & 1 == 1);
        [ones, others].map(|part| part.into_iter().map(|(_, object)| *object).collect::<Vec<FoundObject>>())
    });
    let named: Vec<[Vec<FoundObject>; 2]> = parted
        .filter(|[ones, others]| {
            ones.iter().all(|object| is(object, first))
                && others.iter().all(|object| second.is_some_and(|(_, second)| is(object, &second)))
        })
        .collect();
    if named.is_empty() {
        return Err(CaptionMismatch::Objects(found));
    }
    let relation = second.map_or(Relation::And, |(relation, _)| relation);
    let middle = |objects: &[FoundObject]| {
        [0, 1].map(|axis| objects.iter().map(|object| object.centre[axis]).sum::<f64>() / objects.len().max(1) as f64)
    };
    let placed = |[ones, others]: &[Vec<FoundObject>; 2]| relation.holds(middle(ones), middle(others));
    if named.iter().any(placed) { Ok(()) } else { Err(CaptionMismatch::Place(found)) }
}

/// Why an image does not show what its caption says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptionMismatch {
    /// There are more objects, or fewer.
    #[error("expected {expected} objects, found {}: {}", found.len(), ObjectList(found))]
    Count {
        /// As many as the caption names.
        expected: usize,
        /// What there is.
        found: Vec<FoundObject>,
    },
    /// There are as many, but others.
    #[error("found other objects: {}", ObjectList(.0))]
    Objects(Vec<FoundObject>),
    /// They are not where the caption says.
    #[error("the objects are in other places: {}", ObjectList(.0))]
    Place(Vec<FoundObject>),
}

/// "a red circle at 0.31, 0.50".
impl fmt::Display for FoundObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, colour, centre: [x, y], .. } = self;
        let (colour, shape) = (colour.map_or("motley", |it| it.name()), shape.map_or("thing", |it| it.name()));
        write!(f, "a {colour} {shape} at {x:.2}, {y:.2}")
    }
}

struct ObjectList<'a>(&'a [FoundObject]);

impl fmt::Display for ObjectList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&if all.is_empty() { "nothing".into() } else { all.join("; ") })
    }
}

#[cfg(test)]
mod tests;
