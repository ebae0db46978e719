//! Captions of scenes: a small grammar.

use std::fmt;
use std::str::FromStr;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// A disc.
    Circle,
    /// A square that stands on a side.
    Square,
    /// An equilateral triangle that stands on a side.
    Triangle,
    /// Two bars, upright and level, as in a plus.
    Cross,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Cross];

    /// "circle".
    pub fn name(self) -> &'static str {
        ["circle", "square", "triangle", "cross"][self as usize]
    }

    /// "circles".
    fn plural(self) -> &'static str {
        ["circles", "squares", "triangles", "crosses"][self as usize]
    }
}

/// What colour an object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Colour {
    /// Red.
    Red,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Yellow.
    Yellow,
}

impl Colour {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Red, Self::Green, Self::Blue, Self::Yellow];

    /// "red".
    pub fn name(self) -> &'static str {
        ["red", "green", "blue", "yellow"][self as usize]
    }

    /// Red, green and blue in [0, 1], as displayed.
    pub fn rgb(self) -> [f64; 3] {
        [[0.90, 0.15, 0.15], [0.10, 0.72, 0.20], [0.15, 0.30, 0.95], [0.95, 0.85, 0.10]][self as usize]
    }
}

/// Objects that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// How many, 1 to 4.
    pub count: usize,
    /// Their colour, where the caption says it.
    pub colour: Option<Colour>,
    /// What they are.
    pub shape: Shape,
}

/// What a caption says of two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Both are there.
    And,
    /// The middle of the first is left of that of the second, and less above or below it than left.
    LeftOf,
    /// Likewise.
    RightOf,
    /// Likewise.
    Above,
    /// Likewise.
    Below,
}

impl Relation {
    const ALL: [Self; 5] = [Self::And, Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    fn words(self) -> &'static str {
        ["and", "left of", "right of", "above", "below"][self as usize]
    }

    /// Whether it holds for an object at `one` and another at `other`, y downwards: of left, right, above and below one does.
    pub fn holds(self, one: [f64; 2], other: [f64; 2]) -> bool {
        let [x, y] = [other[0] - one[0], other[1] - one[1]];
        match self {
            Self::And => true,
            Self::LeftOf => x > y.abs(),
            Self::RightOf => -x > y.abs(),
            Self::Above => y > x.abs(),
            Self::Below => -y > x.abs(),
        }
    }
}

/// What a caption asks for.
///
/// # Source
/// The six tasks of Ghosh et al. 2023, GenEval (arXiv 2310.11513), section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// "a circle"
    SingleObject,
    /// "a circle and a square"
    TwoObjects,
    /// "three circles"
    Counting,
    /// "a red circle"
    Colours,
    /// "a circle left of a square"
    Position,
    /// "a red circle and a blue square"
    Binding,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::SingleObject, Self::TwoObjects, Self::Counting, Self::Colours, Self::Position, Self::Binding];

    /// "single object".
    pub fn name(self) -> &'static str {
        ["single object", "two objects", "counting", "colours", "position", "binding"][self as usize]
    }
}

/// A caption: what is in a picture, and nothing else is.
///
/// ```
/// use mixflow::data::scenes::{Caption, Category};
///
/// let caption: Caption = "two red circles left of a blue square".parse()?;
/// assert_eq!((caption.first.count, caption.category()), (2, Category::Position));
/// assert_eq!(caption.to_string(), "two red circles left of a blue square");
/// # Ok::<(), mixflow::data::scenes::NotACaption>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caption {
    /// What is named first.
    pub first: Group,
    /// What else there is.
    pub second: Option<(Relation, Group)>,
}

impl Caption {
    /// The captions of [`Scenes`](super::Scenes), category by category.
    pub fn all() -> Vec<Self> {
        use Relation::And;
        let of = |count, colour, shape| Group { count, colour, shape };
        let one = |shape| of(1, None, shape);
        let alone = |first| Self { first, second: None };
        let pair = |first, relation, second| Self { first, second: Some((relation, second)) };
        let (shapes, colours) = (Shape::ALL, Colour::ALL);
        // Of "a circle and a square" the other order says the same, and is left out.
        let pairs =
            || shapes.into_iter().flat_map(move |a| shapes.into_iter().filter(move |b| a < *b).map(move |b| (a, b)));
        let counts = [2, 3, 4].into_iter().flat_map(|count| shapes.map(|shape| alone(of(count, None, shape))));
        let coloured = shapes.into_iter().flat_map(|shape| colours.map(|colour| alone(of(1, Some(colour), shape))));
        let places = Relation::ALL.into_iter().skip(1).flat_map(|relation| {
            pairs().flat_map(move |(a, b)| [pair(one(a), relation, one(b)), pair(one(b), relation, one(a))])
        });
        let bound = pairs().flat_map(|(a, b)| {
            let different =
                colours.into_iter().flat_map(|c| colours.into_iter().filter(move |d| *d != c).map(move |d| (c, d)));
            different.map(move |(c, d)| pair(of(1, Some(c), a), And, of(1, Some(d), b)))
        });
        let singles = shapes.into_iter().map(|shape| alone(one(shape)));
        let both = pairs().map(|(a, b)| pair(one(a), And, one(b)));
        singles.chain(both).chain(counts).chain(coloured).chain(places).chain(bound).collect()
    }

    /// What it asks for.
    pub fn category(&self) -> Category {
        match (self.first, self.second) {
            (Group { count: 1, colour: None, .. }, None) => Category::SingleObject,
            (Group { count: 1, .. }, None) => Category::Colours,
            (_, None) => Category::Counting,
            (first, Some((Relation::And, second))) => match first.colour.or(second.colour) {
                None => Category::TwoObjects,
                Some(_) => Category::Binding,
            },
            (_, Some(_)) => Category::Position,
        }
    }

    /// Whether training shows no example of it: those that name one of four [unseen](is_unseen) shapes in their colours, and
    /// about one in four of the counts, pairs and places, chosen so that training has every word in every category.
    pub fn is_unseen(&self) -> bool {
        let Self { first, second } = self;
        let named = |group: &Group| group.colour.is_some_and(|colour| is_unseen(colour, group.shape));
        let shape = first.shape as usize;
        match (self.category(), second) {
            (Category::SingleObject, _) => false,
            (Category::Counting, _) => (shape + first.count) % 4 == 3,
            (Category::TwoObjects, Some((_, second))) => shape + second.shape as usize == 3,
            (Category::Position, Some((relation, second))) => {
                (shape + 2 * second.shape as usize + *relation as usize) % 4 == 3
            }
            (_, second) => named(first) || second.is_some_and(|(_, second)| named(&second)),
        }
    }
}

/// Whether training never shows this shape in this colour: each shape lacks one colour.
pub fn is_unseen(colour: Colour, shape: Shape) -> bool {
    (colour as usize + shape as usize) % 4 == 3
}

const COUNTS: [&str; 4] = ["a", "two", "three", "four"];

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, colour, shape } = self;
        f.write_str(COUNTS[count - 1])?;
        colour.map_or(Ok(()), |colour| write!(f, " {}", colour.name()))?;
        write!(f, " {}", if *count == 1 { shape.name() } else { shape.plural() })
    }
}

impl fmt::Display for Caption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.second.map_or(Ok(()), |(relation, second)| write!(f, " {} {second}", relation.words()))
    }
}

/// A text is no caption of a scene.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no caption of a scene: expected one such as `two red circles left of a blue square`, of a, two, three or four \
     red, green, blue or yellow circles, squares, triangles and crosses with and, left of, right of, above or below between"
)]
pub struct NotACaption(pub String);

impl FromStr for Caption {
    type Err = NotACaption;

    fn from_str(text: &str) -> Result<Self, NotACaption> {
        let group = |text: &str| {
            let (count, rest) = text.split_once(' ')?;
            let count = COUNTS.iter().position(|word| *word == count)? + 1;
            let (colour, shape) = rest.split_once(' ').map_or((None, rest), |(colour, shape)| (Some(colour), shape));
            let shape = Shape::ALL.into_iter().find(|it| shape == if count == 1 { it.name() } else { it.plural() })?;
            let colour = match colour {
                Some(word) => Some(Colour::ALL.into_iter().find(|colour| colour.name() == word)?),
                None => None,
            };
            Some(Group { count, colour, shape })
        };
        let joined = Relation::ALL.into_iter().find_map(|relation| {
            let (first, second) = text.split_once(&format!(" {} ", relation.words()))?;
            Some(Self { first: group(first)?, second: Some((relation, group(second)?)) })
        });
        let alone = || Some(Self { first: group(text)?, second: None });
        joined.or_else(alone).ok_or_else(|| NotACaption(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn captions_are_all_different_and_read_as_they_are_written() {
        let all = Caption::all();
        let texts: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        let count = |category| all.iter().filter(|caption| caption.category() == category).count();
        // 4; 4 choose 2; 4 shapes in 3 numbers and in 4 colours; 4 · 3 pairs in 4 places; 6 pairs in 4 · 3 colours.
        assert_eq!(Category::ALL.map(count), [4, 6, 12, 16, 48, 72]);
        assert_eq!(texts.len(), all.len());
        assert!(all.iter().map(Caption::category).is_sorted());
        assert!(all.iter().all(|caption| caption.to_string().parse() == Ok(*caption)));
        for text in
            ["a circle", "four crosses", "a yellow cross below a green circle", "two squares and three red crosses"]
        {
            assert_eq!(text.parse::<Caption>().unwrap().to_string(), text);
        }
        for text in ["", "circle", "two circle", "a circles", "five circles", "a red", "a circle and", "a pink circle"]
        {
            assert!(text.parse::<Caption>().unwrap_err().to_string().contains(&format!("`{text}` is no caption")));
        }
    }

    #[test]
    fn training_lacks_captions_but_no_words_of_a_category() {
        let all = Caption::all();
        let words = |category: Category, unseen: bool| -> BTreeSet<String> {
            let chosen = all.iter().filter(|it| it.category() == category && (!unseen || !it.is_unseen()));
            chosen.flat_map(|it| it.to_string().split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
        };
        for category in Category::ALL {
            assert_eq!(words(category, true), words(category, false), "{category:?}");
        }
        let unseen = |category| all.iter().filter(|it| it.category() == category && it.is_unseen()).count();
        // Of two objects and counts by hand; 4 of 16 colours; of 12 pairs one of four places; of 6 pairs in 12 colours, those
        // where the first has its missing one, 3, or the second, 3, but both at once only one time.
        assert_eq!(Category::ALL.map(unseen), [0, 2, 3, 4, 12, 6 * (3 + 3 - 1)]);
    }

    #[test]
    fn of_two_places_one_relation_holds() {
        let relations = &Relation::ALL[1..];
        for (other, expected) in [
            ([2.0, 0.5], Relation::LeftOf),
            ([-2.0, 0.5], Relation::RightOf),
            ([0.5, 2.0], Relation::Above),
            ([0.5, -2.0], Relation::Below),
        ] {
            let found: Vec<_> = relations.iter().filter(|it| it.holds([0.0; 2], other)).collect();
            assert_eq!(found, [&expected], "{other:?}");
        }
    }
}
