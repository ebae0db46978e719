//! The networks of a comparison by name and colour.

use serde::{Deserialize, Serialize};

use crate::recipe::ArmConfig;

/// One network of the comparison, or one way to sample from it. Each has one colour, everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Arm {
    /// The pre-trained network that the other arms start from.
    Start,
    /// Post-trained by ordinary flow matching.
    Standard,
    /// Post-trained with `MixFlow` Training, for as many steps.
    MixFlow,
    /// The standard arm with its velocity scaled by the best `lambda`: what temperature alone would give.
    Control,
    /// One that the recipe names.
    Other(Box<str>),
}

/// Hues of arms that a recipe names, apart from those of the usual ones and from each other.
const HUES: [f64; 8] = [285.0, 340.0, 55.0, 190.0, 110.0, 0.0, 250.0, 75.0];

impl Arm {
    /// The arms of a recipe that names none, in the order of tables and legends.
    pub const USUAL: [Self; 4] = [Self::Start, Self::Standard, Self::MixFlow, Self::Control];

    /// Name in tables and figures.
    pub fn name(&self) -> &str {
        match self {
            Self::Start => "start",
            Self::Standard => "standard",
            Self::MixFlow => "MixFlow",
            Self::Control => "λ control",
            Self::Other(name) => name,
        }
    }

    /// One sentence for a reader who has not met the arm before.
    pub fn description(&self) -> &'static str {
        match self {
            Self::Start => "The pre-trained network, before any post-training.",
            Self::Standard => "Post-trained by ordinary flow matching: the input is as noisy as the label says.",
            Self::MixFlow => "Post-trained for as many steps on inputs noisier than their label says.",
            Self::Control => {
                "The standard network with its velocity scaled by the best λ: what temperature alone would give."
            }
            Self::Other(_) => "An arm of this recipe.",
        }
    }

    /// CSS class that carries the colour.
    pub(super) fn class(&self) -> String {
        match self {
            Self::Start => "start".into(),
            Self::Standard => "standard".into(),
            Self::MixFlow => "mixflow".into(),
            Self::Control => "control".into(),
            Self::Other(name) => format!("arm-{}", super::html::slug(name)),
        }
    }

    /// Classes of arms that the style sheet does not know, with a colour for light and for dark paper.
    pub(super) fn palette<'a>(arms: impl IntoIterator<Item = &'a Self>) -> Vec<(String, [String; 2])> {
        let mut palette: Vec<(String, [String; 2])> = vec![];
        for class in arms.into_iter().filter(|arm| matches!(arm, Self::Other(_))).map(Self::class) {
            if !palette.iter().any(|(other, _)| *other == class) {
                let hue = HUES[palette.len() % HUES.len()];
                // Where there are more arms than hues, paler or stronger ones.
                let again = 0.17 * (palette.len() / HUES.len() % 2) as f64;
                palette.push((class, [colour(hue, 0.62, 0.38 + again), colour(hue, 0.75, 0.68 - again)]));
            }
        }
        palette
    }

    /// The same as rules of a style sheet.
    pub(super) fn colours<'a>(arms: impl IntoIterator<Item = &'a Self>) -> String {
        let palette = Self::palette(arms);
        let rules = |place: usize| -> String {
            palette.iter().map(|(class, colours)| format!(".{class}{{--c:{}}}", colours[place])).collect()
        };
        match palette.is_empty() {
            true => String::new(),
            false => format!("{}@media (prefers-color-scheme:dark){{{}}}", rules(0), rules(1)),
        }
    }
}

/// From hue in degrees, saturation and lightness.
fn colour(hue: f64, saturation: f64, lightness: f64) -> String {
    let channel = |offset: f64| {
        let place = (offset + hue / 30.0) % 12.0;
        let away = (place - 3.0).min(9.0 - place).clamp(-1.0, 1.0);
        let value = lightness - saturation * lightness.min(1.0 - lightness) * away;
        (255.0 * value).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0.0), channel(8.0), channel(4.0))
}

/// As reports call it.
impl From<&ArmConfig> for Arm {
    fn from(config: &ArmConfig) -> Self {
        match config.name.as_str() {
            "start" => Self::Start,
            "standard" => Self::Standard,
            "mixflow" => Self::MixFlow,
            "control" => Self::Control,
            name => Self::Other(name.into()),
        }
    }
}

/// Results call the usual arms so.
impl From<String> for Arm {
    fn from(name: String) -> Self {
        match name.as_str() {
            "start" => Self::Start,
            "standard" => Self::Standard,
            "mix_flow" => Self::MixFlow,
            "control" => Self::Control,
            _ => Self::Other(name.into()),
        }
    }
}

impl From<Arm> for String {
    fn from(arm: Arm) -> Self {
        match arm {
            Arm::MixFlow => "mix_flow".into(),
            Arm::Control => "control".into(),
            Arm::Start | Arm::Standard | Arm::Other(_) => arm.name().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn results_keep_the_names_that_they_had() {
        let named = |name: &str| Arm::Other(name.into());
        for (arm, json) in [
            (Arm::Start, "\"start\""),
            (Arm::MixFlow, "\"mix_flow\""),
            (Arm::Control, "\"control\""),
            (named("ssc"), "\"ssc\""),
        ] {
            assert_eq!(serde_json::to_string(&arm).unwrap(), json);
            assert_eq!(serde_json::from_str::<Arm>(json).unwrap(), arm);
        }
    }

    #[test]
    fn every_named_arm_has_a_colour_of_its_own() {
        let arms = ["a", "b", "c"].map(|name| Arm::Other(name.into()));
        let css = Arm::colours(Arm::USUAL.iter().chain(&arms));
        assert_eq!(Arm::palette(&arms).iter().map(|(_, colours)| colours).collect::<BTreeSet<_>>().len(), 3);
        for arm in &arms {
            assert_eq!(css.matches(&format!(".{}{{--c:#", arm.class())).count(), 2, "{css}");
        }
        assert_eq!(
            [(0.0, "#ff0000"), (120.0, "#00ff00"), (240.0, "#0000ff")].map(|(hue, _)| colour(hue, 1.0, 0.5)),
            ["#ff0000", "#00ff00", "#0000ff"]
        );
        assert_eq!(Arm::colours(&Arm::USUAL), "");
        assert!(!Arm::colours(&[Arm::Other("</style>".into())]).contains('<'));
    }
}
