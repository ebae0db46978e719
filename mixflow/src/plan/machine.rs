//! The machines that a plan is for.

use mixflow_backbones::Precision;

/// A device and how fast it multiplies matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// Operations a second that training reaches on it; a multiplication and an addition are two.
    pub speed: f64,
    /// The same of a network that multiplies in `bf16`.
    pub low_speed: f64,
    /// Where `speed` comes from, in words.
    pub origin: String,
    /// Its memory in bytes.
    pub memory: u64,
    /// Whether it multiplies numbers of 16 bits as such. The CPU rounds them in 32, which saves nothing and takes longer.
    pub low_precision: bool,
}

/// Names of devices, their peaks in operations a second, of 32 bits without tensor cores and of `bf16` with them and dense,
/// and their memory in gigabytes, as the makers' data sheets state them.
const DEVICES: [(&str, [f64; 2], u64); 6] = [
    ("a100", [19.5e12, 312e12], 80),
    ("h100", [67e12, 989e12], 80),
    ("h200", [67e12, 989e12], 141),
    ("l40s", [91.6e12, 362e12], 48),
    ("rtx-3090", [35.6e12, 71e12], 24),
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
        let memory = memory * 1_000_000_000;
        Some(Self { name: (*name).into(), speed, low_speed, origin, memory, low_precision: true })
    }

    /// Operations a second of a network in this precision.
    pub(super) fn speed_in(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.speed,
            Precision::Bf16 => self.low_speed,
        }
    }
}
