//! Names of repositories.

use std::fmt;

/// What a repository holds. The Hub keeps the three under different addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Weights of a network.
    #[default]
    Model,
    /// A data set.
    Dataset,
    /// A program.
    Space,
}

impl Kind {
    /// The word in addresses and folders.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// The word in requests.
    pub(crate) fn singular(self) -> &'static str {
        self.plural().trim_end_matches('s')
    }
}

/// A repository on the Hub: `org/name`, or `datasets/org/name`.
///
/// ```
/// use mixflow_hub::Repository;
///
/// let repository: Repository = "nyu-visionx/RAE-collections".parse()?;
/// assert_eq!(repository.folder_name(), "models--nyu-visionx--RAE-collections");
/// assert!("../../etc".parse::<Repository>().is_err());
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

impl Repository {
    /// The kind of the repository.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `org/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder in the cache, such as `models--org--name`.
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// Its place below the server's name: `org/name`, or `datasets/org/name`.
    pub(crate) fn path(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            kind => format!("{}/{}", kind.plural(), self.id),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}
