//! What images are told by: one caption each, or several, of which training tells one at a time.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::{self, Stream};

/// How the text of an image is read, as written in a recipe.
///
/// # Source
/// `enable_wildcard` of kohya-ss/sd-scripts takes a line at random, as `SimpleTuner` does unless it is told not to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionFormat {
    /// As one caption, however many lines it has.
    #[default]
    Whole,
    /// As a caption a line, each told as often as the others; lines without words are none.
    Lines,
}

/// The captions of an image, at least one, and how often each is told among them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ImageCaptions(pub(super) Vec<(String, f64)>);

impl CaptionFormat {
    /// Those of a text.
    pub(super) fn of_text(self, text: &str) -> ImageCaptions {
        let lines = text.lines().map(one_line).filter(|line| !line.is_empty()).map(|line| (line, 1.0));
        match (self, lines.collect::<Vec<_>>()) {
            (Self::Lines, lines) if !lines.is_empty() => ImageCaptions(lines),
            _ => ImageCaptions(vec![(one_line(text), 1.0)]),
        }
    }

    /// Those of a value of JSON, text or a list of texts, whose weights another may have.
    ///
    /// # Errors
    /// What it is instead, in words.
    pub(super) fn of_json(self, value: &Value, weights: &Value) -> Result<ImageCaptions, String> {
        let weights = || match weights {
            Value::Null => Ok(None),
            Value::Array(weights) => weights.iter().map(Value::as_f64).collect::<Option<_>>().map(Some).ok_or(WEIGHTS),
            _ => Err(WEIGHTS),
        };
        let list = match value {
            Value::String(text) => {
                let told = self.of_text(text);
                return if told.0.len() == 1 { Ok(told) } else { told.weighted(weights()?) };
            }
            Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let list = list.ok_or_else(|| format!("`{value}`; expected text, or a list of texts"))?;
        ImageCaptions::of_list(&list, weights()?)
    }
}

/// What weights have to be.
const WEIGHTS: &str = "a list whose `weights` are not a number from 0 on for each text, or are all 0";

impl ImageCaptions {
    /// Whether there are zeros in one, which are no text.
    pub(super) fn has_zeros(&self) -> bool {
        self.0.iter().any(|(caption, _)| caption.contains('\0'))
    }

    /// Captions as they stand in a list, and their weights, without which each is told as often as the others.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(super) fn of_list(list: &[impl AsRef<str>], weights: Option<Vec<f64>>) -> Result<Self, String> {
        if list.is_empty() {
            return Err("an empty list".into());
        }
        Self(list.iter().map(|text| (one_line(text.as_ref()), 1.0)).collect()).weighted(weights)
    }

    /// The same captions with these weights, if there are some; those of weight 0 are none.
    ///
    /// # Errors
    /// If there are not as many, or they are no weights.
    pub(super) fn weighted(self, weights: Option<Vec<f64>>) -> Result<Self, String> {
        let Some(weights) = weights else { return Ok(self) };
        if !check_weights(&weights) || weights.len() != self.0.len() {
            return Err(WEIGHTS.into());
        }
        let told = self.0.into_iter().zip(weights).filter(|(_, weight)| *weight > 0.0);
        Ok(Self(told.map(|((caption, _), weight)| (caption, weight)).collect()))
    }
}

/// Whether something can be chosen by these weights.
pub(super) fn check_weights(weights: &[f64]) -> bool {
    let sum: f64 = weights.iter().sum();
    weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite()
}

/// A caption as it is told: white space in it as single spaces.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The captions of images as they come.
#[derive(Debug, Default)]
pub(super) struct CaptionNumbers {
    /// Numbers of all, in the order of their coming.
    numbers: HashMap<String, usize>,
    of: Vec<Vec<(usize, f64)>>,
}

impl CaptionNumbers {
    /// Those of the next image.
    pub(super) fn add(&mut self, ImageCaptions(captions): ImageCaptions) {
        let number = |(caption, weight): (String, f64)| {
            let next = self.numbers.len();
            (*self.numbers.entry(caption).or_insert(next), weight)
        };
        let numbered = captions.into_iter().map(number).collect();
        self.of.push(numbered);
    }

    /// All different captions, ordered, which are the classes; and the places among these of each image's, with weights.
    pub(super) fn classes(self) -> (Vec<String>, Vec<Vec<(usize, f64)>>) {
        let Self { numbers, mut of } = self;
        let sorted: BTreeMap<_, _> = numbers.into_iter().collect();
        let mut places = vec![0; sorted.len()];
        sorted.values().enumerate().for_each(|(place, number)| places[*number] = place);
        of.iter_mut().flatten().for_each(|(caption, _)| *caption = places[*caption]);
        (sorted.into_keys().collect(), of)
    }
}

/// The captions of images where these have several, else nothing: the first of each is its class.
pub(super) fn several(of: Vec<Vec<(usize, f64)>>) -> Vec<Vec<(usize, f64)>> {
    if of.iter().any(|captions| captions.len() > 1) { of } else { vec![] }
}

/// Which of these labels a training position tells, each as often as its weight says.
pub(super) fn choose(labels: &[(usize, f64)], seed: u64, position: u64) -> Option<usize> {
    labels.first()?;
    let sum: f64 = labels.iter().map(|(_, weight)| weight).sum();
    let mut left = sum * random::uniform(&mut random::rng(seed, Stream::Caption, position));
    let likely = || labels.iter().filter(|(_, weight)| *weight > 0.0);
    let chosen = likely().find(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    // What rounding leaves falls to the last.
    chosen.or_else(|| likely().next_back()).map(|(label, _)| *label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_one_caption_or_a_caption_a_line() {
        let text = "a  cat\r\n\n two\tcats \n";
        assert_eq!(CaptionFormat::Whole.of_text(text).0, [("a cat two cats".into(), 1.0)]);
        assert_eq!(CaptionFormat::Lines.of_text(text).0, [("a cat".into(), 1.0), ("two cats".into(), 1.0)]);
        for format in [CaptionFormat::Whole, CaptionFormat::Lines] {
            assert_eq!(format.of_text(" \n ").0, [(String::new(), 1.0)]);
        }
    }

    #[test]
    fn lists_of_json_have_weights() {
        let read = |value, weights| CaptionFormat::Whole.of_json(&value, &weights);
        let one = |text: &str, weight| (text.to_string(), weight);
        assert_eq!(read(json!("a\nb"), json!("ignored")).unwrap().0, [one("a b", 1.0)]);
        assert_eq!(read(json!(["a", "b\nc"]), json!(null)).unwrap().0, [one("a", 1.0), one("b c", 1.0)]);
        assert_eq!(read(json!(["a", ""]), json!([3, 0.5])).unwrap().0, [one("a", 3.0), one("", 0.5)]);
        // What is never told is no caption, and not what is measured by.
        assert_eq!(read(json!(["a", "b"]), json!([0, 2])).unwrap().0, [one("b", 2.0)]);
        let lines = |weights| CaptionFormat::Lines.of_json(&json!("a cat\nmy cat"), &weights);
        assert_eq!(lines(json!([3, 1])).unwrap().0, [one("a cat", 3.0), one("my cat", 1.0)]);
        assert!(lines(json!([3])).unwrap_err().contains("`weights` are not"));
        for (value, weights, words) in [
            (json!(3), json!(null), "`3`; expected text, or a list of texts"),
            (json!(["a", 3]), json!(null), "`[\"a\",3]`; expected text"),
            (json!([]), json!(null), "an empty list"),
            (json!(["a"]), json!([1, 2]), "a list whose `weights` are not a number from 0 on"),
            (json!(["a", "b"]), json!([1, -2]), "`weights` are not"),
            (json!(["a", "b"]), json!([0, 0]), "or are all 0"),
            (json!(["a", "b"]), json!([1e308, 1e308]), "`weights` are not"),
            (json!(["a", "b"]), json!(2), "`weights` are not"),
        ] {
            let found = read(value, weights).unwrap_err();
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn captions_are_numbered_in_their_order() {
        let mut captions = CaptionNumbers::default();
        for told in [&["b", "a"][..], &["c"], &["a"]] {
            captions.add(ImageCaptions::of_list(told, None).unwrap());
        }
        let (classes, of) = captions.classes();
        assert_eq!(classes, ["a", "b", "c"]);
        assert_eq!(of, [vec![(1, 1.0), (0, 1.0)], vec![(2, 1.0)], vec![(0, 1.0)]]);
        assert_eq!(several(of.clone()), of);
        assert!(several(of[1..].to_vec()).is_empty());
    }

    #[test]
    fn captions_are_told_as_often_as_their_weights_say() {
        let labels = [(7, 1.0), (8, 0.0), (9, 3.0), (2, 4.0)];
        let mut counts = HashMap::new();
        (0..8000).for_each(|position| *counts.entry(choose(&labels, 5, position).unwrap()).or_insert(0u64) += 1);
        for (label, weight) in labels {
            // Five standard deviations.
            let (share, found) = (weight / 8.0, counts.get(&label).copied().unwrap_or(0));
            let limit = 5.0 * (8000.0 * share * (1.0 - share)).sqrt();
            assert!((found as f64 - 8000.0 * share).abs() <= limit, "{found} of {label}");
        }
        assert_eq!(choose(&[(3, 2.0)], 0, 1), Some(3));
        assert_eq!(choose(&[], 0, 1), None);
    }
}
