//! Fine-tuning a network on other classes.

use burn::tensor::TensorData;
use mixflow_backbones::embed::LABEL_TABLE;
use mixflow_backbones::weights::{LazyTensor, Weights};
use mixflow_backbones::{Invalid, listed};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::class_number;

/// Which row of the label table of given weights each class of the data starts from; the label for no class keeps its own.
///
/// A network for 1000 classes starts the training on two: `cat=281,dog=207` takes its rows of a tabby and a golden
/// retriever.
///
/// ```
/// use mixflow::train::{ClassRow, ClassRows};
///
/// let classes = ["bird", "cat", "dog"].map(String::from);
/// let rows = ClassRows::parse("cat=281,dog=207", &classes)?;
/// assert_eq!(rows.rows(), [ClassRow::Null, ClassRow::Of(281), ClassRow::Of(207)]);
/// # Ok::<(), mixflow::backbones::Invalid>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassRows(Vec<ClassRow>);

/// What a class starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassRow {
    /// The row of this class.
    Of(usize),
    /// The row for no class.
    Null,
    /// The mean of the rows of all classes.
    Mean,
}

impl ClassRows {
    /// The rows of `classes`: `first` takes as many rows from the start, `null` the row for no class for all of them, `mean`
    /// the mean of all rows, and `cat=281,dog=207` rows by number; classes are named or numbered, and those that are not named
    /// start from the row for no class.
    ///
    /// # Errors
    /// Says what was expected, in a sentence.
    pub fn parse(text: &str, classes: &[String]) -> Result<Self, Invalid> {
        let all = |row| Ok(Self(vec![row; classes.len()]));
        match text {
            "first" => return Ok(Self((0..classes.len()).map(ClassRow::Of).collect())),
            "null" => return all(ClassRow::Null),
            "mean" => return all(ClassRow::Mean),
            _ => {}
        }
        let mut rows = vec![None; classes.len()];
        for part in text.split(',') {
            let (class, row) = part.rsplit_once('=').ok_or_else(|| {
                let reason = format!("is none of first, null, mean and class=row,... such as {}=281", example(classes));
                Invalid::new(format!("{part:?}"), reason)
            })?;
            let index = class_number(class, classes, classes.len())?;
            let number =
                row.parse().map_err(|_| Invalid::new(class, format!("needs the number of a row, found {row:?}")))?;
            if rows[index].replace(ClassRow::Of(number)).is_some() {
                return Err(Invalid::new(class, "is given two rows"));
            }
        }
        Ok(Self(rows.into_iter().map(|row| row.unwrap_or(ClassRow::Null)).collect()))
    }

    /// The row of each class of the data.
    pub fn rows(&self) -> &[ClassRow] {
        &self.0
    }

    /// The weights of a network for other classes as those of one for these. `null_class` is whether both have a row for no
    /// class.
    ///
    /// # Errors
    /// If the weights have no label table, or not the rows.
    pub fn apply(&self, weights: Weights, null_class: bool) -> Result<Weights, Error> {
        let fault = |reason: String| Error::unfit(weights.source(), reason);
        let table = weights.get(LABEL_TABLE).ok_or_else(|| fault(format!("has no {LABEL_TABLE}")))?;
        let data = self.table(table, null_class).map_err(fault)?;
        Ok(weights.with(LABEL_TABLE, data))
    }

    /// The label table, with a row for each class of the data.
    pub(super) fn table(&self, table: &LazyTensor, null_class: bool) -> Result<TensorData, String> {
        let &[count, width] = table.shape() else {
            return Err(format!("its label table is no table: it has the shape {:?}", table.shape()));
        };
        let known = count.saturating_sub(usize::from(null_class));
        let values: Vec<f32> = table.data().map_err(|error| error.to_string())?.iter::<f32>().collect();
        let row = |index: usize| values[index * width..][..width].to_vec();
        let mut rows = Vec::with_capacity((self.0.len() + 1) * width);
        for wanted in &self.0 {
            rows.extend(match *wanted {
                ClassRow::Of(index) if index < known => row(index),
                ClassRow::Of(index) => {
                    return Err(format!("it knows {known} classes, from 0: there is no row {index}"));
                }
                ClassRow::Null if null_class => row(known),
                ClassRow::Null => {
                    return Err("it has no row for no class: give every class a row, or start all from the mean".into());
                }
                ClassRow::Mean if known > 0 => {
                    let sum =
                        |column: usize| (0..known).map(|index| f64::from(values[index * width + column])).sum::<f64>();
                    (0..width).map(|column| (sum(column) / known as f64) as f32).collect()
                }
                ClassRow::Mean => return Err("it knows no class".into()),
            });
        }
        if null_class {
            rows.extend(row(known));
        }
        let labels = self.0.len() + usize::from(null_class);
        Ok(TensorData::new(rows, [labels, width]))
    }

    /// What the classes start from, for people to read: "cat from row 281, dog from row 207; 1 other (bird) from the row for
    /// no class".
    pub fn describe(&self, classes: &[String]) -> String {
        let of = |row: ClassRow| -> Vec<String> {
            classes.iter().zip(&self.0).filter(|(_, found)| **found == row).map(|(name, _)| name.clone()).collect()
        };
        let own = classes.iter().zip(&self.0).filter_map(|(name, row)| match row {
            ClassRow::Of(index) => Some(format!("{name} from row {index}")),
            _ => None,
        });
        let own: Vec<String> = own.collect();
        let mut said = Vec::new();
        if !own.is_empty() {
            said.push(listed(&own, 6));
        }
        for (row, what) in [(ClassRow::Null, "the row for no class"), (ClassRow::Mean, "the mean of all rows")] {
            let names = of(row);
            if !names.is_empty() {
                said.push(format!("{} ({}) from {what}", names.len(), listed(&names, 6)));
            }
        }
        said.join("; ")
    }
}

fn example(classes: &[String]) -> &str {
    classes.first().map_or("cat", String::as_str)
}

#[cfg(test)]
mod tests {
    use mixflow_backbones::NetworkConfig;
    use serde_json::json;

    use super::*;

    fn classes(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Every network for class labels, tiny, for so many classes.
    fn networks(classes: usize) -> Vec<NetworkConfig> {
        let sit = json!({
            "kind": "sit", "input_size": 4, "patch": 2, "channels": 1, "width": 8, "depth": 1, "heads": 2, "hidden": 8,
            "classes": classes
        });
        let mut repa = sit.clone();
        for (key, value) in [
            ("kind", json!("repa")),
            ("encoder_depth", json!(1)),
            ("projector_hidden", json!(8)),
            ("projectors", json!([8])),
        ] {
            repa[key] = value;
        }
        let mut lightning = sit.clone();
        lightning["kind"] = json!("lightning-dit");
        let stack = json!({ "width": 8, "depth": 1, "heads": 2, "hidden": 8 });
        let dit_dh = json!({
            "kind": "dit-dh", "input_size": 2, "channels": 4, "classes": classes, "encoder": stack, "head": stack
        });
        [sit, repa, lightning, dit_dh].into_iter().map(|value| serde_json::from_value(value).unwrap()).collect()
    }

    fn table(weights: &Weights) -> Vec<Vec<f32>> {
        let table = weights.get(LABEL_TABLE).unwrap();
        let values: Vec<f32> = table.data().unwrap().iter::<f32>().collect();
        values.chunks(table.shape()[1]).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn every_network_starts_from_the_rows_that_were_named() {
        let names = classes(&["bird", "cat", "dog"]);
        for (old, new) in networks(7).into_iter().zip(networks(3)) {
            let published = old.init(1, &Default::default()).weights();
            let start = new.init(2, &Default::default());
            // As it is, it does not fit.
            let error = start.clone().load(published.clone()).map(drop).unwrap_err().to_string();
            assert!(error.contains("8 labels with that for no class, the network has 4"), "{error}");
            let rows = ClassRows::parse("cat=4,2=6", &names).unwrap();
            let mapped = rows.apply(published.clone(), true).unwrap();
            let loaded = start.load(mapped).unwrap().weights();
            let (from, found) = (table(&published), table(&loaded));
            assert_eq!(found, [7, 4, 6, 7].map(|row| from[row].clone()), "{}", old.name());
            // All else is as published.
            for (name, tensor) in published.iter().filter(|(name, _)| *name != LABEL_TABLE) {
                assert_eq!(loaded.get(name).unwrap().data().unwrap(), tensor.data().unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn first_null_and_mean_are_for_all_classes() {
        let names = classes(&["a", "b"]);
        let rows = [[1.0f32, 2.0], [3.0, 5.0], [8.0, -1.0], [0.5, 0.25]];
        let weights = |count: usize| -> Weights {
            let data = TensorData::new(rows[..count].concat(), [count, 2]);
            [(LABEL_TABLE.to_string(), data.into())].into_iter().collect()
        };
        let found = |text: &str, null| {
            ClassRows::parse(text, &names).unwrap().apply(weights(4), null).map(|weights| table(&weights))
        };
        assert_eq!(found("first", true).unwrap(), [rows[0], rows[1], rows[3]]);
        assert_eq!(found("null", true).unwrap(), [rows[3], rows[3], rows[3]]);
        assert_eq!(found("mean", true).unwrap(), [[4.0, 2.0], [4.0, 2.0], rows[3]]);
        assert_eq!(found("a=3,b=0", false).unwrap(), [rows[3], rows[0]]);
        for (text, null, words) in [
            ("a=3", true, "it knows 3 classes, from 0: there is no row 3"),
            ("null", false, "it has no row for no class"),
            ("a=1", false, "it has no row for no class"),
        ] {
            let error = found(text, null).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_choice_of_rows_is_refused() {
        let names = classes(&["cat", "dog"]);
        for (text, words) in [
            ("all", "\"all\" is none of first, null, mean and class=row,... such as cat=281"),
            ("cow=1", "cow is no class; there are cat, dog"),
            ("2=1", "2 is no class; their numbers are 0 to 1"),
            ("cat=tabby", "cat needs the number of a row, found \"tabby\""),
            ("cat=1,0=2", "0 is given two rows"),
        ] {
            let error = ClassRows::parse(text, &names).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let rows = ClassRows::parse("dog=207", &names).unwrap();
        assert_eq!(rows.describe(&names), "dog from row 207; 1 (cat) from the row for no class");
        assert_eq!(serde_json::to_value(&rows).unwrap(), json!(["null", { "of": 207 }]));
    }
}
