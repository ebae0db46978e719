//! What a recipe knows of its network.

use std::fmt::Debug;

use mixflow_backbones::NetworkConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The part of a [`Recipe`](super::Recipe) that describes the network: [`NetworkConfig`], or that of your own.
///
/// ```
/// use mixflow::recipe::{NetworkSettings, Recipe};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Mine { width: usize }
///
/// impl NetworkSettings for Mine {
///     fn name(&self) -> &str { "network of mine" }
///     fn shape(&self) -> [usize; 3] { [1, 16, 16] }
///     fn classes(&self) -> usize { 10 }
/// }
/// let text = r#"{
///     "name": "mine", "network": { "width": 8 }, "data": { "kind": "digits", "size": 16 },
///     "training": { "steps": 100, "batch": 32 },
///     "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 20 } }
/// }"#;
/// let recipe = Recipe::<Mine>::parse("mine", text, &["network.width=16".into()])?;
/// assert_eq!(recipe.network.width, 16);
/// # Ok::<(), mixflow::Error>(())
/// ```
pub trait NetworkSettings: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// What people call it.
    fn name(&self) -> &str;

    /// Channels, height and width of what it makes: images or latents.
    fn shape(&self) -> [usize; 3];

    /// Number of classes; the null label is this number.
    fn classes(&self) -> usize;

    /// The key of the recipe that says the number of classes; provided: `network.classes`.
    fn classes_key(&self) -> &str {
        "network.classes"
    }

    /// What is wrong with the settings, if anything: a sentence for whoever wrote them; provided: nothing.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Number of its parameters, counted without drawing them; provided: not known.
    fn parameters(&self) -> Option<u64> {
        None
    }

    /// Whether it knows a label for no class; provided: yes.
    fn null_class(&self) -> bool {
        true
    }

    /// Widths of the features that its tokens are projected to, one a target encoder; provided: it has no projectors.
    fn projections(&self) -> &[usize] {
        &[]
    }

    /// Rows and columns of its tokens, where they are projected.
    fn token_grid(&self) -> [usize; 2] {
        [0, 0]
    }
}

impl NetworkSettings for NetworkConfig {
    fn name(&self) -> &str {
        self.name()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn check(&self) -> Result<(), String> {
        self.check()
    }

    fn parameters(&self) -> Option<u64> {
        Some(Self::parameters(self))
    }

    fn null_class(&self) -> bool {
        self.null_class()
    }

    fn projections(&self) -> &[usize] {
        self.projections()
    }

    fn token_grid(&self) -> [usize; 2] {
        self.token_grid()
    }
}
