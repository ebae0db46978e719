//! Classes as they are typed.

use mixflow::data::Fingerprint;

use crate::run::Result;
use crate::trained::Trained;

/// The numbers of classes that are given by number or by name.
pub(crate) fn numbers(given: &[String], trained: &Trained) -> Result<Vec<usize>> {
    let classes = trained.recipe.network.classes();
    let mut names = None;
    given
        .iter()
        .map(|label| label.trim())
        .map(|label| match label.parse::<usize>() {
            Ok(number) if number < classes => Ok(number),
            Ok(number) => Err(format!("--labels: expected classes from 0 to {}, found {number}", classes - 1).into()),
            Err(_) => {
                let known = match names.take() {
                    Some(known) => known,
                    None => names_of(trained)?,
                };
                number_of(label, names.insert(known))
            }
        })
        .collect()
}

fn number_of(label: &str, names: &[String]) -> Result<usize> {
    /// A thousand names are no help.
    const SHOWN: usize = 40;
    if names.is_empty() {
        let reason =
            "the names of this network's classes are known neither from data.json in its run nor from its data";
        return Err(format!("--labels {label}: {reason}: give numbers").into());
    }
    names.iter().position(|name| name == label).ok_or_else(|| {
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        let known = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("--labels {label}: no class has this name; there are {known}{more}").into()
    })
}

/// The names of the classes: those that the run has recorded, or else of its data; none if neither is here.
fn names_of(trained: &Trained) -> Result<Vec<String>> {
    // Of a checkpoint: run/arm/checkpoints/step.
    for run in trained.weights.ancestors().skip(1).take(4) {
        if let Some(data) = Fingerprint::read(run)? {
            return Ok(data.classes);
        }
    }
    let names = trained.recipe.data.open().map(|data| data.classes().to_vec()).unwrap_or_default();
    Ok(if names.len() == trained.recipe.network.classes() { names } else { vec![] })
}
