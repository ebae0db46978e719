//! What a recipe will cost, before anything is allocated.

mod decoder;

pub use decoder::DecoderPlan;

use std::fmt;

use mixflow_backbones::NetworkConfig;

use crate::recipe::Recipe;
use crate::report::thousands;

/// A device and how fast it multiplies matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// Operations a second that training reaches on it; a multiplication and an addition are two.
    pub speed: f64,
    /// Where `speed` comes from, in words.
    pub origin: String,
}

/// Names of devices, their dense peak in 16-bit tensor operations a second, as the makers' data sheets state it.
const PEAKS: [(&str, f64); 6] =
    [("a100", 312e12), ("h100", 989e12), ("h200", 989e12), ("l40s", 362e12), ("rtx-3090", 71e12), ("rtx-4090", 165e12)];

/// The part of its peak that training of a transformer commonly reaches.
const UTILISATION: f64 = 0.4;

impl Machine {
    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PEAKS.iter().map(|(name, _)| *name)
    }

    /// A device by name, at 40 % of its peak; none if it is unknown.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, peak) = PEAKS.iter().find(|(known, _)| *known == name)?;
        let origin = format!("{:.0} % of {:.0} TFLOP/s in 16 bits", 100.0 * UTILISATION, peak / 1e12);
        Some(Self { name: (*name).into(), speed: UTILISATION * peak, origin })
    }
}

/// Size, work, memory and time of a recipe; prints as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Network, in words.
    pub network: String,
    /// Parameters, frozen tables included.
    pub parameters: u64,
    /// Multiplications with addition of one image's forward pass.
    pub multiply_adds: u64,
    /// Bytes in training, by part.
    pub memory: Vec<(&'static str, u64)>,
    /// Images in all steps of the training.
    pub images: u64,
    /// Seconds of the training on the machine.
    pub training_seconds: f64,
    /// The weaker network that samples are guided by, in words, and its parameters.
    pub guide: Option<(String, u64)>,
    /// Network evaluations of one sample, guidance included; none where the solver chooses its own steps.
    pub evaluations: Option<usize>,
    /// Multiplications with addition of one sample.
    pub sampling_multiply_adds: Option<u64>,
    /// The machine that times are for.
    pub machine: Machine,
}

/// Bytes of a number: the command line trains in `f32`.
const BYTES: u64 = 4;

impl Plan {
    /// Works a recipe out. The network's weights are neither drawn nor allocated.
    #[must_use]
    pub fn new(recipe: &Recipe, machine: Machine) -> Self {
        let network = &recipe.network;
        let (parameters, multiply_adds) = (network.parameters(), network.multiply_adds());
        let training = &recipe.training;
        let part = (training.batch / training.accumulation) as u64;
        let images = training.steps * training.batch as u64;
        // The backward pass takes two products for each of the forward pass.
        let operations = 3.0 * 2.0 * network.training_multiply_adds() as f64 * images as f64;
        let sampling = &recipe.sampling;
        let evaluations = sampling.evaluations_of_each();
        let guide = sampling.active_guide().map(|guide| &guide.network);
        let weak = guide.map_or(multiply_adds, NetworkConfig::multiply_adds);
        Self {
            network: network.name().into(),
            parameters,
            multiply_adds,
            memory: vec![
                ("weights", BYTES * parameters),
                ("gradients", BYTES * parameters),
                ("moments of AdamW", 2 * BYTES * parameters),
                ("moving average", BYTES * parameters),
                ("activations of a batch", BYTES * part * network.activations()),
            ],
            images,
            training_seconds: operations / machine.speed,
            guide: guide.map(|guide| (guide.name().into(), guide.parameters())),
            evaluations: sampling.evaluations(),
            sampling_multiply_adds: evaluations
                .map(|[network, guide]| network as u64 * multiply_adds + guide as u64 * weak),
            machine,
        }
    }

    /// Bytes of all parts together.
    #[must_use]
    pub fn total_memory(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, machine, .. } = self;
        writeln!(f, "{:<28}{network}", "network")?;
        writeln!(f, "{:<28}{}", "parameters", thousands(self.parameters))?;
        let giga = self.multiply_adds as f64 / 1e9;
        let digits = if giga < 1.0 { 4 } else { 1 };
        writeln!(f, "{:<28}{giga:.digits$} GMAC, {:.digits$} GFLOP for one image", "forward pass", 2.0 * giga)?;
        writeln!(f, "memory in training")?;
        for (part, bytes) in &self.memory {
            writeln!(f, "  {part:<26}{:>9}", gigabytes(*bytes))?;
        }
        writeln!(f, "  {:<26}{:>9}", "together", gigabytes(self.total_memory()))?;
        writeln!(f, "training of {} images", thousands(self.images))?;
        writeln!(f, "  on {} ({})", machine.name, machine.origin)?;
        writeln!(f, "  {:<26}{:>9}", "about", duration(self.training_seconds))?;
        if let Some((guide, parameters)) = &self.guide {
            writeln!(f, "{:<28}{guide}, {} parameters", "guide in sampling", thousands(*parameters))?;
        }
        match self.evaluations.zip(self.sampling_multiply_adds) {
            Some((evaluations, multiply_adds)) => {
                let seconds = duration(2.0 * multiply_adds as f64 / machine.speed);
                write!(f, "sampling: {evaluations} evaluations, about {seconds} an image")
            }
            None => write!(f, "sampling: the solver chooses its own steps"),
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        giga if giga < 1.0 => format!("{:.1} MB", giga * 1e3),
        giga => format!("{giga:.2} GB"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_largest_sit_has_the_published_size_and_work() {
        let network = r#"network={"kind":"sit","input_size":32,"patch":2,"channels":4,"width":1152,"depth":28,
            "heads":16,"hidden":4608,"classes":1000,"learn_sigma":true}"#;
        let recipe = Recipe::read("digits", &[network.into()]).unwrap();
        let text = Plan::new(&recipe, Machine::named("h100").unwrap()).to_string();
        assert!(text.contains("675,129,632"), "{text}");
        assert!(text.contains("118.6 GMAC"), "{text}");
    }

    #[test]
    fn a_guide_costs_what_it_is() {
        let plan = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|change| (*change).to_string()).collect();
            Plan::new(&Recipe::read("digits", &set).unwrap(), Machine::named("h100").unwrap())
        };
        let scale = "sampling.guidance.scale=1.5";
        let small = r#"sampling.guide={"weights":"w","network":{"kind":"sit","input_size":32,"patch":8,"channels":1,
            "width":24,"depth":1,"heads":3,"hidden":96,"classes":10}}"#;
        let [none, free, guided] = [plan(&[]), plan(&[scale]), plan(&[scale, small])];
        let weak = plan(&["network.width=24", "network.depth=1", "network.hidden=96"]);
        let [a, b, c, d] = [&none, &free, &guided, &weak].map(|plan| plan.sampling_multiply_adds.unwrap());
        assert_eq!((b, c), (2 * a, a + d));
        assert_eq!([none.evaluations, free.evaluations, guided.evaluations], [Some(20), Some(40), Some(40)]);
        assert_eq!(plan(&["sampling.guidance.scale=1", small]).evaluations, Some(20));
        assert!(guided.to_string().contains("guide in sampling"), "{guided}");
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(gigabytes(2_700_518_528), "2.70 GB");
        assert_eq!(duration(90_000.0), "25.0 h");
    }

    #[test]
    fn unknown_machines_have_no_speed() {
        assert_eq!(Machine::named("abacus"), None);
        assert!(Machine::names().all(|name| Machine::named(name).is_some()));
    }
}
