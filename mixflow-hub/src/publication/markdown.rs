//! Text in a card.

use crate::Repository;

/// A name or a caption in a line of Markdown, which shows it as it is.
pub(super) fn plainly(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        shown.extend(r"\`*[]<>".contains(c).then_some('\\'));
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown
}

/// Links to repositories.
pub(super) fn links(repositories: &[Repository], kind: &str) -> String {
    let link = |id: &str| format!("[{id}](https://huggingface.co/{kind}{id})");
    repositories.iter().map(|repository| link(repository.id())).collect::<Vec<_>>().join(" and ")
}
