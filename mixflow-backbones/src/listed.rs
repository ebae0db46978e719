//! Lists in messages.

use std::fmt::Display;

/// The first `most` of some items, and how many more there are: `a, b and 3 more`.
///
/// ```
/// assert_eq!(mixflow_backbones::listed(&[1, 2, 3, 4], 2), "1, 2 and 2 more");
/// ```
pub fn listed(items: &[impl Display], most: usize) -> String {
    let shown: Vec<_> = items.iter().take(most).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
