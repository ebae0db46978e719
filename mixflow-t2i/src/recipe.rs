//! Recipes of networks for text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Invalid, Precision};
use mixflow::data::Conditioner;
use mixflow::recipe::{Fault, NetworkCost, NetworkSettings, Recipe, is_for_text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mmdit::{MmDit, MmDitConfig, official_key};
use crate::prompts::PromptTable;
use crate::text::TextEncoders;
use crate::{Error, TextEmbedding, TextEncoder, Words};

/// A run of a network for text: [`Recipe`] with prompts for classes.
///
/// A data set's classes are its prompts: the captions of `"kind": "captions"`, or the names of the classes of any other.
pub type TextRecipe = Recipe<TextNetworkConfig>;

/// Recipes that come with the crate, by name.
const EMBEDDED: [(&str, &str); 2] = [
    ("words", include_str!("../recipes/words.json")),
    ("sd3.5-medium-mixflow", include_str!("../recipes/sd3.5-medium-mixflow.json")),
];

/// The `network` of a [`TextRecipe`]: a transformer and who reads its prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextNetworkConfig {
    /// Shape of the transformer.
    pub transformer: MmDitConfig,
    /// Who reads the prompts.
    pub text: TextEncoderConfig,
    /// Number of different prompts in the data.
    pub prompts: usize,
}

/// Who reads prompts, in a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TextEncoderConfig {
    /// [`Words`], which need no files.
    Words(Words),
    /// The [`TextEncoders`] of Stable Diffusion 3.
    #[serde(rename = "stable-diffusion-3")]
    StableDiffusion3 {
        /// The folder that holds `text_encoder`, `tokenizer` and so on.
        folder: PathBuf,
        /// What the encoders multiply in.
        #[serde(default, skip_serializing_if = "Precision::is_full")]
        precision: Precision,
    },
}

impl TextEncoderConfig {
    /// The encoder, which computes on `device`; its weights are read when it is used.
    ///
    /// # Errors
    /// If its folder lacks something.
    pub fn open(&self, device: &Device) -> Result<Box<dyn TextEncoder>, Error> {
        Ok(match self {
            Self::Words(words) => Box::new(*words),
            Self::StableDiffusion3 { folder, precision } => {
                Box::new(TextEncoders::from_folder(folder, device)?.in_precision(*precision)?)
            }
        })
    }

    /// Tokens of a prompt.
    fn tokens(&self) -> usize {
        match self {
            Self::Words(words) => words.tokens,
            Self::StableDiffusion3 { .. } => 77 + TextEncoders::T5_LENGTH,
        }
    }
}

impl NetworkSettings for TextNetworkConfig {
    type Network = MmDit;

    fn init(&self, seed: u64, device: &Device) -> MmDit {
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
        tell: &mut dyn FnMut(usize),
    ) -> Result<Arc<dyn Conditioner<TextEmbedding>>, mixflow::Error> {
        match self.prompt_table(labels, &folder.join("prompts"), device, tell) {
            Ok(table) => Ok(Arc::new(table)),
            Err(error) => Err(mixflow::Error::Condition(error.into())),
        }
    }

    fn reads_names(&self) -> bool {
        true
    }

    fn official_key(&self) -> fn(&str) -> String {
        official_key
    }

    fn own(&self, weights: Weights) -> Result<Weights, mixflow::Error> {
        Ok(MmDit::own(weights)?)
    }

    fn load(&self, network: MmDit, weights: Weights) -> Result<MmDit, mixflow::Error> {
        Ok(network.load(weights)?)
    }

    fn name(&self) -> &str {
        "multimodal transformer (MMDiT)"
    }

    fn shape(&self) -> [usize; 3] {
        let MmDitConfig { channels, input_size, .. } = self.transformer;
        [channels, input_size, input_size]
    }

    fn classes(&self) -> usize {
        self.prompts
    }

    fn classes_key(&self) -> &str {
        "network.prompts"
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
        let TextEncoderConfig::Words(words) = self.text else { return Ok(()) };
        words.check().map_err(|fault| fault.within("text"))?;
        let (context, pooled) = (self.transformer.context_width, self.transformer.pooled_width);
        if (context, pooled) != (words.width, words.width) {
            let reason = format!(
                "must be what the transformer takes, context_width {context} and pooled_width {pooled}, found {}",
                words.width
            );
            return Err(Invalid::new("text.width", reason));
        }
        Ok(())
    }
}

impl TextNetworkConfig {
    /// The embeddings of prompts, made on `device` and kept in `folder`, where those of a run that is continued are found
    /// again; `tell` hears how many are there.
    ///
    /// # Errors
    /// As [`PromptTable::prepare`], and if the embeddings are not those that the transformer takes.
    pub fn prompt_table(
        &self,
        prompts: &[String],
        folder: &Path,
        device: &Device,
        tell: impl FnMut(usize),
    ) -> Result<PromptTable, Error> {
        let encoder = self.text.open(device)?;
        let table = PromptTable::prepare(folder, prompts, &*encoder, tell)?;
        let MmDitConfig { context_width, pooled_width, .. } = self.transformer;
        if table.widths() != [context_width, pooled_width] {
            let reason = format!(
                "holds tokens and pooled prompts of widths {:?}, the transformer takes {:?}: set \
                 network.transformer.context_width and pooled_width",
                table.widths(),
                [context_width, pooled_width]
            );
            return Err(Error::Prompts { path: folder.into(), reason });
        }
        Ok(table)
    }
}

/// Names of the recipes that come with the crate.
pub fn names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// The recipe of the published network.
pub(crate) fn stable_diffusion() -> Result<TextRecipe, Error> {
    let (name, text) = EMBEDDED[1];
    Ok(TextRecipe::parse(name, text, &[])?)
}

/// Reads a recipe by name or from a JSON file and changes it by `key=value` overrides; none if it is one of another kind.
///
/// # Errors
/// [`mixflow::Error::Recipe`] with the place and what was expected.
pub fn read_text_recipe(name_or_path: &str, overrides: &[String]) -> Result<Option<TextRecipe>, Error> {
    let text = match EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        Some((_, text)) => (*text).to_string(),
        // What cannot be read is for the reader of other recipes to say.
        None => std::fs::read_to_string(name_or_path).unwrap_or_default(),
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if !is_for_text(&value) {
        return Ok(None);
    }
    Ok(Some(TextRecipe::parse(name_or_path, &text, overrides)?))
}
