//! One network of a file that holds it under longer names, or beside others.

use std::collections::BTreeSet;

use super::Weights;
use crate::Error;

/// What `DistributedDataParallel` and `torch.compile` put before every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// How many names a message lists.
const LISTED: usize = 3;

impl Weights {
    /// The network that has a tensor of one of these names, under its own names: what stands before them all, such as
    /// `model.` or `model.diffusion_model.`, is dropped, and tensors without it, which are those of other networks, are
    /// left out. [`choices`](Self::choices) tells both. Weights without such a tensor stay as they are, for
    /// [`into_module`](Self::into_module) to say what they lack.
    ///
    /// ```
    /// use burn::tensor::TensorData;
    /// use mixflow_backbones::weights::Weights;
    ///
    /// let tensor = || TensorData::new(vec![0.0f32], [1]).into();
    /// let names = ["model.blocks.0.bias", "model.embed.bias", "loss.scale"];
    /// let weights: Weights = names.into_iter().map(|name| (name.to_string(), tensor())).collect();
    /// let network = weights.network(&["embed.bias"])?;
    /// assert!(network.iter().map(|(name, _)| name).eq(["blocks.0.bias", "embed.bias"]));
    /// assert_eq!(network.choices(), ["names without `model.`", "without 1 tensor of others (loss.scale)"]);
    /// # Ok::<(), mixflow_backbones::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are several such networks: their prefixes are named.
    pub fn network(mut self, names: &[&str]) -> Result<Self, Error> {
        let prefix = |tensor: &String| {
            let start = |name: &&str| tensor.strip_suffix(name).filter(|rest| rest.is_empty() || rest.ends_with('.'));
            names.iter().find_map(start).map(String::from)
        };
        let prefixes: BTreeSet<String> = self.tensors.keys().filter_map(prefix).collect();
        let prefix = match prefixes.first() {
            Some(first) if prefixes.len() == 1 => first.clone(),
            None => return Ok(self),
            _ => {
                let said = prefixes.iter().map(|prefix| match prefix.as_str() {
                    "" => "one whose names have no prefix".into(),
                    prefix => format!("`{prefix}`"),
                });
                let said = said.collect::<Vec<_>>().join(", ");
                let advice = "write the one that is meant to a file of its own: `convert --prefix`";
                return Err(Error::format(self.source.as_ref(), format!("holds several networks, {said}: {advice}")));
            }
        };
        if !prefix.is_empty() {
            self = self.below(&prefix);
        }
        Ok(self)
    }

    /// The [`network`](Self::network) that has a tensor called `name` below `prefix`, such as `text_model.`; or the one that has it
    /// without, whose names get it: Transformers 5 writes half of a CLIP or of a SigLIP so.
    ///
    /// # Source
    /// Transformers 5.24.0, `save_pretrained` of a `CLIPTextModel` or a `SiglipVisionModel` that was made of a configuration.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn network_below(self, prefix: &str, name: &str) -> Result<Self, Error> {
        let whole = format!("{prefix}{name}");
        let is_whole =
            |found: &String| found.strip_suffix(&whole).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if self.tensors.keys().any(is_whole) {
            return self.network(&[&whole]);
        }
        let network = self.network(&[name])?;
        match network.tensors.contains_key(name) {
            true => Ok(network.rename(|name| Some(format!("{prefix}{name}")))),
            false => Ok(network),
        }
    }

    /// The tensors whose names start with `prefix`, under what follows it. [`choices`](Self::choices) tells what was
    /// dropped and left out.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tensors).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.tensors = own.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect();
        self.choose(format!("names without `{prefix}`"));
        if !others.is_empty() {
            let shown: Vec<&str> = others.iter().take(LISTED).map(|(name, _)| name.as_str()).collect();
            let (count, more) = (others.len(), if others.len() > LISTED { ", …" } else { "" });
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            self.choose(format!("without {count} {tensors} of others ({}{more})", shown.join(", ")));
        }
        self
    }

    /// Without the wrappers that all names start with, whichever and however many.
    pub(super) fn unwrapped(mut self) -> Self {
        let mut prefix = String::new();
        let starts = |prefix: &str| self.tensors.keys().all(|name| name.starts_with(prefix));
        while let Some(wrapper) = WRAPPERS.into_iter().find(|wrapper| starts(&format!("{prefix}{wrapper}"))) {
            if self.tensors.is_empty() {
                break;
            }
            prefix += wrapper;
        }
        if !prefix.is_empty() {
            self = self.below(&prefix);
        }
        self
    }

    /// Without the tensors that published files hold beside this network and that it does not need: those of these names,
    /// and those whose names start with one of these that end in a dot.
    #[must_use]
    pub fn without(mut self, known: &[&str]) -> Self {
        let is_known = |name: &str| {
            known.iter().any(|known| if known.ends_with('.') { name.starts_with(known) } else { name == *known })
        };
        self.tensors.retain(|name, _| !is_known(name));
        self
    }

    /// What was chosen where the file left a choice, a few words each: the part of a training checkpoint, a prefix that was
    /// dropped, tensors that were left out. For people to read.
    pub fn choices(&self) -> &[String] {
        &self.choices
    }

    pub(super) fn choose(&mut self, choice: String) {
        self.source = format!("{}, {choice}", self.source);
        self.choices.push(choice);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::sit::SitConfig;

    fn sit() -> Weights {
        let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        Weights::of(&config.init(0, &Device::default()), crate::sit::official_key)
    }

    fn load(weights: Weights) -> Result<Weights, Error> {
        let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        let loaded = config.init(1, &Device::default()).load(weights)?;
        Ok(Weights::of(&loaded, crate::sit::official_key))
    }

    fn prefixed(prefix: &str) -> Weights {
        sit().rename(|name| Some(format!("{prefix}{name}")))
    }

    fn bytes(weights: &Weights) -> Vec<u8> {
        weights.to_safetensors(&[]).unwrap()
    }

    /// The same file in both formats.
    fn both(weights: &Weights) -> [Weights; 2] {
        let folder = tempfile::tempdir().unwrap();
        let [safetensors, pytorch] = ["a.safetensors", "a.pt"].map(|name| folder.path().join(name));
        weights.write(&safetensors, &[]).unwrap();
        weights.write_pytorch(&pytorch).unwrap();
        [safetensors, pytorch].map(|path| {
            // Values are read while the files are there.
            let mut weights = Weights::read(path).unwrap();
            weights.tensors.values_mut().for_each(|tensor| *tensor = tensor.data().unwrap().into());
            weights
        })
    }

    #[test]
    fn prefixes_of_training_programs_are_understood_in_both_formats() {
        for prefix in [
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "model.",
            "model.diffusion_model.",
            "model._orig_mod.module.",
        ] {
            for read in both(&prefixed(prefix)) {
                let network = read.network(&["x_embedder.proj.weight"]).unwrap();
                assert_eq!(network.choices().len(), network.choices().iter().filter(|it| it.contains("names")).count());
                assert!(network.source().contains("names without `"), "{}", network.source());
                assert_eq!(bytes(&load(network).unwrap()), bytes(&sit()), "{prefix}");
            }
            for read in both(&prefixed(prefix)) {
                assert_eq!(bytes(&load(read).unwrap()), bytes(&sit()), "{prefix}");
            }
        }
    }

    #[test]
    fn of_several_networks_the_one_that_is_meant_is_taken_or_asked_for() {
        let other = |name: &str| (name.to_string(), TensorData::new(vec![1.0f32], [1]).into());
        let mut beside = prefixed("model.");
        beside.tensors.extend([other("loss.scale"), other("n_averaged")]);
        for read in both(&beside) {
            let network = read.network(&["x_embedder.proj.weight"]).unwrap();
            let said = network.choices().join(", ");
            assert!(
                said.contains("`model.`") && said.contains("2 tensors of others (loss.scale, n_averaged)"),
                "{said}"
            );
            assert_eq!(bytes(&load(network).unwrap()), bytes(&sit()));
        }

        let mut twice = prefixed("model.");
        twice.tensors.extend(prefixed("ema.").tensors);
        let error = load(twice.clone()).unwrap_err().to_string();
        assert!(error.contains("holds several networks, `ema.`, `model.`: ") && error.contains("--prefix"), "{error}");
        assert_eq!(bytes(&load(twice.below("ema.")).unwrap()), bytes(&sit()));

        let mut bare = sit();
        bare.tensors.extend(prefixed("ema.").tensors);
        let error = load(bare).unwrap_err().to_string();
        assert!(error.contains("one whose names have no prefix, `ema.`"), "{error}");

        // Among the network's own names nothing is passed over.
        let mut more = prefixed("model.");
        more.tensors.extend([other("model.projectors.0.bias")]);
        assert!(load(more).unwrap_err().to_string().contains("1 unused: projectors.0.bias"));
    }

    #[test]
    fn two_tensors_under_one_name_are_refused() {
        let mut weights = sit();
        weights.tensors.extend([("old.bias".into(), TensorData::new(vec![1.0f32], [1]).into())]);
        let renamed =
            weights.rename(|name| Some(if name == "old.bias" { "x_embedder.proj.bias" } else { name }.into()));
        let error = load(renamed.clone()).unwrap_err().to_string();
        assert!(error.contains("1 there twice: x_embedder.proj.bias"), "{error}");
        assert!(renamed.to_safetensors(&[]).unwrap_err().to_string().contains("x_embedder.proj.bias"));
    }
}
