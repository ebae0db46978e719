//! A plan as a table.

use std::fmt;

use super::Plan;
use crate::numbers::{counted, gigabytes, thousands};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, machine, .. } = self;
        writeln!(f, "{:<28}{network}", "network")?;
        writeln!(f, "{:<28}{}", "parameters", thousands(self.parameters))?;
        let giga = self.multiply_adds as f64 / 1e9;
        let digits = if giga < 1.0 { 4 } else { 1 };
        writeln!(f, "{:<28}{giga:.digits$} GMAC, {:.digits$} GFLOP for one image", "forward pass", 2.0 * giga)?;
        let several = self.devices > 1;
        let (each, alone) = if several { (" on each device", " on the first") } else { ("", "") };
        writeln!(f, "memory in training{each}")?;
        for (part, bytes) in &self.memory {
            writeln!(f, "  {part:<26}{:>9}", gigabytes(*bytes))?;
        }
        for (part, bytes) in &self.first {
            writeln!(f, "  {part:<26}{:>9}{alone}", gigabytes(*bytes))?;
        }
        writeln!(f, "  {:<26}{:>9}{alone}", "together", gigabytes(self.total_memory()))?;
        match machine.memory {
            Some(memory) => {
                let fits = if self.total_memory() <= memory { "fits" } else { "does not fit" };
                writeln!(f, "  {fits} {}, into which go{each}", gigabytes(memory).trim())?;
                self.fits.iter().try_for_each(|fit| writeln!(f, "    {fit}"))?;
            }
            None => writeln!(f, "  the memory of this device is not known here: name a card, as --device h200")?,
        }
        if self.offloaded > 0 {
            writeln!(
                f,
                "{:<28}{:>9} in the memory of the CPU",
                "remembered for the devices",
                gigabytes(self.offloaded)
            )?;
        }
        writeln!(f, "{:<28}{:>9} in memory while it is written", "copy for a checkpoint", gigabytes(self.checkpoint))?;
        writeln!(f, "{:<28}{:>9} on disk", "checkpoints and weights", gigabytes(self.disk))?;
        let count = if several { format!("{} x ", self.devices) } else { String::new() };
        writeln!(f, "times on {count}{} ({})", machine.name, machine.origin)?;
        for part in &self.parts {
            let (images, time) = (counted(part.images, "image"), duration(self.seconds(part)));
            writeln!(f, "  {:<26}{time:>9}, {images}", part.name)?;
        }
        if self.parts.len() > 1 {
            writeln!(f, "  {:<26}{:>9}", "together about", duration(self.total_seconds()))?;
        }
        for part in &self.not_counted {
            writeln!(f, "  not counted: {part}")?;
        }
        if let Some((guide, parameters)) = &self.guide {
            writeln!(f, "{:<28}{guide}, {} parameters", "guide in sampling", thousands(*parameters))?;
        }
        match self.evaluations.zip(self.sampling_multiply_adds) {
            Some((evaluations, multiply_adds)) => {
                let seconds = duration(2.0 * multiply_adds as f64 / machine.speed_in(self.sampling_precision));
                write!(f, "sampling: {evaluations} evaluations, about {seconds} an image")
            }
            None => write!(f, "sampling: the solver chooses its own steps"),
        }
    }
}

/// A time as plans show it, such as `1.5 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s < 730.0 * 86_400.0 => format!("{:.1} days", s / 86_400.0),
        s => format!("{:.1} years", s / 86_400.0 / 365.25),
    }
}
