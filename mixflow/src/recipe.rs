//! A run as one JSON value.

mod autoencoder;
mod decoder;
mod guide;
mod objective;

pub use autoencoder::{AutoencoderConfig, Preparation, TargetEncoderConfig, TrainedRae};
pub use decoder::{DecoderKind, DecoderRecipe};
pub use guide::{Guide, GuideConfig};
pub use objective::{ConfiguredObjective, ObjectiveConfig};

use std::path::Path;
use std::sync::Arc;

use mixflow_backbones::NetworkConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::compare::PostTraining;
use crate::data::{DataConfig, Dataset, Part, split};
use crate::generate::Generator;
use crate::guidance::Guidance;
use crate::sampler::Sampler;
use crate::train::TrainConfig;

/// Everything that determines a run: data, network, objective, training, sampling, comparison.
///
/// Unknown keys, values out of range and conflicting laws of time are errors. It is stored with every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the run and of its folder.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// What to learn.
    pub data: DataConfig,
    /// What turns images into latents; none learns pixels, or latents that are stored already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoencoder: Option<AutoencoderConfig>,
    /// Whose features the network is aligned with, where `objective.alignment` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_encoder: Option<TargetEncoderConfig>,
    /// Who learns it.
    pub network: NetworkConfig,
    /// What is minimised.
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// How long and how fast.
    pub training: TrainConfig,
    /// How images are made.
    pub sampling: SamplingConfig,
    /// Post-training with and without MixFlow, and their comparison; none trains only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_training: Option<PostTraining>,
}

/// Solver, grid of times and guidance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Solver and times.
    #[serde(flatten)]
    pub sampler: Sampler,
    /// Guidance: away from the null label, or from `guide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// The weaker network that `guidance` leads away from (autoguidance); none is the network itself without a label
    /// (classifier-free guidance).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide: Option<GuideConfig>,
    /// Images at a time; without effect on them beyond rounding.
    #[serde(default = "hundred")]
    pub batch: usize,
}

impl SamplingConfig {
    /// Network evaluations of one image where guidance acts at all times, both networks counted; none where the solver
    /// chooses its own steps.
    pub fn evaluations(&self) -> Option<usize> {
        let networks = if self.guides() { 2 } else { 1 };
        Some(networks * self.sampler.solver.evaluations(self.sampler.grid.steps())?)
    }

    /// The guide, if sampling needs it: a scale of 1 guides nothing.
    pub fn active_guide(&self) -> Option<&GuideConfig> {
        self.guide.as_ref().filter(|_| self.guides())
    }

    /// Whether there is guidance at any time.
    pub(crate) fn guides(&self) -> bool {
        self.guidance.is_some_and(|guidance| guidance.scale() != 1.0)
    }
}

fn hundred() -> usize {
    100
}

/// Recipes that come with the crate, by name.
const EMBEDDED: [(&str, &str); 4] = [
    ("digits", include_str!("../recipes/digits.json")),
    ("shapes", include_str!("../recipes/shapes.json")),
    ("repa", include_str!("../recipes/repa.json")),
    ("rae", include_str!("../recipes/rae.json")),
];

/// Recipes of the published networks, by name.
const PUBLISHED: [(&str, &str); 6] = [
    ("paper/sit-b-2-256", include_str!("../recipes/paper/sit-b-2-256.json")),
    ("paper/sit-xl-2-256", include_str!("../recipes/paper/sit-xl-2-256.json")),
    ("paper/sit-xl-2-512", include_str!("../recipes/paper/sit-xl-2-512.json")),
    ("paper/repa-xl-2-256", include_str!("../recipes/paper/repa-xl-2-256.json")),
    ("paper/dit-dh-xl-256", include_str!("../recipes/paper/dit-dh-xl-256.json")),
    ("paper/dit-dh-xl-512", include_str!("../recipes/paper/dit-dh-xl-512.json")),
];

impl Recipe {
    /// Names of the recipes that come with the crate; the first is the default.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// Reads a recipe by name, or from a JSON file, and changes it by `key=value` overrides.
    ///
    /// Those of the published networks are called `paper/sit-xl-2-256` and so on.
    ///
    /// A key is a path such as `training.steps`; a value is JSON, or text where it is not.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn read(name_or_path: &str, overrides: &[String]) -> Result<Self, Error> {
        read(name_or_path, overrides, Self::from_value)
    }

    /// The recipe that a JSON value holds, checked; or what is wrong with it, in a sentence.
    pub fn from_value(value: Value) -> Result<Self, String> {
        if DecoderRecipe::is_one(&value) {
            return Err("it trains the decoder of an autoencoder, which is for `train` alone".into());
        }
        let recipe: Self = deserialize(value)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as JSON.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("plain numbers and text are JSON")
    }

    /// Opens the data.
    ///
    /// # Errors
    /// As [`DataConfig::open`], and [`Error::Recipe`] if the network cannot learn these images and classes.
    pub fn open(&self) -> Result<Arc<dyn Dataset>, Error> {
        let data = self.data.open()?;
        let network = &self.network;
        let fault = |reason: String| Err(Error::Recipe { origin: self.name.clone(), reason });
        let shape = match self.encoding() {
            None => data.shape(),
            Some(autoencoder) => match autoencoder.latent_shape(data.shape()) {
                Ok(shape) => shape,
                Err(reason) => return fault(format!("autoencoder: {reason}")),
            },
        };
        let ([channels, height, width], classes) = (shape, data.classes().len());
        if [channels, height, width] != network.shape() {
            let [expected, high, wide] = network.shape();
            return fault(format!(
                "the network makes images of {expected} x {high} x {wide} (channels, height, width), the data has \
                 {channels} x {height} x {width}; change network.channels, network.input_size or data.size"
            ));
        }
        if classes != network.classes() {
            let expected = network.classes();
            return fault(format!(
                "the network knows {expected} classes, the data has {classes}; set network.classes={classes}"
            ));
        }
        Ok(data)
    }

    /// The autoencoder, if training needs it: stored latents are what it has made already.
    pub fn encoding(&self) -> Option<&AutoencoderConfig> {
        self.autoencoder.as_ref().filter(|_| !matches!(self.data, DataConfig::Latents { .. }))
    }

    /// The data for training and the held-out data, as a comparison divides them; a recipe without comparison trains
    /// on both, and `held_out` examples are kept from the first part.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`split`].
    pub fn parts(&self, held_out: usize) -> Result<(Part, Part), Error> {
        let data = self.open()?;
        let Some(post) = &self.post_training else { return Ok(split(&data, held_out as u64, self.seed)?) };
        if let Some(len) = data.len().filter(|len| *len <= post.images as u64) {
            let reason = format!(
                "post_training.images are held out and must be fewer than the images of the data, {len}, found {}",
                post.images
            );
            return Err(Error::Recipe { origin: self.name.clone(), reason });
        }
        Ok(split(&data, post.images as u64, self.seed)?)
    }

    /// How a network of this recipe makes images, but for what has weights of its own: autoencoder and guide.
    pub fn generator<'a, B>(&'a self, network: &'a B) -> Generator<'a, B> {
        Generator {
            network,
            objective: &self.objective,
            sampling: &self.sampling,
            null: self.network.classes(),
            shape: self.network.shape(),
            seed: self.seed,
            lambda: 1.0,
            autoencoder: None,
            guide: None,
        }
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        let network = &self.network;
        network.check().map_err(|fault| format!("network: {fault}"))?;
        let dropout = self.objective.condition_dropout;
        if !(0.0..=1.0).contains(&dropout) {
            return Err(format!("objective.condition_dropout must be in [0, 1], found {dropout}"));
        }
        if dropout > 0.0 && !network.null_class() {
            return Err("objective.condition_dropout needs a network with null_class, or must be 0".into());
        }
        self.check_guidance()?;
        if let Some(autoencoder) = &self.autoencoder {
            autoencoder.check().map_err(|fault| format!("autoencoder.{fault}"))?;
        }
        self.check_alignment()?;
        if self.post_training.is_some() && matches!(self.data, DataConfig::Latents { .. }) {
            return Err(
                "post_training measures images, but the data are latents: train the arms one by one and compare their \
                        images with eval"
                    .into(),
            );
        }
        if self.encoding().is_some() && self.data.flip() {
            return Err(
                "data.flip mirrors images, but an autoencoder's latents are made beforehand: switch it off".into()
            );
        }
        if self.sampling.batch == 0 {
            return Err("sampling.batch must be at least 1, found 0".into());
        }
        self.training.check().map_err(|fault| format!("training: {fault}"))?;
        self.post_training
            .as_ref()
            .map_or(Ok(()), |post| post.check().map_err(|fault| format!("post_training: {fault}")))
    }

    /// Whether there is something to be guided away from.
    fn check_guidance(&self) -> Result<(), String> {
        match (&self.sampling.guidance, &self.sampling.guide) {
            (Some(_), None) if !self.network.null_class() => {
                Err("sampling.guidance needs a network with null_class, or sampling.guide".into())
            }
            (None, Some(_)) => {
                Err("sampling.guide has no effect without sampling.guidance, such as {\"scale\": 1.5}".into())
            }
            (_, Some(guide)) => guide.check(&self.network).map_err(|fault| format!("sampling.guide: {fault}")),
            _ => Ok(()),
        }
    }

    /// Whether somebody is there to be aligned with.
    fn check_alignment(&self) -> Result<(), String> {
        let widths = self.network.projections();
        if self.objective.alignment.is_none() {
            return match self.target_encoder {
                Some(_) => Err("target_encoder has no effect without objective.alignment".into()),
                None => Ok(()),
            };
        }
        if widths.is_empty() {
            return Err("objective.alignment needs a network with projectors, of kind repa".into());
        }
        let Some(target) = &self.target_encoder else {
            return match self.data {
                DataConfig::Latents { .. } => Ok(()),
                _ => Err("objective.alignment needs a target_encoder, or latents that are stored with features".into()),
            };
        };
        if self.autoencoder.is_some() || matches!(self.data, DataConfig::Latents { .. }) {
            return Err("target_encoder sees images: store the features with the latents instead".into());
        }
        target.check().map_err(|fault| format!("target_encoder.{fault}"))?;
        let encoder = target.encoder();
        encoder.check().map_err(|fault| format!("target_encoder.encoder: {fault}"))?;
        let (features, places) = ([encoder.width], [encoder.grid(); 2]);
        if widths != features || self.network.token_grid() != places {
            return Err(format!(
                "the network projects {:?} tokens to {widths:?} features, the target encoder has {places:?} of {features:?}",
                self.network.token_grid()
            ));
        }
        Ok(())
    }
}

/// What a name becomes a folder of.
fn check_name(name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(valid) {
        return Err(format!("name must be made of letters, digits, '-', '_' and '.', found {name:?}"));
    }
    Ok(())
}

/// Reads a recipe of any kind by name, or from a JSON file, and changes it by `key=value` overrides.
fn read<T>(
    name_or_path: &str,
    overrides: &[String],
    from_value: impl Fn(Value) -> Result<T, String>,
) -> Result<T, Error> {
    let fault = |reason: String| Error::Recipe { origin: name_or_path.into(), reason };
    let text = match EMBEDDED.iter().chain(&PUBLISHED).find(|(name, _)| *name == name_or_path) {
        Some((_, text)) => (*text).to_string(),
        None if Path::new(name_or_path).is_file() => {
            std::fs::read_to_string(name_or_path).map_err(Error::io("read", Path::new(name_or_path)))?
        }
        None => {
            let names: Vec<_> = Recipe::names().collect();
            return Err(fault(format!("no such file, and no recipe of that name; recipes are {}", names.join(", "))));
        }
    };
    let mut value: Value = serde_json::from_str(&text).map_err(|error| fault(format!("not JSON: {error}")))?;
    let original = value.clone();
    for change in overrides {
        apply(&mut value, change)?;
    }
    from_value(value).map_err(|reason| match culprit(original, overrides, &reason, from_value) {
        Some(change) => Error::Recipe { origin: format!("--set {}", shortened(change)), reason },
        None => fault(reason),
    })
}

fn deserialize<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        path if path == "." => error.into_inner().to_string(),
        path => format!("{path}: {}", error.into_inner()),
    })
}

/// A change as a message shows it.
fn shortened(change: &str) -> String {
    const SHOWN: usize = 60;
    match change.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &change[..end]),
        None => change.into(),
    }
}

/// The change after which a recipe is faulty for `reason`, if it is one change's fault.
fn culprit<'a, T>(
    mut recipe: Value,
    changes: &'a [String],
    reason: &str,
    from_value: impl Fn(Value) -> Result<T, String>,
) -> Option<&'a String> {
    let faulty = |recipe: &Value| from_value(recipe.clone()).is_err_and(|found| found == reason);
    if faulty(&recipe) {
        return None;
    }
    changes.iter().find(|change| apply(&mut recipe, change).is_ok() && faulty(&recipe))
}

/// Sets the value at a path; the path must lead to an object.
fn apply(recipe: &mut Value, change: &str) -> Result<(), Error> {
    let fault = |reason: &str| Error::Recipe { origin: format!("--set {change}"), reason: reason.into() };
    let (path, text) = change.split_once('=').ok_or_else(|| fault("expected key=value, such as training.steps=100"))?;
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    let mut place = recipe;
    for key in path.split('.') {
        let object = place.as_object_mut().ok_or_else(|| fault("a part of the key is not an object of the recipe"))?;
        place = object.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use mixflow_schedules::TimestepConfig;

    use super::*;
    use crate::plan::{Machine, Plan};

    fn refuse(change: &str) -> String {
        Recipe::read("digits", &[change.into()]).unwrap_err().to_string()
    }

    #[test]
    fn recipes_that_come_along_are_valid_and_survive_a_round_trip() {
        for name in Recipe::names() {
            let recipe = Recipe::read(name, &[]).unwrap();
            assert_eq!(recipe.name, name);
            assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
        }
    }

    /// The recipes of the paper, by file name without ending.
    fn paper() -> Vec<(String, Recipe)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/paper");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
        // That of a decoder has a test of its own.
        files.retain(|file| DecoderRecipe::read(file.to_str().unwrap(), &[]).unwrap().is_none());
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let recipe = Recipe::read(file.to_str().unwrap(), &[]).unwrap();
            (file.file_stem().unwrap().to_str().unwrap().to_string(), recipe)
        };
        files.iter().map(read).collect()
    }

    /// The text says the recipe's own command and what it costs, as `plan` tells it.
    #[test]
    fn recipes_of_the_paper_have_a_text_that_is_true() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/paper");
        let index = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
        for (name, recipe) in paper() {
            assert_eq!(recipe.name, name);
            let text = std::fs::read_to_string(format!("{folder}/{name}.md")).unwrap();
            assert!(text.starts_with(&format!("# {name}\n")) && index.contains(&format!("]({name}.md)")), "{name}");
            let command = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
            let file = format!(" mixflow/recipes/paper/{name}.json");
            assert!(command.starts_with("cargo xtask ") && command.contains(&file), "{name}: {command}");
            for part in ["Hardware", "Published", "Not run here"] {
                assert!(text.contains(&format!("\n- {part}")), "{name}: {part}");
            }
            let plan = Plan::new(&recipe, Machine::named("h100").unwrap()).to_string();
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for key in ["parameters", "together", "about", "sampling:"] {
                let line = plan.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim();
                assert!(words.contains(line), "{name}: {key} is {line}");
            }
        }
    }

    #[test]
    fn guided_recipes_of_the_paper_differ_in_sampling_alone() {
        let recipes = paper();
        let guided: Vec<_> = recipes.iter().filter(|(name, _)| name.contains("-guided")).collect();
        assert_eq!(guided.len(), 4);
        for (name, guided) in guided {
            let plain = name.replace("-guided", "");
            let (_, plain) = recipes.iter().find(|(other, _)| *other == plain).unwrap();
            let sampling = SamplingConfig { guidance: None, guide: None, ..guided.sampling.clone() };
            assert_eq!(&Recipe { name: plain.name.clone(), sampling, ..guided.clone() }, plain);
            let guide = guided.sampling.active_guide().unwrap();
            // DiT^DH-S: 196,455,764 parameters at 256 px, with a larger position table at 512.
            let table = 384 * (guide.network.token_grid().iter().product::<usize>() as u64 - 256);
            assert_eq!(guide.network.parameters(), 196_455_764 + table, "{name}");
        }
    }

    #[test]
    fn recipes_of_the_paper_have_the_published_networks_and_laws() {
        for (name, parameters, shape) in [
            ("sit-b-2-256", 130_512_416, [4, 32, 32]),
            ("sit-xl-2-256", 675_129_632, [4, 32, 32]),
            ("sit-xl-2-512", 676_014_368, [4, 64, 64]),
            ("repa-b-2-256", 137_845_008, [4, 32, 32]),
            ("repa-l-2-256", 465_955_600, [4, 32, 32]),
            ("repa-xl-2-256", 683_242_512, [4, 32, 32]),
            ("dit-dh-xl-256", 838_675_796, [768, 16, 16]),
            ("dit-dh-xl-512", 839_560_532, [768, 32, 32]),
            ("dit-dh-xl-256-guided", 838_675_796, [768, 16, 16]),
            ("dit-dh-xl-512-guided", 839_560_532, [768, 32, 32]),
            ("lightning-dit-xl-256", 677_248_384, [768, 16, 16]),
        ] {
            for (suffix, slowed) in [("", false), ("-mixflow", true)] {
                let file = format!("{}/recipes/paper/{name}{suffix}.json", env!("CARGO_MANIFEST_DIR"));
                let recipe = Recipe::read(&file, &[]).unwrap();
                assert_eq!(recipe.name, format!("{name}{suffix}"));
                assert_eq!(recipe.network.parameters(), parameters, "{name}");
                assert_eq!(matches!(recipe.objective.timesteps, TimestepConfig::MixFlow(_)), slowed, "{name}");
                // The latents that the recipe trains on are those that its autoencoder decodes.
                let side = if name.contains("512") { 512 } else { 256 };
                assert_eq!(recipe.autoencoder.unwrap().latent_shape([3, side, side]).unwrap(), shape, "{name}");
                assert_eq!(recipe.network.shape(), shape, "{name}");
            }
        }
    }

    #[test]
    fn overrides_change_the_recipe() {
        let set = ["training.steps=7", "name=other", "objective.timesteps={\"kind\":\"mixflow\",\"gamma\":0.5}"];
        let recipe = Recipe::read("digits", &set.map(String::from)).unwrap();
        assert_eq!((recipe.training.steps, recipe.name.as_str()), (7, "other"));
        assert!(matches!(recipe.objective.timesteps, TimestepConfig::MixFlow(_)));
    }

    #[test]
    fn data_that_the_network_cannot_learn_is_refused() {
        for (change, words) in [
            ("data.size=16", "the data has 1 x 16 x 16"),
            ("data.channels=3", "the data has 3 x 32 x 32"),
            ("network.classes=4", "set network.classes=10"),
            ("post_training.images=1797", "post_training.images"),
        ] {
            let message = Recipe::read("digits", &[change.into()]).unwrap().parts(1).unwrap_err().to_string();
            assert!(message.contains(words), "{change}: {message}");
        }
        assert!(Recipe::read("shapes", &[]).unwrap().open().is_ok());
    }

    #[test]
    fn a_guide_takes_the_place_of_the_null_class() {
        let guide = |network: &str| format!(r#"sampling.guide={{"weights":"w.pt","network":{network}}}"#);
        let network = r#"{"kind":"sit","input_size":32,"patch":8,"channels":1,"width":24,"depth":1,"heads":3,"hidden":96,
            "classes":10,"null_class":false}"#;
        let scale = || "sampling.guidance.scale=1.5".to_string();
        let unlabelled = ["network.null_class=false", "objective.condition_dropout=0"].map(String::from);
        let read = |changes: &[String]| Recipe::read("digits", &[&unlabelled[..], changes].concat());
        assert!(read(&[scale()]).unwrap_err().to_string().contains("null_class, or sampling.guide"));
        let recipe = read(&[scale(), guide(network)]).unwrap();
        assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
        for (changes, words) in [
            (vec![guide(network)], "no effect without sampling.guidance"),
            (vec![scale(), guide(&network.replace("\"classes\":10", "\"classes\":9"))], "knows 9 classes"),
            (vec![scale(), guide(&network.replace("32", "16"))], "makes 1 x 16 x 16"),
            (vec![scale(), guide(&network.replace("\"heads\":3", "\"heads\":7"))], "sampling.guide: network"),
            (vec![scale(), guide(&network.replace("\"width\"", "\"wide\""))], "wide"),
        ] {
            let message = read(&changes).unwrap_err().to_string();
            assert!(message.contains(words), "{words}: {message}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (change, words) in [
            ("training.stepz=7", "stepz"),
            ("training.steps=many", "--set training.steps=many"),
            ("training.steps=0", "steps"),
            ("training.optimizer.betas=[0.9,1.5]", "betas"),
            ("objective.condition_dropout=2", "condition_dropout"),
            ("objective.timesteps={\"kind\":\"mixflow\",\"gamma\":1.5}", "gamma"),
            ("network.heads=7", "7 heads"),
            ("objective.alignment={}", "of kind repa"),
            ("name=../up", "name"),
            ("seed.a=1", "object"),
            ("seed", "key=value"),
        ] {
            assert!(refuse(change).contains(words), "{change}: {}", refuse(change));
        }
        assert!(Recipe::read("nothing", &[]).unwrap_err().to_string().contains("digits"));
    }
}
