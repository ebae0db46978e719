//! What the names of classes tell of a folder.

use std::path::Path;

/// The parts that a data set is often divided into, as directories are called that are no classes.
const PARTS: [&str; 9] = ["train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"];

/// What is odd about the names of the classes at `path`, in words.
pub(super) fn odd_classes(path: &Path, classes: &[String]) -> Option<String> {
    let shown = |class: &String| format!("`{class}`");
    if classes.iter().all(|class| PARTS.contains(&class.to_lowercase().as_str())) {
        let names = classes.iter().map(shown).collect::<Vec<_>>().join(", ");
        let part = path.join(&classes[0]);
        return Some(format!(
            "{names} are taken for classes and look like parts of a data set: to take one of them, name it, such as {}",
            part.display()
        ));
    }
    if let [only] = classes {
        return Some(format!("{} is the only class: labels tell the network nothing", shown(only)));
    }
    let numbers: Option<Vec<u64>> = classes.iter().map(|class| class.parse().ok()).collect();
    let turn = numbers?.windows(2).position(|pair| pair[0] > pair[1])?;
    let [first, second] = [turn, turn + 1].map(|label| shown(&classes[label]));
    Some(format!("classes are ordered as text: {first} is label {turn}, {second} is label {}", turn + 1))
}
