//! Recipes of networks for text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Invalid, Precision};
use mixflow::data::{Conditioner, Dataset, Latents};
use mixflow::recipe::{Fault, NetworkCost, NetworkSettings, Recipe, Sides, is_for_text};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::prompts::PromptTable;
use crate::shape::TextInputShape;
use crate::text::{FlanT5, FluxEncoders, StableDiffusion3Encoders, ZImageEncoder};
use crate::transformer;
use crate::{Error, TextEmbedding, TextEncoder, Transformer, TransformerConfig, Words};

/// A run of a network for text: [`Recipe`] with prompts for classes. [`read_text_recipe`] reads one by name or from a file.
///
/// A data set's classes are its prompts: the captions of `"kind": "captions"`, or the names of the classes of any other.
pub type TextRecipe = Recipe<TextNetworkConfig>;

/// Recipes that come with the crate, by name.
const EMBEDDED: [(&str, &str); 9] = [
    ("scenes", include_str!("../recipes/scenes.json")),
    ("words", include_str!("../recipes/words.json")),
    ("sd3.5-medium-mixflow", include_str!("../recipes/sd3.5-medium-mixflow.json")),
    ("sd3.5-medium-lora-mixflow", include_str!("../recipes/sd3.5-medium-lora-mixflow.json")),
    ("flux.1-dev-mixflow", include_str!("../recipes/flux.1-dev-mixflow.json")),
    ("z-image-lora-mixflow", include_str!("../recipes/z-image-lora-mixflow.json")),
    ("minit2i", include_str!("../recipes/minit2i.json")),
    ("names", include_str!("../recipes/names.json")),
    ("minit2i-b-16", include_str!("../recipes/minit2i-b-16.json")),
];

/// The `network` of a [`TextRecipe`]: a transformer and who reads its prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextNetworkConfig {
    /// Shape of the transformer.
    #[serde(with = "transformer::in_recipe")]
    pub transformer: TransformerConfig,
    /// Who reads the prompts.
    pub text: TextEncoderConfig,
    /// Number of different prompts in the data.
    pub prompts: usize,
    /// The [`identity`](TextEncoder::identity) of the encoder that the network was trained with, as publications say it: another
    /// is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

/// Who reads prompts, in a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TextEncoderConfig {
    /// [`Words`], which need no files.
    Words(Words),
    /// The [`StableDiffusion3Encoders`] of Stable Diffusion 3.
    #[serde(rename = "stable-diffusion-3")]
    StableDiffusion3 {
        /// The folder that holds `text_encoder`, `tokenizer` and so on; `hf://org/name` for what `mixflow-hub` fetches.
        folder: PathBuf,
        /// What the encoders multiply in.
        #[serde(default, skip_serializing_if = "Precision::is_full")]
        precision: Precision,
    },
    /// [`FlanT5`], that of MiniT2I.
    #[serde(rename = "flan-t5")]
    FlanT5 {
        /// The folder that holds the files of `google/flan-t5-large`; `hf://org/name` for what `mixflow-hub` fetches.
        folder: PathBuf,
        /// Tokens of a prompt.
        #[serde(default = "flan_t5_length")]
        tokens: usize,
        /// What the encoder multiplies in.
        #[serde(default, skip_serializing_if = "Precision::is_full")]
        precision: Precision,
    },
    /// The [`FluxEncoders`] of FLUX.1.
    #[serde(rename = "flux-1")]
    Flux1 {
        /// The folder that holds `text_encoder`, `tokenizer` and so on; `hf://org/name` for what `mixflow-hub` fetches.
        folder: PathBuf,
        /// Tokens of a prompt: 512 of FLUX.1-dev, 256 of FLUX.1-schnell.
        #[serde(default = "flux_length")]
        tokens: usize,
        /// What the encoders multiply in.
        #[serde(default, skip_serializing_if = "Precision::is_full")]
        precision: Precision,
    },
    /// The [`ZImageEncoder`] of Z-Image.
    ZImage {
        /// The folder that holds `text_encoder` and `tokenizer`; `hf://org/name` for what `mixflow-hub` fetches.
        folder: PathBuf,
        /// Most tokens of a prompt.
        #[serde(default = "z_image_length")]
        tokens: usize,
        /// What the encoder multiplies in.
        #[serde(default, skip_serializing_if = "Precision::is_full")]
        precision: Precision,
    },
}

fn flan_t5_length() -> usize {
    FlanT5::LENGTH
}

fn flux_length() -> usize {
    FluxEncoders::T5_LENGTH
}

fn z_image_length() -> usize {
    ZImageEncoder::LENGTH
}

impl TextEncoderConfig {
    /// What is wrong with its numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Words(words) => words.check(),
            // The end token is one.
            Self::FlanT5 { tokens, .. } | Self::Flux1 { tokens, .. } | Self::ZImage { tokens, .. }
                if !(2..=Words::MOST).contains(tokens) =>
            {
                Err(Invalid::new("tokens", format!("must be from 2 to {}, found {tokens}", Words::MOST)))
            }
            _ => Ok(()),
        }
    }

    /// The encoder, which computes on `device`; its weights are read when it is used.
    ///
    /// # Errors
    /// As [`check`](Self::check), and if its folder lacks something.
    pub fn open(&self, device: &Device) -> Result<Box<dyn TextEncoder>, Error> {
        self.check().map_err(|fault| Error::config(Path::new("network.text"), fault))?;
        if let Some(folder) = self.clone().folder_mut().filter(|folder| folder.starts_with("hf:")) {
            let reason = "is of the Hugging Face Hub, and a folder is opened without the network: open it with mixflow-hub, or set \
                          network.text.folder to where its files are";
            return Err(Error::config(folder, reason));
        }
        Ok(match self {
            Self::Words(words) => Box::new(*words),
            Self::StableDiffusion3 { folder, precision } => {
                Box::new(StableDiffusion3Encoders::from_folder(folder, device)?.in_precision(*precision)?)
            }
            Self::FlanT5 { folder, tokens, precision } => {
                Box::new(FlanT5::from_folder(folder, device)?.with_length(*tokens)?.in_precision(*precision)?)
            }
            Self::Flux1 { folder, tokens, precision } => {
                Box::new(FluxEncoders::from_folder(folder, device)?.with_t5_length(*tokens)?.in_precision(*precision)?)
            }
            Self::ZImage { folder, tokens, precision } => {
                Box::new(ZImageEncoder::from_folder(folder, device)?.with_length(*tokens)?.in_precision(*precision)?)
            }
        })
    }

    /// The folder of its files, where it has some.
    pub fn folder_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Words(_) => None,
            Self::StableDiffusion3 { folder, .. }
            | Self::FlanT5 { folder, .. }
            | Self::Flux1 { folder, .. }
            | Self::ZImage { folder, .. } => Some(folder),
        }
    }

    /// Tokens of a prompt.
    fn tokens(&self) -> usize {
        match self {
            Self::Words(words) => words.tokens,
            Self::StableDiffusion3 { .. } => 77 + StableDiffusion3Encoders::T5_LENGTH,
            Self::FlanT5 { tokens, .. } | Self::Flux1 { tokens, .. } | Self::ZImage { tokens, .. } => *tokens,
        }
    }
}

impl NetworkSettings for TextNetworkConfig {
    type Network = Transformer;

    fn init(&self, seed: u64, device: &Device) -> Transformer {
        self.transformer.init(seed, device)
    }

    fn recognise(network: &Value) -> Result<(), Fault> {
        match network.get("transformer") {
            Some(_) => Ok(()),
            None => Err(Fault::OtherKind("is the recipe of a network for class labels, not for text")),
        }
    }

    /// A [`PromptTable`] in `prompts` of the folder; labels are prompts.
    fn conditioner(
        &self,
        labels: &[String],
        folder: &Path,
        device: &Device,
        tell: &mut dyn FnMut(usize) -> Result<(), mixflow::Error>,
    ) -> Result<Arc<dyn Conditioner<TextEmbedding>>, mixflow::Error> {
        match self.prompt_table(labels, &folder.join("prompts"), device, tell) {
            Ok(table) => Ok(Arc::new(table)),
            Err(error) => Err(untold(error)),
        }
    }

    /// The [`PromptTable`] in `prompts` beside the latents, if `encode` has made one, unless the run has learned from one of its own;
    /// the run's folder has a note of whose embeddings it learns. Of latents that were added to since, it is that of the first captions.
    fn stored_conditioner(
        &self,
        labels: &[String],
        stored: &Path,
        folder: &Path,
        device: &Device,
        tell: &mut dyn FnMut(usize) -> Result<(), mixflow::Error>,
    ) -> Result<Arc<dyn Conditioner<TextEmbedding>>, mixflow::Error> {
        let all = Latents::open(stored).ok().map(|latents| latents.classes().to_vec());
        let (stored, own) = (stored.join("prompts"), folder.join("prompts"));
        if PromptTable::has_embeddings(&own) {
            return self.conditioner(labels, folder, device, tell);
        }
        let all = all.filter(|all| all.starts_with(labels)).map(|mut all| {
            // Of what latents have beyond that nothing is read here: it is for `encode` to add.
            let held = PromptTable::prefix_len(&stored, &all).filter(|held| *held >= labels.len());
            all.truncate(held.unwrap_or(all.len()));
            all
        });
        if PromptTable::encoder_identity(&stored).is_none() {
            return self.conditioner(labels, folder, device, tell);
        }
        let table = || {
            let table =
                self.prompt_table(all.as_deref().unwrap_or(labels), &stored, device, tell)?.truncated(labels.len());
            let encoder = PromptTable::encoder_identity(&stored).unwrap_or_default();
            PromptTable::record_encoder(&encoder, labels, &own).map(|()| table)
        };
        match table() {
            Ok(table) => Ok(Arc::new(table)),
            Err(error) => Err(untold(error)),
        }
    }

    fn encoders(&self) -> usize {
        match self.text {
            TextEncoderConfig::StableDiffusion3 { .. } => 3,
            TextEncoderConfig::Flux1 { .. } => 2,
            TextEncoderConfig::Words(_) | TextEncoderConfig::FlanT5 { .. } | TextEncoderConfig::ZImage { .. } => 1,
        }
    }

    fn reads_names(&self) -> bool {
        true
    }

    /// The encoder, unless it is in the recipe itself.
    fn published(&self, run: &Path) -> Map<String, Value> {
        let encoder = match self.text {
            TextEncoderConfig::Words(_) => None,
            _ => PromptTable::encoder_identity(&run.join("prompts")),
        };
        encoder.map(|encoder| ("encoder".to_string(), encoder.into())).into_iter().collect()
    }

    fn official_key(&self) -> fn(&str) -> String {
        self.transformer.official_key()
    }

    fn select_weights(&self, weights: Weights) -> Result<Weights, mixflow::Error> {
        Ok(self.transformer.select_weights(weights)?)
    }

    fn load(&self, network: Transformer, weights: Weights) -> Result<Transformer, mixflow::Error> {
        Ok(network.load(weights)?)
    }

    fn adapter(&self, adapter: Adapter) -> Result<Adapter, mixflow::Error> {
        Ok(self.transformer.adapter(adapter)?)
    }

    fn is_told_guidance(&self) -> bool {
        matches!(&self.transformer, TransformerConfig::Flux(config) if config.guidance.is_some())
    }

    fn name(&self) -> &str {
        self.transformer.name()
    }

    fn shape(&self) -> [usize; 3] {
        self.transformer.shape()
    }

    fn classes(&self) -> usize {
        self.prompts
    }

    fn classes_key(&self) -> &str {
        "network.prompts"
    }

    fn shape_keys(&self) -> &str {
        "network.transformer.channels, network.transformer.input_size"
    }

    fn sides(&self) -> Option<Sides> {
        Some(self.transformer.sides())
    }

    fn cost(&self) -> Option<NetworkCost> {
        let (transformer, tokens) = (&self.transformer, self.text.tokens());
        let multiply_adds = transformer.multiply_adds(tokens);
        Some(NetworkCost {
            parameters: transformer.parameters(),
            multiply_adds,
            training_multiply_adds: multiply_adds,
            activations: transformer.activations(tokens),
            beside: Some(format!("reading {} prompts, once", self.prompts)),
        })
    }

    fn check(&self) -> Result<(), Invalid> {
        self.transformer.check().map_err(|fault| fault.within("transformer"))?;
        if self.prompts == 0 {
            return Err(Invalid::new("prompts", "must be at least 1, found 0"));
        }
        self.text.check().map_err(|fault| fault.within("text"))?;
        let (reads, tokens) = (self.transformer.text_input_shape(), self.text.tokens());
        if let Some(most) = reads.length.filter(|most| tokens > *most) {
            let most = format!("at most {most}, the transformer's context_length");
            return Err(match self.text {
                TextEncoderConfig::StableDiffusion3 { .. } => {
                    let reason =
                        format!("must be one that says {most}, found one of {tokens} tokens: flan-t5 or words");
                    Invalid::new("text.kind", reason)
                }
                _ => Invalid::new("text.tokens", format!("must be {most}, found {tokens}")),
            });
        }
        let TextEncoderConfig::Words(words) = self.text else { return Ok(()) };
        if !reads.fits([words.width; 2]) {
            let reason = format!("must be what the transformer takes, {reads}, found {}", words.width);
            return Err(Invalid::new("text.width", reason));
        }
        Ok(())
    }
}

impl TextNetworkConfig {
    /// The encoder of the prompts, which computes on `device`.
    ///
    /// # Errors
    /// As [`TextEncoderConfig::open`], if what it says is known not to be what the transformer takes, and if it is another than
    /// the recipe says.
    pub fn encoder(&self, device: &Device) -> Result<Box<dyn TextEncoder>, Error> {
        let (encoder, reads) = (self.text.open(device)?, self.transformer.text_input_shape());
        let fault = |reason| Err(Error::config(Path::new("network.text"), reason));
        if let Some(widths) = encoder.widths().filter(|widths| !reads.fits(*widths)) {
            return fault(format!(
                "its tokens and pooled prompts have widths {widths:?}, the transformer takes {reads}: set these of \
                 network.transformer"
            ));
        }
        let Some(trained) = &self.encoder else { return Ok(encoder) };
        match encoder.identity()? {
            found if found == *trained => Ok(encoder),
            found => fault(format!(
                "its files or settings are not those that the network was trained with: expected the identity {trained} \
                 (network.encoder), found {found}"
            )),
        }
    }

    /// The embeddings of prompts, made on `device` and kept in `folder`, where those of a run that is continued are found
    /// again; `tell` hears how many are there, and ends it by an error.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder) and [`PromptTable::prepare`], and if the embeddings are not those that the transformer takes.
    pub fn prompt_table(
        &self,
        prompts: &[String],
        folder: &Path,
        device: &Device,
        tell: impl FnMut(usize) -> Result<(), mixflow::Error>,
    ) -> Result<PromptTable, Error> {
        let encoder = self.encoder(device)?;
        let table = PromptTable::prepare(folder, prompts, &*encoder, tell)?;
        let reads: TextInputShape = self.transformer.text_input_shape();
        if !reads.fits(table.widths()) {
            let reason = format!(
                "holds tokens and pooled prompts of widths {:?}, the transformer takes {reads}: set these of \
                 network.transformer",
                table.widths()
            );
            return Err(Error::Prompts { path: folder.into(), reason });
        }
        Ok(table)
    }
}

/// Why there is no table of prompts.
fn untold(error: Error) -> mixflow::Error {
    match error {
        Error::Mixflow(stopped @ mixflow::Error::Stopped) => stopped,
        error => mixflow::Error::Condition(error.into()),
    }
}

/// Names of the recipes that come with the crate.
pub fn names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// The recipe of the published network that is trained as the one of this name.
pub(crate) fn published(name: &str) -> Result<TextRecipe, Error> {
    let text = EMBEDDED.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
    Ok(TextRecipe::parse(name, text, &[])?)
}

/// The JSON value of a recipe of any kind, as [`mixflow::recipe::value`] reads it, by the names of this crate's recipes, too.
///
/// # Errors
/// As there.
pub fn value(name_or_path: &str) -> Result<Value, mixflow::Error> {
    match EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        Some((_, text)) => Ok(serde_json::from_str(text).expect("it comes along")),
        None => mixflow::recipe::value(name_or_path),
    }
}

/// Reads a recipe by name or from a JSON file and changes it by `key=value` overrides; none if it is one of another kind, such as one
/// for classes, or cannot be read, for [`Recipe::read`] to say why.
///
/// # Errors
/// [`mixflow::Error::Recipe`] with the place and what was expected.
pub fn read_text_recipe(name_or_path: &str, overrides: &[String]) -> Result<Option<TextRecipe>, Error> {
    match value(name_or_path) {
        Ok(value) if is_for_text(&value) => Ok(Some(TextRecipe::parse(name_or_path, &value.to_string(), overrides)?)),
        // What cannot be read is for the reader of other recipes to say.
        _ => Ok(None),
    }
}
