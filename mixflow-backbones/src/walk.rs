//! Where a walk over the parameters of a network is.

/// The place of a parameter: names and types of what it lies in, outermost first.
#[derive(Default)]
pub(crate) struct Walk {
    /// Names of fields, numbers in lists, and variants of enums; the last one is the parameter's.
    pub(crate) names: Vec<String>,
    /// `Struct:Linear`, `Enum:Network` and the like.
    pub(crate) types: Vec<String>,
}

impl Walk {
    /// As Burn walks there.
    pub(crate) fn path(&self) -> String {
        self.names.join(".")
    }

    /// The path in files: see [`key`].
    pub(crate) fn key(&self) -> String {
        key(&self.names, &self.types)
    }

    /// The type that a linear layer lies in, if a parameter of so many axes here is its weight: the other one is its bias.
    pub(crate) fn linear_in(&self, axes: usize) -> Option<&str> {
        match &self.types[..] {
            [.., part, linear] if linear == "Struct:Linear" && axes == 2 => Some(part),
            _ => None,
        }
    }

    /// Whether the parameter belongs to what stands beside another one, such as an adapter.
    pub(crate) fn is_beside(&self) -> bool {
        self.types.iter().any(|container| container == "Reparameterization")
    }
}

/// A path without the variants of enums: which network stands there does not change the names of its parameters.
pub(crate) fn key(names: &[String], types: &[String]) -> String {
    let parts = names.iter().zip(types).filter(|(_, container)| !container.starts_with("Enum:"));
    parts.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".")
}

/// What a visitor or a mapper with a `walk` does on its way.
macro_rules! walks {
    () => {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.names.push(name.into());
            self.walk.types.push(container.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.names.pop();
            self.walk.types.pop();
        }
    };
}
pub(crate) use walks;
