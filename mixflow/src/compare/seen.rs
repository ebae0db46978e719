//! What a given start has seen of the images that a comparison holds out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::data::{Dataset, Fingerprint, Permutation, index_at, own_len};
use crate::random::Stream;
use crate::recipe::{NetworkSettings, PostTraining, Recipe};
use crate::train::StoredNetwork;
use crate::train::difference::relocated;

/// How many of the held-out images of a comparison its start was trained on, as far as the recipe beside the start's
/// weights tells: a sentence for the user and the report. `train` are the images that are not held out.
pub fn seen_by_start<N: NetworkSettings>(
    recipe: &Recipe<N>,
    post: &PostTraining,
    train: &dyn Dataset,
    start: &StoredNetwork,
) -> String {
    let unknown = |why: &str| {
        format!(
            "What the start was trained on is not known, {why}: it may have seen the images that are held out here."
        )
    };
    let Some(file) = start.recipe_file() else { return unknown("since no recipe lies beside it") };
    let Some(mut past) = EarlierTraining::read(&file) else {
        return unknown("since the recipe beside it does not tell");
    };
    if past.began_elsewhere {
        return unknown("since its own run was given weights to begin from");
    }
    let now = recipe.to_value();
    let same = match &past.fingerprint {
        None => past.recipe["data"] == now["data"],
        Some(theirs) => match train.fingerprint().map(|found| theirs.difference(&found)) {
            Ok(None) => relocated(&past.recipe, &now)["data"] == now["data"],
            Ok(Some(changes)) => return unknown(&format!("since its data have changed: {changes}")),
            Err(error) => return unknown(&format!("since the data cannot be read: {error}")),
        },
    };
    if !same {
        return unknown("since its recipe names other data");
    }
    // An arm has read on in an order of its own, and buckets and prior images have another one: of these all images count.
    let training = start.training();
    let first = file.parent() == Some(&training) || training.ends_with("pretraining");
    // Beside a published network there is no more than its recipe, whichever of a run's networks it is.
    let published = file.ends_with("config.json");
    if !first || published || !train.buckets().is_empty() || train.prior().is_some() {
        past.read = u64::MAX;
    }
    let images = post.images as u64;
    let seen = past.seen(images, own_len(train).map(|len| len + images), recipe.seed);
    let more =
        if published { " It was published: weights that its own run began with may have seen others." } else { "" };
    let told = match (seen, past.held_out) {
        (0, _) => format!("The start was not trained on any of the {images} images that are held out here."),
        (seen, None) => format!(
            "The start was trained on {seen} of the {images} images that are held out here: its run held out none."
        ),
        (seen, Some(held_out)) => format!(
            "The start was trained on {seen} of the {images} images that are held out here: its run held out others, with \
             seed={} and post_training.images={held_out}.",
            past.seed
        ),
    };
    told + more
}

/// What the start's run trained on.
struct EarlierTraining {
    recipe: Value,
    /// Of its data, if it has written that down.
    fingerprint: Option<Fingerprint>,
    seed: u64,
    /// Images that it held out, if it was a comparison.
    held_out: Option<u64>,
    /// Examples that it has read.
    read: u64,
    /// Whether it began from weights itself.
    began_elsewhere: bool,
}

impl EarlierTraining {
    fn read(file: &Path) -> Option<Self> {
        let value: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let training = &value["training"];
        let post = &value["post_training"];
        Some(Self {
            fingerprint: Fingerprint::read(file.parent()?).ok()?,
            seed: value["seed"].as_u64().unwrap_or(0),
            held_out: if post.is_null() { None } else { Some(post["images"].as_u64()?) },
            read: training["steps"].as_u64()?.saturating_mul(training["batch"].as_u64()?),
            began_elsewhere: file.with_file_name("start.json").is_file(),
            recipe: value,
        })
    }

    /// How many of the images that are held out with this seed were trained on, of `len` in all.
    fn seen(&self, images: u64, len: Option<u64>, seed: u64) -> u64 {
        let held_out = self.held_out.unwrap_or(0);
        let Some(len) = len else {
            // Endless data keep their beginning apart.
            let first = index_at(self.seed, held_out, None);
            return images.saturating_sub(first).min(self.read);
        };
        let split = |seed| Permutation::new(seed, Stream::Split, 0, len);
        let (ours, theirs) = (split(seed), split(self.seed));
        let ours: BTreeSet<u64> = (0..images.min(len)).map(|index| ours.apply(index)).collect();
        // Without a comparison the parts are not mixed.
        let of_theirs = |index| if self.held_out.is_some() { theirs.apply(index) } else { index };
        let trained = len.saturating_sub(held_out);
        // An epoch has every image once.
        let read: BTreeSet<u64> = match self.read < trained {
            true => (0..self.read).map(|at| of_theirs(held_out + index_at(self.seed, at, Some(trained)))).collect(),
            false => (held_out..len).map(of_theirs).collect(),
        };
        ours.intersection(&read).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::{Loader, LoaderConfig};

    fn said(beside: Option<Value>, changes: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("model.safetensors");
        fs::write(&file, "").unwrap();
        if let Some(recipe) = beside {
            fs::write(root.path().join("recipe.json"), recipe.to_string()).unwrap();
        }
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let recipe = Recipe::read("digits", &set).unwrap();
        let post = recipe.post_training.as_ref().unwrap();
        seen_by_start(&recipe, post, &recipe.parts(post.images).unwrap().0, &StoredNetwork::File(file))
    }

    fn run(changes: &[&str]) -> Value {
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Recipe::read("digits", &set).unwrap().to_value()
    }

    #[test]
    fn what_the_start_has_seen_is_counted() {
        assert!(said(Some(run(&[])), &[]).contains("not trained on any of the 250"));
        assert!(said(Some(run(&[])), &["post_training.images=100"]).contains("not trained on any of the 100"));
        assert!(said(Some(run(&[])), &["post_training.images=300"]).contains("on 50 of the 300"));
        assert!(said(Some(run(&["post_training=null"])), &[]).contains("on 250 of the 250"));

        // A run of less than an epoch: the images that its loader gives.
        let short =
            ["post_training=null", "training.steps=2", "training.batch=64", "data.size=8", "network.input_size=8"];
        let recipe = Recipe::read("digits", &short.map(String::from)).unwrap();
        let order = LoaderConfig { batch: 64, seed: recipe.seed, ..LoaderConfig::default() };
        let bits = |pixels: &[f32]| pixels.iter().map(|pixel| pixel.to_bits()).collect::<Vec<_>>();
        let read: BTreeSet<_> = Loader::new(recipe.open().unwrap(), order)
            .unwrap()
            .take(2)
            .flat_map(|batch| batch.unwrap().pixels.chunks(64).map(bits).collect::<Vec<_>>())
            .collect();
        let compared = Recipe::read("digits", &short[3..].iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let held_out = compared.parts(250).unwrap().1;
        let count = (0..250).filter(|&index| read.contains(&bits(&held_out.example(index).unwrap().pixels))).count();
        let told = said(Some(recipe.to_value()), &short[3..]);
        assert!((1..100).contains(&count) && told.contains(&format!("on {count} of the 250")), "{count}: {told}");

        // The same of which nothing but the recipe was published.
        let published = tempfile::tempdir().unwrap();
        fs::write(published.path().join("model.safetensors"), "").unwrap();
        fs::write(published.path().join("config.json"), recipe.to_value().to_string()).unwrap();
        let start = StoredNetwork::File(published.path().join("model.safetensors"));
        let post = compared.post_training.as_ref().unwrap();
        let told = seen_by_start(&compared, post, &compared.parts(250).unwrap().0, &start);
        assert!(told.contains("on 250 of the 250") && told.ends_with("may have seen others."), "{told}");

        // Another seed: counted by reading both divisions.
        let recipe = |seed: u64| {
            Recipe::read("digits", &[format!("seed={seed}"), "data.size=8".into(), "network.input_size=8".into()])
                .unwrap()
        };
        let pixels = |part: &dyn Dataset| -> Vec<Vec<u32>> {
            let image = |index| part.example(index).unwrap().pixels.iter().map(|pixel| pixel.to_bits()).collect();
            (0..part.len().unwrap()).map(image).collect()
        };
        let (trained, held_out) = (recipe(0).parts(250).unwrap().0, recipe(1).parts(250).unwrap().1);
        let trained: BTreeSet<_> = pixels(&trained).into_iter().collect();
        let count = pixels(&held_out).iter().filter(|image| trained.contains(*image)).count();
        let said = said(Some(run(&[])), &["seed=1"]);
        assert!(said.contains(&format!("on {count} of the 250")) && said.contains("seed=0"), "{count}: {said}");
    }

    #[test]
    fn data_are_the_same_where_their_fingerprint_is() {
        let recipe = Recipe::read("digits", &[]).unwrap();
        let post = recipe.post_training.as_ref().unwrap();
        let (train, _) = recipe.parts(post.images).unwrap();
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("model.safetensors");
        fs::write(&file, "").unwrap();
        fs::write(root.path().join("recipe.json"), recipe.to_value().to_string()).unwrap();
        let said = |found: &Fingerprint| {
            found.write(root.path()).unwrap();
            seen_by_start(&recipe, post, &train, &StoredNetwork::File(file.clone()))
        };
        let same = train.fingerprint().unwrap();
        assert!(said(&same).contains("not trained on any of the 250"), "{}", said(&same));
        let grown = Fingerprint { examples: same.examples.map(|count| count + 1), ..same };
        assert!(said(&grown).contains("since its data have changed: "), "{}", said(&grown));
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        for (beside, words) in [
            (None, "no recipe lies beside it"),
            (Some(json!({})), "does not tell"),
            (Some(run(&["data.size=16"])), "names other data"),
        ] {
            let said = said(beside, &[]);
            assert!(said.contains(words) && said.contains("may have seen"), "{said}");
        }
    }
}
