//! How weights differ from what a network needs.

use std::fmt;

use burn::tensor::DType;

use crate::keys::LABEL_TABLE;
use crate::listed;

/// How many names of a kind a message lists.
const LISTED: usize = 6;

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
    /// Names of the network that two tensors have, one perhaps under an older name.
    pub twins: Vec<String>,
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
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        let Self { missing, unused, misfits, twins, .. } = self;
        missing.is_empty() && unused.is_empty() && misfits.is_empty() && twins.is_empty()
    }

    /// Rows of the tables of class labels in the file and in the network, the row for no class among them, if they differ.
    pub fn labels(&self) -> Option<[usize; 2]> {
        let table = self.misfits.iter().find(|misfit| misfit.name.ends_with(LABEL_TABLE))?;
        match (&table.found[..], &table.expected[..]) {
            (&[found, width], &[expected, wide]) if width == wide && found != expected => Some([found, expected]),
            _ => None,
        }
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
        if let Some([found, expected]) = self.labels() {
            write!(
                f,
                "; they are for other classes: {found} labels with that for no class, the network has {expected}"
            )?;
        }
        list(f, "missing", &self.missing)?;
        list(f, "unused", &self.unused)?;
        list(f, "mis-shaped", &self.misfits)?;
        list(f, "there twice", &self.twins)
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

/// What people call a type of numbers.
pub(crate) fn type_name(dtype: DType) -> String {
    match dtype {
        DType::Bool(_) => "true or false".into(),
        dtype if dtype.is_float() => format!("{}-bit numbers", 8 * dtype.size()),
        dtype => format!("{}-bit integers", 8 * dtype.size()),
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[impl fmt::Display]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "; {} {what}: {}", items.len(), listed(items, LISTED))
}
