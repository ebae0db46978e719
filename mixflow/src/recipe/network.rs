//! What a recipe knows of its network.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow_backbones::lora::Adapter;
use mixflow_backbones::weights::Weights;
use mixflow_backbones::{Activations, Backbone, Invalid, Network, NetworkConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Fault, ObjectiveConfig, Recipe};
use crate::data::{Classes, Conditioner};
use crate::train::{ClassRows, StoredNetwork};
use crate::{Error, Objective};

/// Heights and widths that a network takes beside its own: multiples of `step`, at most `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// That of a patch.
    pub step: usize,
    /// For as many places as it has.
    pub most: usize,
    /// The key of the recipe that says how many of `step` these are.
    pub key: &'static str,
}

/// What the network of `N` is told besides the time.
pub type ConditionOf<N> = <<N as NetworkSettings>::Network as Backbone>::Condition;

/// What a network takes, counted without drawing its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkCost {
    /// Parameters, frozen tables included; of an `MMDiT` without its table of places, which is computed.
    pub parameters: u64,
    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub multiply_adds: u64,
    /// The same in training, where there may be more.
    pub training_multiply_adds: u64,
    /// What a training step keeps of one image for its backward pass.
    pub activations: Activations,
    /// What else takes time before a training, in words.
    pub beside: Option<String>,
}

/// The part of a [`Recipe`](super::Recipe) that describes the network: [`NetworkConfig`], or that of your own. With it, all
/// that is done with recipes is there for your network: training, comparison, sampling from checkpoints and measuring.
///
/// ```
/// use std::{path::Path, sync::Arc};
///
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use mixflow::backbones::{Backbone, Linear, init::Initializer};
/// use mixflow::data::{Conditioner, Unconditional};
/// use mixflow::recipe::{NetworkSettings, Recipe};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Module, Debug)]
/// struct Mine { linear: Linear }
///
/// impl Backbone for Mine {
///     type Condition = ();
///     fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: ()) -> Tensor<4> { self.linear.forward(x) }
/// }
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct MyConfig { classes: usize }
///
/// impl NetworkSettings for MyConfig {
///     type Network = Mine;
///     fn name(&self) -> &str { "network of mine" }
///     fn shape(&self) -> [usize; 3] { [1, 16, 16] }
///     fn classes(&self) -> usize { self.classes }
///     fn init(&self, seed: u64, device: &Device) -> Mine {
///         Mine { linear: Initializer::new(seed, device).pytorch_linear(16, 16) }
///     }
///     fn conditioner(
///         &self,
///         _labels: &[String],
///         _folder: &Path,
///         _device: &Device,
///         _tell: &mut dyn FnMut(usize) -> Result<(), mixflow::Error>,
///     ) -> Result<Arc<dyn Conditioner<()>>, mixflow::Error> {
///         Ok(Arc::new(Unconditional))
///     }
/// }
/// let text = r#"{
///     "name": "mine", "network": { "classes": 9 }, "data": { "kind": "digits", "size": 16 },
///     "training": { "steps": 100, "batch": 32 },
///     "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 20 } }
/// }"#;
/// let recipe = Recipe::<MyConfig>::parse("mine", text, &["network.classes=10".into()])?;
/// assert_eq!(recipe.network.classes, 10);
/// # Ok::<(), mixflow::Error>(())
/// ```
pub trait NetworkSettings: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// The network that has these settings.
    type Network: Backbone;

    /// What people call it.
    fn name(&self) -> &str;

    /// Channels, height and width of what it makes: images or latents.
    fn shape(&self) -> [usize; 3];

    /// Number of labels of the data that it learns; of a network for classes, the null label is this number.
    fn classes(&self) -> usize;

    /// The network with initial values, which depend on `seed` alone: draw them by an
    /// [`Initializer`](mixflow_backbones::init::Initializer), Burn's own are other ones every time.
    fn init(&self, seed: u64, device: &Device) -> Self::Network;

    /// What it is told of the data's labels, whose names these are. What that is made of is computed on `device`, and can be
    /// kept in `folder`, where a run that goes on finds it again; `progress` hears how many labels are prepared, as often as more of
    /// them is kept, and an error of it ends that: a run that is to stop says [`Error::Stopped`].
    ///
    /// # Errors
    /// If it cannot be prepared; those of `progress`, as they are.
    fn conditioner(
        &self,
        labels: &[String],
        folder: &Path,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<Arc<dyn Conditioner<ConditionOf<Self>>>, Error>;

    /// The same for data whose folder may hold what it is made of, beside stored latents; provided: it does not.
    ///
    /// # Errors
    /// As [`conditioner`](Self::conditioner), and if the folder holds that of others.
    fn stored_conditioner(
        &self,
        labels: &[String],
        _stored: &Path,
        folder: &Path,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<Arc<dyn Conditioner<ConditionOf<Self>>>, Error> {
        self.conditioner(labels, folder, device, progress)
    }

    /// Refuses the `network` of a recipe that is meant for others, and says for whom; provided: nothing is.
    fn recognise(_network: &Value) -> Result<(), Fault> {
        Ok(())
    }

    /// An adapter of a file by this network's names of layers, where files have others, too; provided: as it is. Refuses one
    /// that has a layer twice, by different names.
    fn adapter(&self, adapter: Adapter) -> Result<Adapter, Error> {
        Ok(adapter)
    }

    /// Whether it is told a scale of guidance, from which it was distilled; provided: no.
    fn is_told_guidance(&self) -> bool {
        false
    }

    /// How many encoders tell it of a label, each by a [part](mixflow_backbones::Condition::mask_part) of the condition; provided:
    /// one.
    fn encoders(&self) -> usize {
        1
    }

    /// Whether it is told what labels are called, as prompts, and not their numbers alone; provided: no.
    fn reads_names(&self) -> bool {
        false
    }

    /// What a publication of the run in a folder says of the network beyond its recipe, by the keys of `network`; provided:
    /// nothing.
    fn published(&self, run: &Path) -> Map<String, Value> {
        let _ = run;
        Map::new()
    }

    /// The name in files of the parameter at a path; provided: the path itself.
    fn official_key(&self) -> fn(&str) -> String {
        |path| path.into()
    }

    /// The weights of this network alone of a file, which may hold more; provided: the file as it is.
    ///
    /// # Errors
    /// If there are several networks.
    fn select_weights(&self, weights: Weights) -> Result<Weights, Error> {
        Ok(weights)
    }

    /// The network with the weights of a file; provided: those of [`select_weights`](Self::select_weights), each by its name.
    ///
    /// # Errors
    /// If they do not fit.
    fn load(&self, network: Self::Network, weights: Weights) -> Result<Self::Network, Error> {
        Ok(self.select_weights(weights)?.into_module(network, self.official_key())?)
    }

    /// `network` with the weights of `stored`, its classes starting from these rows of their label table; provided: an error,
    /// for networks without one.
    ///
    /// # Errors
    /// As [`StoredNetwork::load_for_classes`].
    fn load_for_classes(
        &self,
        stored: &StoredNetwork,
        _network: Self::Network,
        _rows: &ClassRows,
    ) -> Result<Self::Network, Error> {
        let reason = format!("a {} has no label table to start classes from", self.name());
        Err(Error::unfit(stored.file().display(), reason))
    }

    /// What its training minimises; provided: [`ObjectiveConfig::unaligned`]. A network
    /// with [`projections`](Self::projections) has to say [`ObjectiveConfig::objective`] itself.
    fn objective(&self, config: &ObjectiveConfig) -> Box<dyn Objective<Self::Network>> {
        config.unaligned()
    }

    /// The key of the recipe that says the number of classes; provided: `network.classes`.
    fn classes_key(&self) -> &str {
        "network.classes"
    }

    /// The keys of a recipe that say [`shape`](Self::shape); provided: those of `network`.
    fn shape_keys(&self) -> &str {
        "network.channels, network.input_size"
    }

    /// Heights and widths that it takes beside those of its [`shape`](Self::shape); provided: none, it has places for these alone.
    fn sides(&self) -> Option<Sides> {
        None
    }

    /// What is wrong with the settings, if anything; provided: nothing.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// What it takes; provided: not known.
    fn cost(&self) -> Option<NetworkCost> {
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

    /// Whether it says the variance of denoising steps; provided: no.
    fn learns_variance(&self) -> bool {
        false
    }
}

impl NetworkSettings for NetworkConfig {
    type Network = Network;

    fn recognise(network: &Value) -> Result<(), Fault> {
        match network.get("transformer") {
            None => Ok(()),
            Some(_) => Err(Fault::OtherKind("it is for text to image: a `TextRecipe` of mixflow-t2i")),
        }
    }

    fn init(&self, seed: u64, device: &Device) -> Network {
        self.init(seed, device)
    }

    fn conditioner(
        &self,
        _: &[String],
        _: &Path,
        _: &Device,
        _: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<Arc<dyn Conditioner<ConditionOf<Self>>>, Error> {
        Ok(Arc::new(Classes(self.classes())))
    }

    fn official_key(&self) -> fn(&str) -> String {
        self.official_key()
    }

    fn select_weights(&self, weights: Weights) -> Result<Weights, Error> {
        Ok(Network::select_weights(weights)?)
    }

    fn load(&self, network: Network, weights: Weights) -> Result<Network, Error> {
        Ok(network.load(weights)?)
    }

    fn load_for_classes(&self, stored: &StoredNetwork, network: Network, rows: &ClassRows) -> Result<Network, Error> {
        stored.load_for_classes(self, network, rows)
    }

    fn objective(&self, config: &ObjectiveConfig) -> Box<dyn Objective<Network>> {
        Box::new(config.objective())
    }

    fn name(&self) -> &str {
        self.name()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn check(&self) -> Result<(), Invalid> {
        self.check()
    }

    fn cost(&self) -> Option<NetworkCost> {
        Some(NetworkCost {
            parameters: self.parameters(),
            multiply_adds: self.multiply_adds(),
            training_multiply_adds: self.training_multiply_adds(),
            activations: self.activations(),
            beside: None,
        })
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

    fn learns_variance(&self) -> bool {
        matches!(self, Self::Dit(config) if config.learn_sigma)
    }
}

impl<N: NetworkSettings> Recipe<N> {
    /// Its network with trained weights.
    ///
    /// # Errors
    /// If they cannot be read, are damaged or do not fit.
    pub fn load(&self, stored: &StoredNetwork, device: &Device) -> Result<N::Network, Error> {
        stored.load(self.network.init(self.seed, device), |network, weights| self.network.load(network, weights))
    }
}
