//! How far, when and where a sample is pushed away from a weaker prediction.

use serde::{Deserialize, Serialize};

use crate::sampling::solver::SampleError;

/// `weak + scale · (strong − weak)`, for some times and channels.
///
/// Classifier-free guidance when the weak network is the strong one under the null condition (Ho and Salimans 2022,
/// arXiv 2207.12598), autoguidance when it is a worse network (Karras et al. 2024, arXiv 2406.02507).
/// See [`Flow::guided`](crate::sampling::Flow::guided).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Guidance {
    scale: f64,
    interval: [f64; 2],
    /// Whether it acts outside of the interval instead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    outside: bool,
    channels: Option<usize>,
}

impl Guidance {
    /// Guides every channel at every time. `scale` is finite: 1 leaves the strong prediction as it is, more pushes away
    /// from the weak one.
    ///
    /// # Errors
    /// [`SampleError::Config`] for a scale that is not finite.
    pub fn new(scale: f64) -> Result<Self, SampleError> {
        Self { scale, interval: always(), outside: false, channels: None }.validated()
    }

    /// The same with another scale.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_scale(self, scale: f64) -> Result<Self, SampleError> {
        Self { scale, ..self }.validated()
    }

    /// Guides only while `start ≤ t ≤ end`, in paper time; the weak network is not evaluated outside.
    ///
    /// # Errors
    /// [`SampleError::Config`] unless `0 ≤ start ≤ end ≤ 1`.
    ///
    /// # Source
    /// Kynkäänniemi et al. 2024 (arXiv 2404.07724).
    pub fn within(self, start: f64, end: f64) -> Result<Self, SampleError> {
        Self { interval: [start, end], outside: false, ..self }.validated()
    }

    /// Guides only while `t < start` or `end < t`, in paper time: the interval of `LightningDiT`'s `cfg_interval`, inside
    /// which there is no guidance.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn outside(self, start: f64, end: f64) -> Result<Self, SampleError> {
        Self { interval: [start, end], outside: true, ..self }.validated()
    }

    /// Guides only the first `channels` channels (all of them, where there are fewer). SiT's published numbers guide
    /// three of four (willisma/SiT, `models.py`, commit 947f95b).
    ///
    /// # Errors
    /// [`SampleError::Config`] for no channels at all.
    pub fn first_channels(self, channels: usize) -> Result<Self, SampleError> {
        Self { channels: Some(channels), ..self }.validated()
    }

    /// The factor of `strong − weak`.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The first and the last paper time that are guided, or that are not where it acts [`outside`](Self::outside).
    #[must_use]
    pub fn interval(&self) -> [f64; 2] {
        self.interval
    }

    /// When it acts, in words such as "from t = 0.1 to 0.7"; nothing if always.
    #[must_use]
    pub fn when(&self) -> Option<String> {
        let [start, end] = self.interval;
        match (self.outside, [start, end] == always()) {
            (true, _) => Some(format!("outside of t = {start} to {end}")),
            (false, true) => None,
            (false, false) => Some(format!("from t = {start} to {end}")),
        }
    }

    /// The number of guided channels, when it is limited.
    #[must_use]
    pub fn channels(&self) -> Option<usize> {
        self.channels
    }

    /// Whether the weak network has a say at paper time `t`; beyond [0, 1], where adaptive steps may look, as at the end.
    #[must_use]
    pub fn is_active(&self, t: f64) -> bool {
        let inside = (self.interval[0]..=self.interval[1]).contains(&t.clamp(0.0, 1.0));
        self.scale != 1.0 && inside != self.outside
    }

    fn validated(self) -> Result<Self, SampleError> {
        let [start, end] = self.interval;
        if !self.scale.is_finite() {
            return Err(SampleError::Config(format!("guidance scale {} is not a finite number", self.scale)));
        }
        if !(0.0 <= start && start <= end && end <= 1.0) {
            return Err(SampleError::Config(format!(
                "guidance interval [{start}, {end}] is not an increasing pair within [0, 1] (0 is noise, 1 is data)"
            )));
        }
        if self.outside && self.interval == always() {
            return Err(SampleError::Config(
                "guidance outside of [0, 1] is none at all: say an `interval` that it leaves out".into(),
            ));
        }
        if self.channels == Some(0) {
            return Err(SampleError::Config(
                "guidance of 0 channels does nothing: leave `channels` out to guide all".into(),
            ));
        }
        Ok(self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    scale: f64,
    #[serde(default = "always")]
    interval: [f64; 2],
    #[serde(default)]
    outside: bool,
    #[serde(default)]
    channels: Option<usize>,
}

fn always() -> [f64; 2] {
    [0.0, 1.0]
}

impl TryFrom<Fields> for Guidance {
    type Error = SampleError;

    fn try_from(Fields { scale, interval, outside, channels }: Fields) -> Result<Self, SampleError> {
        Self { scale, interval, outside, channels }.validated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_defaults_to_everywhere() {
        let guidance: Guidance = serde_json::from_str(r#"{"scale": 1.5}"#).unwrap();
        assert_eq!(guidance, Guidance::new(1.5).unwrap());
        let limited = guidance.within(0.1, 0.7).unwrap().first_channels(3).unwrap();
        for guidance in [limited, guidance.outside(0.1, 0.7).unwrap()] {
            assert_eq!(serde_json::from_str::<Guidance>(&serde_json::to_string(&guidance).unwrap()).unwrap(), guidance);
        }
    }

    #[test]
    fn inside_and_outside_of_an_interval_are_all_times_once() {
        let [inside, outside] = [Guidance::within, Guidance::outside]
            .map(|limited| limited(Guidance::new(2.0).unwrap(), 0.25, 0.5).unwrap());
        for (t, active) in
            [(0.0, false), (0.2, false), (0.25, true), (0.4, true), (0.5, true), (0.6, false), (1.1, false)]
        {
            assert_eq!([inside, outside].map(|guidance| guidance.is_active(t)), [active, !active], "t = {t}");
        }
        let when = [inside, outside, Guidance::new(2.0).unwrap()].map(|guidance| guidance.when());
        assert_eq!(when, [Some("from t = 0.25 to 0.5".into()), Some("outside of t = 0.25 to 0.5".into()), None]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (json, complaint) in [
            (r#"{"scale": 1.5, "interval": [0.8, 0.2]}"#, "[0.8, 0.2]"),
            (r#"{"scale": 1.5, "interval": [0.0, 1.5]}"#, "[0, 1.5]"),
            (r#"{"scale": 1.5, "channels": 0}"#, "0 channels"),
            (r#"{"scale": 1.5, "outside": true}"#, "say an `interval`"),
            (r#"{"scale": 1.5, "chanels": 3}"#, "unknown field"),
            (r#"{"interval": [0.0, 1.0]}"#, "missing field"),
        ] {
            let error = serde_json::from_str::<Guidance>(json).unwrap_err().to_string();
            assert!(error.contains(complaint), "{json}: {error}");
        }
        assert!(Guidance::new(f64::NAN).is_err());
    }
}
