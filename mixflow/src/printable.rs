//! Text that a terminal only shows.

use std::borrow::Cow;
use std::fmt::Write;

/// A text with everything escaped that would move a terminal's cursor, colour it or turn what it shows around, such as a
/// file's name can hold.
///
/// ```
/// use mixflow::printable;
///
/// assert_eq!(printable("cat\x1b[2J.png"), r"cat\u{1b}[2J.png");
/// assert_eq!(printable("chât.png"), "chât.png");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match acts(character) {
            true => write!(shown, "{}", character.escape_default()).expect("a text takes everything"),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// The first characters of a text that has more than `most`, and a sign that there are more.
#[must_use]
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Controls but for the tabulator, and what changes the direction of writing.
fn acts(character: char) -> bool {
    character.is_control() && character != '\t'
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        // Bell, backspace, line break, carriage return, DEL, the eight-bit form of ESC [, right-to-left override.
        let text = "a\x07b\x08c\nd\re\x7ff\u{9b}31mg\u{202e}h";
        assert_eq!(printable(text), r"a\u{7}b\u{8}c\nd\re\u{7f}f\u{9b}31mg\u{202e}h");
        assert!(matches!(printable("日本語 🐈 e\u{301}"), Cow::Borrowed(_)));
    }
}
