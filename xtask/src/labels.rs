//! Classes as they are typed.

use mixflow::data::class_number;

use crate::kind::Kind;
use crate::terminal::Result;
use crate::trained::Trained;

/// The numbers of classes that are given by number or by name.
pub(crate) fn numbers<N: Kind>(given: &[String], trained: &Trained<N>) -> Result<Vec<usize>> {
    let classes = trained.pipeline.recipe.network.classes();
    let mut names = trained.class_names()?;
    if names.is_empty()
        && given.iter().flat_map(|text| text.split(',')).any(|label| label.trim().parse::<usize>().is_err())
    {
        names = trained.pipeline.recipe.data.open().map(|data| data.classes().to_vec()).unwrap_or_default();
        if names.len() != classes {
            let reason =
                "the names of this network's classes are known neither from data.json in its run nor from its data";
            return Err(format!("--labels {}: {reason}: give numbers", given.join(",")).into());
        }
    }
    // A caption may have commas in it.
    let parts = |text: &String| match names.contains(text) {
        true => vec![text.clone()],
        false => text.split(',').map(String::from).collect(),
    };
    let given: &Vec<String> = &given.iter().flat_map(parts).collect();
    if given.iter().any(|label| label.trim().is_empty()) {
        return Err(format!("--labels {}: expected classes between its commas, found none", given.join(",")).into());
    }
    let number = |label: &String| {
        class_number(label.trim(), &names, classes).map_err(|invalid| format!("--labels: {invalid}").into())
    };
    given.iter().map(number).collect()
}
