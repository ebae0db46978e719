//! The model card: `README.md` of a repository.

use std::fmt::Write;

use mixflow::data::{BucketConfig, DataConfig, Labels};
use mixflow::evaluation::metric::{Measurement, Scores};
use mixflow::numbers::thousands;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings};
use serde_json::{Value, json};

use super::arms::side_by_side;
use super::files::RequiredFile;
use super::finished::Finished;
use super::front_matter::front_matter;
use super::markdown::{links, plainly};
use super::metrics::{Metric, inception_metrics, model_index, pixel_metrics};
use super::results::{Conditions, MeasuredScores};
use super::training::{is_of_ddpm, training};
use super::{Averaging, Choice, SamplePicture};
use crate::Repository;

/// Everything that a card tells.
pub(super) struct Card<'a, N: NetworkSettings> {
    pub(super) finished: &'a Finished<N>,
    pub(super) choice: &'a Choice,
    pub(super) repository: &'a Repository,
    pub(super) branch: &'a str,
    pub(super) measured: &'a MeasuredScores,
    pub(super) needed: &'a [RequiredFile],
    pub(super) sampled: Option<&'a SamplePicture>,
    pub(super) parameters: usize,
    /// The published recipe.
    pub(super) config: &'a str,
}

impl<N: NetworkSettings> Card<'_, N> {
    pub(super) fn text(&self) -> String {
        let name = self.repository.id().rsplit('/').next().unwrap_or_default();
        let parts = [
            front_matter(&self.metadata(name)),
            format!("# {name}\n"),
            self.pictures(),
            self.adapter().map_or_else(|| self.loading(), |_| self.adapter_loading()),
            self.summary(),
            self.results(),
            self.limits(),
            self.files(),
            CITATION.into(),
            format!(
                "## Recipe\n\n<details><summary><code>{}</code></summary>\n\n```json\n{}\n```\n\n</details>",
                if self.choice.adapter { "recipe.json" } else { "config.json" },
                self.config.trim_end()
            ),
        ];
        let parts: Vec<&str> =
            parts.iter().map(|part| part.trim_end_matches('\n')).filter(|part| !part.is_empty()).collect();
        format!("{}\n", parts.join("\n\n"))
    }

    fn metadata(&self, name: &str) -> Value {
        let Choice { license, base_models, datasets, tags, .. } = self.choice;
        let recipe = &self.finished.recipe;
        let mut own = vec!["mixflow".to_string(), "flow-matching".into(), "image-generation".into()];
        own.retain(|tag| tag != "flow-matching" || !is_of_ddpm(&recipe.objective));
        let text = recipe.network.reads_names();
        // There is no task of images by class.
        let task = if text { "text-to-image" } else { "unconditional-image-generation" };
        if !text && recipe.network.classes() > 1 {
            own.push("class-conditional".into());
        }
        own.extend(tags.iter().filter(|tag| !own.contains(tag)).cloned().collect::<Vec<_>>());
        let mut metadata = json!({ "library_name": "mixflow", "pipeline_tag": task, "tags": own });
        let ids = |repositories: &[Repository]| json!(repositories.iter().map(Repository::id).collect::<Vec<_>>());
        let kind = recipe.to_value()["data"]["kind"].clone();
        let kind = datasets.first().map(Repository::id).or(kind.as_str()).unwrap_or_default().to_string();
        let data = datasets.first().map_or_else(|| recipe.data.describe(), Repository::id);
        for (key, value) in [
            ("license", license.as_ref().map(|license| json!(license))),
            ("base_model", (!base_models.is_empty()).then(|| ids(base_models))),
            ("datasets", (!datasets.is_empty()).then(|| ids(datasets))),
            ("model-index", model_index(self.measured, (name, task), (data, &kind))),
        ] {
            if let Some(value) = value {
                metadata[key] = value;
            }
        }
        if self.adapter().is_some() {
            self.add_adapter_metadata(&mut metadata);
        }
        metadata
    }

    /// The section on what the network is and how it was trained.
    fn summary(&self) -> String {
        let Finished { recipe, averaging, .. } = self.finished;
        let [channels, height, width] = recipe.network.shape();
        let made = match &recipe.autoencoder {
            Some(_) => format!("latents of {channels} × {height} × {width}, which an autoencoder turns into images"),
            None => format!("images of {channels} × {height} × {width} (channels, height, width)"),
        };
        let is = match self.adapter() {
            Some(lora) => self.adapter_is(lora),
            None => format!("A {} of {} parameters that", recipe.network.name(), thousands(self.parameters as u64)),
        };
        let mut text = format!(
            "## Model\n\n{is} makes {made}, in {}, trained on {} with [mixflow]({}).\n\n",
            match recipe.network.classes() {
                1 if recipe.network.reads_names() => "the words of one prompt".into(),
                prompts if recipe.network.reads_names() => format!("the words of {prompts} prompts"),
                1 => "one class".into(),
                classes => format!("{classes} classes{}", self.class_names()),
            },
            self.data(),
            env!("CARGO_PKG_REPOSITORY"),
        );
        text.push_str(&training(self.finished));
        let start = self.finished.start.as_ref().and_then(|start| start.repository.as_deref());
        // One that the run names is in that sentence already.
        let told: Vec<_> = self.choice.base_models.iter().filter(|base| Some(base.id()) != start).cloned().collect();
        if !told.is_empty() {
            let _ = write!(text, " The training started from {}.", links(&told, ""));
        }
        text.push_str(match averaging {
            Averaging::Average => " The weights are the moving average of all steps.",
            Averaging::Last => " The weights are those of the last step, not averaged.",
        });
        text
    }

    /// Few classes by number and name, where the names say more.
    fn class_names(&self) -> String {
        const FEW: usize = 20;
        let names = &self.finished.names;
        let plain = |(label, name): (usize, &String)| *name == label.to_string();
        if names.is_empty() || names.len() > FEW || names.iter().enumerate().all(plain) {
            return String::new();
        }
        let named = names.iter().enumerate().map(|(label, name)| format!("{label} “{}”", plainly(name)));
        format!(" ({})", named.collect::<Vec<_>>().join(", "))
    }

    /// The section on the data.
    fn data(&self) -> String {
        match &self.choice.datasets[..] {
            [] => self.finished.recipe.data.describe().into(),
            datasets => links(datasets, "datasets/"),
        }
    }

    fn pictures(&self) -> String {
        match self.sampled {
            None => String::new(),
            Some(SamplePicture { name, caption }) => format!("![Sample images]({name})\n\n{caption}"),
        }
    }

    /// `org/name`, with the branch unless that is `main`.
    pub(super) fn address(&self) -> String {
        match self.branch {
            "main" => self.repository.id().into(),
            branch => format!("{}@{}", self.repository.id(), branch.replace('/', "%2F")),
        }
    }

    fn results(&self) -> String {
        let MeasuredScores { pixels, inception, .. } = self.measured;
        let mut text = String::from("## Results\n\n");
        if self.measured.is_empty() {
            text.push_str("Nothing was measured of these weights.");
            return text;
        }
        if !pixels.is_empty() {
            text.push_str(
                "On pixels, without an Inception network: these are no FID and compare with no paper. The last lines are \
                 what real images reach in place of generated ones.",
            );
            if self.finished.recipe.post_training.is_none() {
                text.push_str(" The network was trained on these real images too.");
            }
            text.push_str("\n\n");
            let mut floors: Vec<(Conditions, Scores)> = vec![];
            for (conditions, Measurement { floor, .. }) in pixels {
                if !floors.iter().any(|(_, known)| known == floor) {
                    let (sampler, images) = ("real images".into(), Some(floor.rows));
                    let file = conditions.file.clone();
                    floors.push((Conditions { sampler, images, file, ..Conditions::default() }, *floor));
                }
            }
            let rows = pixels.iter().map(|(conditions, found)| (conditions, &found.generated));
            let rows = rows.chain(floors.iter().map(|(conditions, floor)| (conditions, floor)));
            let rows: Vec<_> = rows.map(|(conditions, scores)| (conditions, pixel_metrics(scores))).collect();
            text.push_str(&table(&rows));
            // Where two of three neighbours are of the other kind, hardly any is within.
            const FEW: f64 = 0.05;
            let shares = pixels.iter().flat_map(|(_, found)| [found.generated.precision, found.generated.recall]);
            if shares.into_iter().any(|share| share < FEW) {
                text.push_str(
                    "\nPrecision is the share of generated images that are nearer to a real one than its third nearest real \
                     neighbour is, recall the reverse. Between pixels, where two good images of one thing can be far apart, \
                     a share near 0 tells little about how images look; compare it with that of real images.\n",
                );
            }
            let kernels = pixels.iter().flat_map(|(_, found)| [found.generated.kernel, found.floor.kernel]);
            if kernels.into_iter().any(|kernel| kernel < 0.0) {
                text.push_str(
                    "\nThe kernel distance is estimated without bias, so that one near 0 can come out below.\n",
                );
            }
            if let Some((arm, results)) = &self.measured.comparison {
                let _ = write!(text, "\n{}", side_by_side(results, arm, &self.finished.recipe.sampling.describe()));
            }
        }
        for (published, sentence) in [
            (true, "On features of the published Inception network:"),
            (false, "On features of another network than the published Inception; these compare with no paper:"),
        ] {
            let rows: Vec<_> = inception
                .iter()
                .filter(|(_, found)| found.network.published == published)
                .map(|(conditions, found)| (conditions, inception_metrics(found)))
                .collect();
            if !rows.is_empty() {
                let _ = write!(text, "\n{sentence}\n\n{}", table(&rows));
            }
        }
        text
    }

    /// The section on limits, with sources and licences of the data.
    fn limits(&self) -> String {
        let data = match &self.finished.recipe.data {
            DataConfig::Digits { .. } => {
                " The digits are the test part of *Optical Recognition of Handwritten Digits* by E. Alpaydin and C. Kaynak, UCI \
                 Machine Learning Repository, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49), under [CC BY \
                 4.0](https://creativecommons.org/licenses/by/4.0/), enlarged from 8 × 8."
            }
            DataConfig::Emoji { .. } => {
                " The emoji are [Noto Emoji](https://github.com/googlefonts/noto-emoji) by Google, under the [Apache License \
                 2.0](https://www.apache.org/licenses/LICENSE-2.0), as packed in `emoji-datasource-google` 16.0.0; groups and \
                 names are Unicode's."
            }
            DataConfig::Shapes { .. } | DataConfig::Scenes { .. } => {
                " The shapes are drawn by mixflow itself, without other data."
            }
            _ if self.choice.datasets.is_empty() => " Who made its data, and under which licence, is not said here.",
            _ => " Its data have a licence of their own, named where they are.",
        };
        let what = if self.finished.recipe.network.reads_names() { "prompts" } else { "classes" };
        format!(
            "## Limits\n\nIt makes {}, of the {what} in them, and nothing else; it repeats what its data leave out or overdo.{data}",
            self.sizes()
        )
    }

    /// The sentence on the sizes of images that the network makes.
    fn sizes(&self) -> String {
        let recipe = &self.finished.recipe;
        let [_, height, width] = recipe.network.shape();
        // Stored latents tell, where they still are; in a recipe it is those of images.
        let many = |data: &DataConfig| data.open().is_ok_and(|data| !data.buckets().is_empty());
        match (&recipe.data, recipe.data.buckets()) {
            (_, Some(BucketConfig { sizes, .. })) => {
                let square =
                    recipe.autoencoder.as_ref().map_or(height, |own| own.image_shape(recipe.network.shape())[1]);
                let sizes = if sizes.is_empty() { &[square][..] } else { sizes };
                let sizes = sizes.iter().map(|side| format!("{side} × {side}")).collect::<Vec<_>>().join(" or ");
                format!("images of about as many pixels as {sizes}, in ratios of sides like those it was trained on")
            }
            (data @ DataConfig::Latents { .. }, None) if many(data) => {
                "latents of the sizes and ratios of sides that it was trained on".into()
            }
            _ => {
                let stored = matches!(recipe.data, DataConfig::Latents { .. });
                let what = if stored || recipe.autoencoder.is_some() { "latents" } else { "images" };
                format!("{what} of {height} × {width} like those it was trained on")
            }
        }
    }

    /// The section that lists the files.
    fn files(&self) -> String {
        let mut text = String::from(match self.choice.adapter {
            true => {
                "## Files\n\n- `pytorch_lora_weights.safetensors`: the adapter, with rank and scale in its header\n"
            }
            false => {
                "## Files\n\n- `model.safetensors`: the network, under the names of its official implementation\n- \
                 `config.json`: the recipe that it was trained with and is sampled by\n"
            }
        });
        if !self.choice.adapter && matches!(self.finished.recipe.autoencoder, Some(AutoencoderConfig::TrainedRae(_))) {
            text.push_str("- `autoencoder.safetensors`: the autoencoder, which the run trained first\n");
        }
        for RequiredFile { key, name, .. } in self.needed {
            let _ = writeln!(text, "- `{name}`: `{key}` of the recipe");
        }
        for (name, _) in &self.measured.files {
            let _ = writeln!(text, "- `{name}`: what was measured, in full");
        }
        text
    }
}

/// A table with a line for each set of images, and a column for every number that any of them has.
fn table(rows: &[(&Conditions, Vec<Metric>)]) -> String {
    let mut names: Vec<(&str, &str)> = vec![];
    for metric in rows.iter().flat_map(|(_, metrics)| metrics) {
        if !names.contains(&(metric.name, metric.better)) {
            names.push((metric.name, metric.better));
        }
    }
    let mut text = String::from("| sampler | steps | network evaluations | dtype | images | classes | seed |");
    names.iter().for_each(|(name, better)| text.push_str(&format!(" {name} {better} |")));
    text.push_str(&format!(" file |\n|---|{}---|\n", "---:|".repeat(6 + names.len())));
    for (conditions, metrics) in rows {
        let Conditions { sampler, steps, evaluations, images, labels, seed, precision, file } = conditions;
        let shown = |number: Option<u64>| number.map_or("–".into(), |number| number.to_string());
        let count = |number: &Option<usize>| shown(number.map(|number| number as u64));
        let mut cells = vec![
            if sampler.is_empty() { "–".into() } else { sampler.clone() },
            count(steps),
            count(evaluations),
            precision.clone().unwrap_or("–".into()),
            count(images),
            labels.map_or("–", in_a_word).into(),
            shown(*seed),
        ];
        cells.extend(names.iter().map(|(name, _)| {
            let metric = metrics.iter().find(|metric| metric.name == *name);
            metric.map_or("–".into(), Metric::shown)
        }));
        cells.push(format!("[{0}]({0})", file));
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

/// How the classes of measured images were chosen.
fn in_a_word(labels: Labels) -> &'static str {
    match labels {
        Labels::Reference => "as the real images",
        Labels::Balanced => "balanced",
        Labels::Random => "random",
    }
}

const CITATION: &str = "## Citation\n\nMixFlow Training, of which mixflow is an independent implementation:\n\n```bibtex\n\
    @misc{li2025mixflow,\n  title = {MixFlow Training: Alleviating Exposure Bias with Slowed Interpolation Mixture},\n  \
    author = {Li, Hui and Lyu, Jiayue and Wang, Fu-Yun and Cheng, Kaihui and Zhu, Siyu and Wang, Jingdong},\n  \
    year = {2025},\n  eprint = {2512.19311},\n  archivePrefix = {arXiv},\n}\n```";
