//! Entries that wait.

use serde_json::Value;

use super::{End, Entry, Histogram, Png};

/// An [`Entry`] that owns its values, to wait in a queue.
#[derive(Debug)]
pub(super) enum OwnedEntry {
    Config(Value),
    Started { step: u64 },
    Scalars { step: u64, values: Vec<(String, f64)> },
    Image { step: u64, name: String, png: Vec<u8> },
    Histogram { step: u64, name: String, histogram: Histogram },
    Summary(Value),
    Flush,
    Finished(End),
}

impl From<Entry<'_>> for OwnedEntry {
    fn from(entry: Entry<'_>) -> Self {
        match entry {
            Entry::Config(config) => Self::Config(config.clone()),
            Entry::Started { step } => Self::Started { step },
            Entry::Scalars { step, values } => {
                Self::Scalars { step, values: values.iter().map(|&(name, value)| (name.into(), value)).collect() }
            }
            Entry::Image { step, name, png } => Self::Image { step, name: name.into(), png: png.bytes().into() },
            Entry::Histogram { step, name, histogram } => {
                Self::Histogram { step, name: name.into(), histogram: histogram.clone() }
            }
            Entry::Summary(summary) => Self::Summary(summary.clone()),
            Entry::Flush => Self::Flush,
            Entry::Finished(end) => Self::Finished(end),
        }
    }
}

impl OwnedEntry {
    /// Memory of the entry while it waits, roughly, in bytes; none of those that must not get lost, which are few.
    pub(super) fn size(&self) -> Option<usize> {
        /// Bytes of the entry itself, and of each value beside its name.
        const FIXED: usize = 64;
        match self {
            Self::Scalars { values, .. } => {
                Some(FIXED + values.iter().map(|(name, _)| FIXED + name.len()).sum::<usize>())
            }
            Self::Image { name, png, .. } => Some(FIXED + name.len() + png.len()),
            Self::Histogram { name, histogram, .. } => Some(FIXED + name.len() + 16 * histogram.edges.len()),
            Self::Config(_) | Self::Started { .. } | Self::Summary(_) | Self::Flush | Self::Finished(_) => None,
        }
    }

    /// Calls `listener` with the entry.
    pub(super) fn borrowed<R>(&self, listener: impl FnOnce(Entry<'_>) -> R) -> R {
        match self {
            Self::Config(config) => listener(Entry::Config(config)),
            Self::Started { step } => listener(Entry::Started { step: *step }),
            Self::Scalars { step, values } => {
                let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                listener(Entry::Scalars { step: *step, values: &values })
            }
            Self::Image { step, name, png } => {
                let png = Png::new(png).expect("it was one when it was told");
                listener(Entry::Image { step: *step, name, png })
            }
            Self::Histogram { step, name, histogram } => listener(Entry::Histogram { step: *step, name, histogram }),
            Self::Summary(summary) => listener(Entry::Summary(summary)),
            Self::Flush => listener(Entry::Flush),
            Self::Finished(end) => listener(Entry::Finished(*end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_is_told_as_it_was() {
        let values = serde_json::json!({ "batch": 64 });
        let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0; 8][..]].concat();
        let histogram = Histogram::new(&[1.0, 2.0]);
        let entries = [
            Entry::Config(&values),
            Entry::Started { step: 3 },
            Entry::Scalars { step: 3, values: &[("loss", 0.5), ("rate", f64::NAN)] },
            Entry::Image { step: 4, name: "samples", png: Png::new(&picture).expect("a header") },
            Entry::Histogram { step: 5, name: "weights", histogram: &histogram },
            Entry::Summary(&values),
            Entry::Flush,
            Entry::Finished(End::Stopped),
        ];
        for entry in entries {
            let told = OwnedEntry::from(entry).borrowed(|entry| format!("{entry:?}"));
            assert_eq!(told, format!("{entry:?}"));
        }
    }
}
