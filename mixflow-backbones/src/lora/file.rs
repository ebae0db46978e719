//! Adapters in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::{Map, Value, json};

use super::beside::{Factors, beside};
use super::scales::{METADATA, Scales};
use super::{LoraConfig, layer_name};
use crate::Error;
use crate::linear;
use crate::walk::{self, Walk, walks};
use crate::weights::{LazyTensor, Weights};

/// An adapter by the official names of its layers, from a file or for one.
///
/// Files are those of `diffusers` (`pytorch_lora_weights.safetensors`), of `peft` (`adapter_model.safetensors`, or `.bin` of
/// older versions, with its `adapter_config.json` beside it), and those with the names of kohya's scripts and `ComfyUI`, as far
/// as these call layers as the network does. [`write`](Self::write) makes a file of the first kind.
#[derive(Clone, Debug)]
pub struct Adapter {
    pairs: BTreeMap<String, Pair>,
    left_out: Vec<String>,
    /// Which its training had, of a network that was trained here; files of `peft` and `diffusers` say so.
    dropout: f64,
    source: String,
}

/// The adapter of a layer: `A`, `[rank, inputs]`, `B`, `[outputs, rank]`, and what their product is multiplied by.
#[derive(Clone, Debug)]
struct Pair {
    a: LazyTensor,
    b: LazyTensor,
    scale: f64,
}

impl Pair {
    fn rank(&self) -> usize {
        self.a.shape()[0]
    }

    /// Of the weight that it is for, `[outputs, inputs]`.
    fn sides(&self) -> [usize; 2] {
        [self.b.shape()[0], self.a.shape()[1]]
    }
}

/// What stands before the name of a layer.
const PREFIXES: [&str; 6] = [
    "base_model.model.transformer.",
    "base_model.model.",
    "transformer.",
    "diffusion_model.",
    "lora_unet_",
    "lora_transformer_",
];

/// What names of layers of text encoders begin with, in files of `diffusers` and of kohya's scripts.
const TEXT_ENCODERS: [&str; 2] = ["text_encoder", "lora_te"];

/// What stands after it: of `A`, of `B`, of the numerator of the scale. `default` is the name that `peft` gives an adapter.
const SUFFIXES: [(&str, Role); 7] = [
    (".lora_A.weight", Role::A),
    (".lora_B.weight", Role::B),
    (".lora_A.default.weight", Role::A),
    (".lora_B.default.weight", Role::B),
    (".lora_down.weight", Role::A),
    (".lora_up.weight", Role::B),
    (".alpha", Role::Alpha),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    A,
    B,
    Alpha,
}

impl Adapter {
    /// What the file of an adapter is called in a folder, by `diffusers` and by `peft`, the one to prefer first.
    pub const FILES: [&str; 3] = ["pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_model.bin"];

    /// The adapter that `config` has [attached](LoraConfig::attach) to a network.
    pub fn of(network: &impl Module, key: impl Fn(&str) -> String, config: &LoraConfig) -> Self {
        let mut collect = Collect { key, walk: Walk::default(), factors: BTreeMap::new() };
        network.visit(&mut collect);
        let pairs = collect.factors.into_iter().map(|(layer, factors)| {
            let [a, b] = factors.map(|factor| factor.expect("an adapter has two factors").into());
            (layer, Pair { a, b, scale: config.scale() })
        });
        Self { pairs: pairs.collect(), left_out: vec![], dropout: config.dropout, source: "a network".into() }
    }

    /// Reads a file, or that of a folder as one of the programs leaves it.
    ///
    /// # Errors
    /// If it cannot be read or is damaged, holds no adapter or half of one, or one of another kind than low rank: `DoRA`,
    /// biases, or one beside weights that its training changed first, such as `PiSSA`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let inside = Self::FILES.map(|name| path.as_ref().join(name));
        let path = inside.iter().find(|file| file.is_file()).map_or(path.as_ref(), PathBuf::as_path);
        let fault = |problem: String| Error::format(path, problem);
        if path.is_dir() {
            return Err(fault(format!("is a folder without an adapter: expected {} in it", Self::FILES.join(" or "))));
        }
        let scales = Scales::read(path)?;
        let mut layers: BTreeMap<String, BTreeMap<Role, LazyTensor>> = BTreeMap::new();
        let mut left_out = vec![];
        for (name, tensor) in Weights::read(path)?.iter() {
            let Some((layer, role)) = parse(name) else {
                return Err(fault(format!(
                    "is no low-rank adapter: it has `{name}`; expected names such as `{EXAMPLE}`"
                )));
            };
            if TEXT_ENCODERS.iter().any(|prefix| name.starts_with(prefix)) {
                left_out.extend((role == Role::A).then(|| layer.to_owned()));
                continue;
            }
            if layers.entry(layer.into()).or_default().insert(role, tensor.clone()).is_some() {
                return Err(fault(format!("has the adapter of `{layer}` twice")));
            }
        }
        let pairs = layers.into_iter().map(|(layer, mut parts)| {
            let [a, b] = [Role::A, Role::B].map(|role| parts.remove(&role));
            let (Some(a), Some(b)) = (a, b) else {
                return Err(fault(format!("has one half alone of the adapter of `{layer}`")));
            };
            match (a.shape(), b.shape()) {
                ([rank, _], [_, same]) if rank == same && *rank > 0 => {}
                (a, b) => return Err(fault(format!("has factors of {a:?} and {b:?} for `{layer}`, which do not fit"))),
            }
            let alpha = match parts.remove(&Role::Alpha) {
                Some(alpha) if alpha.num_elements() == 1 => alpha.data()?.iter::<f64>().next(),
                Some(alpha) => {
                    return Err(fault(format!("has an alpha of {:?} for `{layer}`, expected a number", alpha.shape())));
                }
                None => None,
            };
            let rank = a.shape()[0] as f64;
            let scale = alpha.map_or_else(|| scales.of(&layer, rank), |alpha| alpha / rank);
            Ok((layer, Pair { a, b, scale }))
        });
        let pairs: BTreeMap<_, _> = pairs.collect::<Result<_, _>>()?;
        match pairs.is_empty() {
            true if left_out.is_empty() => Err(fault("holds no tensors".into())),
            true => Err(fault("holds adapters of text encoders alone, and these stay as they are".into())),
            false => Ok(Self { pairs, left_out, dropout: 0.0, source: path.display().to_string() }),
        }
    }

    /// Layers of text encoders that its file has beside those of the network. They are not read.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Official names of its layers.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.pairs.keys().map(String::as_str)
    }

    /// The same adapter under other names of layers: `f` takes the name of a layer and its `B`, and gives the names of one or
    /// several with the rows of it that each has. They share `A`.
    ///
    /// # Errors
    /// If two layers would have one name.
    pub fn flat_map<I>(self, f: impl Fn(String, LazyTensor) -> I) -> Result<Self, Error>
    where
        I: IntoIterator<Item = (String, LazyTensor)>,
    {
        let mut pairs = BTreeMap::new();
        for (layer, Pair { a, b, scale }) in self.pairs {
            for (layer, b) in f(layer, b) {
                if pairs.insert(layer.clone(), Pair { a: a.clone(), b, scale }).is_some() {
                    let problem = format!("has the adapter of `{layer}` twice, by different names");
                    return Err(Error::format(self.source.as_ref(), problem));
                }
            }
        }
        Ok(Self { pairs, ..self })
    }

    /// `weights` by official names, with `strength · (alpha / rank) B A` added to those of the adapter's layers, each in `f32` when
    /// it is asked for. Weights of another shape stay as they are.
    #[must_use]
    pub fn added_to(&self, weights: Weights, strength: f64) -> Weights {
        weights.flat_map(|name, tensor| {
            let pair = self.pairs.get(&layer_name(&name)).cloned();
            let tensor = match pair.filter(|pair| *tensor.shape() == pair.sides()) {
                Some(Pair { a, b, scale }) => tensor.map(move |weight| {
                    let [weight, a, b] = [weight, a.data()?, b.data()?]
                        .map(|data| Tensor::<2>::from_data(data, (&Device::flex(), DType::F32)));
                    Ok((weight + b.matmul(a).mul_scalar(strength * scale)).into_data())
                }),
                None => tensor,
            };
            [(name, tensor)]
        })
    }

    /// Writes a file that `diffusers` reads by `load_lora_weights`, rank and alpha included.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let named = self.pairs.iter().flat_map(|(layer, pair)| {
            [("A", &pair.a), ("B", &pair.b)]
                .map(|(half, tensor)| (format!("transformer.{layer}.lora_{half}.weight"), tensor.clone()))
        });
        let weights: Weights = named.collect();
        let config = json!(self.config()).to_string();
        weights.write(path, &[("format", "pt"), (METADATA, &config)])
    }

    /// Settings as `peft` calls them, after `diffusers`' name of the network. A rank and an alpha for all, those of layers
    /// that differ by the whole name, which other names may end in.
    fn config(&self) -> Map<String, Value> {
        let of = |pair: &Pair| (pair.rank(), pair.scale * pair.rank() as f64);
        let whole = |alpha: f64| if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
        let (rank, alpha) = self.pairs.values().next().map_or((1, 1.0), of);
        let others = |pick: &dyn Fn(&Pair) -> Option<Value>| -> Map<String, Value> {
            self.pairs.iter().filter_map(|(layer, pair)| Some((format!("^{layer}"), pick(pair)?))).collect()
        };
        let ranks = others(&|pair| (of(pair).0 != rank).then(|| json!(of(pair).0)));
        let alphas = others(&|pair| (of(pair).1 != alpha).then(|| whole(of(pair).1)));
        [
            ("peft_type", json!("LORA")),
            ("r", json!(rank)),
            ("lora_alpha", whole(alpha)),
            ("target_modules", json!(self.layers().collect::<Vec<_>>())),
            ("rank_pattern", json!(ranks)),
            ("alpha_pattern", json!(alphas)),
            ("use_rslora", json!(false)),
            ("use_dora", json!(false)),
            ("bias", json!("none")),
            ("lora_bias", json!(false)),
            ("lora_dropout", json!(self.dropout)),
            ("init_lora_weights", json!(true)),
        ]
        .into_iter()
        .map(|(key, value)| (format!("transformer.{key}"), value))
        .collect()
    }

    /// `network` with `strength · (alpha / rank) B A` added to the weights of the adapter's layers; `key` gives the official
    /// name of a parameter's path. Several adapters are fused one after another. Beside weights that are stored in 16 bits, which
    /// would round a small adapter away, the factors stay as they are.
    ///
    /// # Errors
    /// If the network lacks one of the layers, or has it in another shape: then nothing of the adapter is used. Or if the
    /// file cannot be read.
    pub fn fuse<M: Module>(&self, network: M, key: impl Fn(&str) -> String, strength: f64) -> Result<M, Error> {
        let shapes: BTreeMap<String, [usize; 2]> =
            linear::places(&network).into_iter().map(|place| (layer_name(&key(&place.key)), place.shape)).collect();
        let (mut places, mut unknown) = (BTreeMap::new(), vec![]);
        for (layer, pair) in &self.pairs {
            let name = match shapes.contains_key(layer) {
                true => Some(layer),
                // Kohya's names have underscores in the place of dots.
                false => shapes.keys().find(|name| name.replace('.', "_") == *layer),
            };
            match name {
                Some(name) => {
                    let (expected, found) = (shapes[name], pair.sides());
                    if expected != found {
                        let problem = format!("is of {found:?} at `{layer}`, where the network has {expected:?}");
                        return Err(Error::format(self.source.as_ref(), problem));
                    }
                    if places.insert(name.clone(), pair).is_some() {
                        let problem = format!("has the adapter of `{name}` twice, by different names");
                        return Err(Error::format(self.source.as_ref(), problem));
                    }
                }
                None => unknown.push(layer.as_str()),
            }
        }
        if let Some(first) = unknown.first() {
            let some: Vec<_> = shapes.keys().map(String::as_str).take(3).collect();
            let problem = format!(
                "is an adapter of another network: {} of its {} layers are not there, such as `{first}`; layers of this one \
                 are called `{}`",
                unknown.len(),
                self.pairs.len(),
                some.join("`, `")
            );
            return Err(Error::format(self.source.as_ref(), problem));
        }
        let mut add = Add { key, walk: Walk::default(), places, strength, beside: Factors::new(), fault: None };
        let network = network.map(&mut add);
        add.fault.map_or_else(|| Ok(beside(network, add.beside)), Err)
    }
}

const EXAMPLE: &str = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight";

/// The layer that a tensor belongs to, and as what.
fn parse(name: &str) -> Option<(&str, Role)> {
    let (layer, role) = SUFFIXES.iter().find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?, *role)))?;
    let layer = PREFIXES.iter().find_map(|prefix| layer.strip_prefix(prefix)).unwrap_or(layer);
    (!layer.is_empty()).then_some((layer, role))
}

/// The official name of the layer whose weight stands at a path; none of other parameters.
fn layer(path: &[String], containers: &[String], key: impl Fn(&str) -> String) -> Option<String> {
    let of_layer = path.last().is_some_and(|name| name == "weight")
        && containers.last().is_some_and(|container| container == "Struct:Linear");
    of_layer.then(|| layer_name(&key(&walk::key(path, containers))))
}

/// Finds the factors of an adapter.
struct Collect<K> {
    key: K,
    walk: Walk,
    factors: BTreeMap<String, [Option<TensorData>; 2]>,
}

impl<K: Fn(&str) -> String> ModuleVisitor for Collect<K> {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // The path of a weight, then the adapter's name, then the factor's.
        if let ([weight @ .., _, factor], [around @ .., _, adapter]) = (&self.walk.names[..], &self.walk.types[..])
            && adapter == "Struct:LowRank"
            && let Some(layer) = layer(weight, around, &self.key)
        {
            let half = usize::from(factor == "b");
            self.factors.entry(layer).or_default()[half] = Some(param.val().into_data());
        }
    }
}

/// Adds an adapter to the weights of its layers.
struct Add<'a, K> {
    key: K,
    walk: Walk,
    places: BTreeMap<String, &'a Pair>,
    strength: f64,
    /// Those of weights that are stored in 16 bits.
    beside: Factors,
    /// Why values could not be read.
    fault: Option<Error>,
}

impl<K: Fn(&str) -> String> ModuleMapper for Add<'_, K> {
    walks!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let layer = layer(&self.walk.names, &self.walk.types, &self.key);
        let Some(pair) = layer.and_then(|layer| self.places.remove(&layer)) else { return param };
        let factors = [&pair.a, &pair.b].map(LazyTensor::data);
        let scale = self.strength * pair.scale;
        match factors {
            [Ok(a), Ok(b)] if param.base().dtype() == DType::BF16 => {
                let device = param.base().device();
                let [a, b] = [a, b].map(|data| Tensor::from_data(data, (&device, DType::F32)));
                self.beside.insert(self.walk.path(), [a, b.mul_scalar(scale)]);
                param
            }
            [Ok(a), Ok(b)] => param.map(|weight| {
                let (grad, shape, dtype) = (weight.is_require_grad(), weight.shape(), weight.dtype());
                let weight = if weight.is_autodiff() { weight.inner() } else { weight };
                let [a, b] = [a, b].map(|data| Tensor::<2>::from_data(data, (&weight.device(), DType::F32)));
                let sum = weight.cast(DType::F32) + b.matmul(a).mul_scalar(scale).reshape(shape);
                Tensor::from_inner(sum.cast(dtype)).set_require_grad(grad)
            }),
            [Err(fault), _] | [_, Err(fault)] => {
                self.fault.get_or_insert(fault);
                param
            }
        }
    }
}
