//! A number of the result table.

/// A number and its spread, each with a gap behind it, so that decimal points stand below each other in a column.
pub(super) struct Cell {
    pub(super) mean: String,
    pub(super) after_mean: usize,
    pub(super) spread: String,
    pub(super) after_spread: usize,
    /// The longest spread of the column.
    pub(super) widest: String,
}

impl Cell {
    pub(super) fn html(&self) -> String {
        let gap = |text: &str| match text {
            "" => String::new(),
            text => format!("<span class=\"gap\" aria-hidden=\"true\">{text}</span>"),
        };
        // As wide as what stands there in other rows: digits are alike, but a point and spaces are narrower.
        let after_spread = if self.spread.is_empty() { gap(&self.widest) } else { gap(&"0".repeat(self.after_spread)) };
        let after_mean = gap(&"0".repeat(self.after_mean));
        format!("<td>{}{after_mean}<span class=\"dim\">{}</span>{after_spread}</td>", self.mean, self.spread)
    }

    pub(super) fn text(&self) -> String {
        let [after_mean, after_spread] = [self.after_mean, self.after_spread].map(|width| " ".repeat(width));
        format!("{}{after_mean}{}{after_spread}", self.mean, self.spread)
    }
}

/// Characters from the decimal point on.
pub(super) fn decimal_part(number: &str) -> usize {
    number.find('.').map_or(0, |point| number.len() - point)
}
