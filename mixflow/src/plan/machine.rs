//! The machines that a plan is for.

use mixflow_backbones::Precision;
use serde::Serialize;

/// A device and how fast it multiplies matrices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// Operations a second that training reaches on it; a multiplication and an addition are two.
    pub speed: f64,
    /// The same of a network that multiplies in `bf16`.
    pub low_speed: f64,
    /// Where `speed` comes from, in words.
    pub origin: String,
    /// Its memory in bytes, where that is known.
    pub memory: Option<u64>,
    /// Whether it is the CPU, which keeps numbers of 16 bits so and widens them for products: that takes longer.
    pub is_cpu: bool,
}

/// Names of devices, their peaks in operations a second, of 32 bits without tensor cores and of `bf16` with them and dense,
/// and their memory in gigabytes, as the makers' data sheets state them.
const DEVICES: [(&str, [f64; 2], u64); 7] = [
    ("a100", [19.5e12, 312e12], 80),
    ("h100", [67e12, 989e12], 80),
    ("h200", [67e12, 989e12], 141),
    ("l40s", [91.6e12, 362e12], 48),
    ("rtx-3090", [35.6e12, 71e12], 24),
    ("rtx-4080", [48.7e12, 97.5e12], 16),
    ("rtx-4090", [82.6e12, 165.2e12], 24),
];

/// The part of its peak that training of a transformer commonly reaches.
const UTILISATION: f64 = 0.4;

impl Machine {
    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DEVICES.iter().map(|(name, ..)| *name)
    }

    /// A device by name, at 40 % of its peak; none if it is unknown.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, peaks, memory) = DEVICES.iter().find(|(known, ..)| *known == name)?;
        let [tera, low_tera] = peaks.map(|peak| peak / 1e12);
        let origin = format!("{:.0} % of {tera} TFLOP/s in 32 bits, of {low_tera} in 16", 100.0 * UTILISATION);
        let [speed, low_speed] = peaks.map(|peak| UTILISATION * peak);
        let memory = Some(memory * 1_000_000_000);
        Some(Self { name: (*name).into(), speed, low_speed, origin, memory, is_cpu: false })
    }

    /// The one of the devices that a card's name, such as `NVIDIA H200`, says; none if it says none of them. Where the name
    /// says how much memory the card has, as `A100-SXM4-40GB` does, it has that.
    #[must_use]
    pub fn of_card(card: &str) -> Option<Self> {
        let card = card.to_lowercase();
        let words: Vec<&str> =
            card.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        // What is called alike there computes half as much; a slice of a card is not the card.
        if words.contains(&"laptop") || words.contains(&"mig") {
            return None;
        }
        let says = |name: &&str| {
            let name: Vec<&str> = name.split('-').collect();
            words.windows(name.len()).any(|part| part == name)
        };
        let said = words.iter().find_map(|word| word.strip_suffix("gb")?.parse::<u64>().ok());
        let machine = Self::named(Self::names().find(says)?)?;
        Some(Self { memory: said.map(|gigabytes| gigabytes * 1_000_000_000).or(machine.memory), ..machine })
    }

    /// The most operations a second that the maker states for a device of [`names`](Self::names).
    #[must_use]
    pub fn peak(&self, precision: Precision) -> f64 {
        self.speed_in(precision) / UTILISATION
    }

    /// Operations a second of a network in this precision.
    pub(super) fn speed_in(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.speed,
            Precision::Bf16 => self.low_speed,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_name() {
        for (card, name) in [
            ("burn 0.23.0, NVIDIA H200, Cuda(0)", Some("h200")),
            ("NVIDIA A100-SXM4-80GB", Some("a100")),
            ("NVIDIA GeForce RTX 4090", Some("rtx-4090")),
            ("NVIDIA GH200 480GB", None),
            ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
            ("llvmpipe (LLVM 19)", None),
        ] {
            assert_eq!(Machine::of_card(card).map(|machine| machine.name).as_deref(), name, "{card}");
        }
        for (card, gigabytes) in [("NVIDIA A100-SXM4-40GB", 40), ("NVIDIA A100-SXM4-80GB", 80), ("NVIDIA H200", 141)] {
            assert_eq!(Machine::of_card(card).unwrap().memory, Some(gigabytes * 1_000_000_000), "{card}");
        }
        let [full, low] = [Precision::F32, Precision::Bf16].map(|it| Machine::named("h200").unwrap().peak(it));
        assert!((full / 67e12 - 1.0).abs() < 1e-9 && (low / 989e12 - 1.0).abs() < 1e-9, "{full} {low}");
    }
}
