//! Charts as files of their own, for programs that know no variables of style sheets.

use super::Arm;
use super::page::STYLE;
use super::plot::Chart;

impl Chart {
    /// The chart as an SVG file on white, of the light colours.
    pub(super) fn standalone(&self, arms: &[Arm]) -> String {
        let svg = self.svg();
        let inside = svg.split_once('>').map_or("", |(_, inside)| inside);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {height}\" width=\"{}\" \
             height=\"{}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\"><style>{}</style>\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{inside}\n",
            2.0 * Self::WIDTH,
            2.0 * self.height,
            style(arms),
            width = Self::WIDTH,
            height = self.height,
            id = self.id,
        )
    }
}

/// The rules for charts of the page's style sheet, with values in the place of variables and a rule for each arm in the place
/// of its colour.
fn style(arms: &[Arm]) -> String {
    let root = STYLE.split_once('}').map_or("", |(root, _)| root);
    let values: Vec<(&str, &str)> = root
        .split(';')
        .filter_map(|setting| setting.trim().rsplit_once("--")?.1.split_once(": "))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let known = ["start", "standard", "mixflow", "control", "real"].map(String::from);
    let known = known.into_iter().filter_map(|class| {
        let value = values.iter().find(|(name, _)| *name == class)?.1;
        Some((class, value.to_owned()))
    });
    let colours: Vec<(String, String)> =
        known.chain(Arm::palette(arms).into_iter().map(|(class, [light, _])| (class, light))).collect();
    let mut style = String::from(".chart{font-family:sans-serif}");
    for rule in STYLE.lines().filter(|line| line.starts_with(".chart")).flat_map(|line| line.split_inclusive('}')) {
        let rule = values
            .iter()
            .fold(rule.trim().to_owned(), |rule, (name, value)| rule.replace(&format!("var(--{name})"), value));
        match rule.split_once(" {").filter(|(_, settings)| settings.contains("var(--c)")) {
            Some((selector, settings)) => style.extend(
                colours
                    .iter()
                    .map(|(class, value)| format!("{selector}.{class} {{{}", settings.replace("var(--c)", value))),
            ),
            None => style += &rule,
        }
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_left_and_every_arm_has_its_colour() {
        let arms = [Arm::Start, Arm::Other("own".into())];
        let style = style(&arms);
        assert!(!style.contains("var("), "{style}");
        for rule in [
            ".chart .line.start { stroke: #6e7781;",
            ".chart .name.real { fill: #1d2127;",
            ".chart .dot.arm-own { fill: #",
        ] {
            assert!(style.contains(rule), "{rule}: {style}");
        }
        assert_eq!(style.matches('{').count(), style.matches('}').count());
    }
}
