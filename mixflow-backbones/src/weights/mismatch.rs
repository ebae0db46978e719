//! How weights differ from what a network needs.

use std::fmt;

/// How many names of a kind a message lists.
const LISTED: usize = 20;

/// Weights that are not those of a network: every difference, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where the weights came from.
    pub source: String,
    /// Parameters of the network that the weights lack.
    pub missing: Vec<String>,
    /// Tensors that the network has no parameter for.
    pub unused: Vec<String>,
    /// Tensors that do not fit the parameter of their name.
    pub misfits: Vec<Misfit>,
}

/// A tensor that does not fit the parameter of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The official name.
    pub name: String,
    /// Shape of the parameter.
    pub expected: Vec<usize>,
    /// Shape of the tensor.
    pub found: Vec<usize>,
    /// The type of the tensor's elements, if it is not floating point.
    pub kind: Option<String>,
}

impl Mismatch {
    pub(crate) fn is_none(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misfits.is_empty()
    }

    /// The one difference between official training and sampling scripts: the last layer has twice the rows where
    /// sigma is predicted too.
    fn learn_sigma(&self) -> Option<bool> {
        let last = self.misfits.iter().find(|misfit| misfit.name.starts_with("final_layer.linear."))?;
        let (&expected, &found) = (last.expected.first()?, last.found.first()?);
        if found == expected.checked_mul(2)? {
            Some(true)
        } else if expected == found.checked_mul(2)? {
            Some(false)
        } else {
            None
        }
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights of {} are not those of this network", self.source)?;
        if let Some(file) = self.learn_sigma() {
            write!(
                f,
                "; `learn_sigma` differs: set it to {file} in the network's configuration to load these weights"
            )?;
        }
        list(f, "missing", &self.missing)?;
        list(f, "unused", &self.unused)?;
        list(f, "mis-shaped", &self.misfits)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, found, kind } = self;
        write!(f, "{name} (expected {expected:?}, found {found:?}")?;
        if let Some(kind) = kind {
            write!(f, " of {kind}")?;
        }
        f.write_str(")")
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[impl fmt::Display]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "; {} {what}: ", items.len())?;
    for (k, item) in items.iter().take(LISTED).enumerate() {
        write!(f, "{}{item}", if k == 0 { "" } else { ", " })?;
    }
    match items.len().checked_sub(LISTED) {
        None | Some(0) => Ok(()),
        Some(more) => write!(f, " and {more} more"),
    }
}
