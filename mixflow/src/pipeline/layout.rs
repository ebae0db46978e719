//! What a folder holds, by the names of its files.

use std::fs;
use std::path::Path;

use crate::Error;

/// Folders below the first that are looked through; RAE's collection has six.
const DEPTH: usize = 8;

/// Which files of a published network are what, by their names below its folder, with slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// The file that may be the recipe: other programs have a `config.json`, too.
    pub recipe: Option<String>,
    /// The file of the network's weights.
    pub weights: String,
    /// RAE's decoder and statistics, where they are in the same collection.
    pub rae: [Option<String>; 2],
}

/// Why the names of files are not those of one published network: the rest of a sentence that starts with the folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownLayout {
    /// The files are of a network for text.
    #[error(
        "is text to image, a folder of diffusers: for `mixflow_t2i::TextPipeline` and `cargo xtask sample --prompt`"
    )]
    TextToImage,
    /// The files are of another network, in the layout of `diffusers`.
    #[error(
        "is a folder of diffusers without a network that is known here; its autoencoder can be used as `vae` beside a network"
    )]
    Diffusers,
    /// The files are of several networks, which are these.
    #[error("has several networks, {}: keep one in a folder of its own", list(.0))]
    Several(Vec<String>),
    /// There is no network among them.
    #[error(
        "has no network that is known here: expected config.json with model.safetensors, or one .pt or .safetensors file of \
         a published network; found {}",
        list(.0)
    )]
    None(Vec<String>),
}

impl Layout {
    /// The layout of a folder by the names of its files, sorted.
    ///
    /// # Errors
    /// If they are not those of one network that is known here.
    pub fn of(names: &[String]) -> Result<Self, UnknownLayout> {
        let has = |name: &str| names.iter().any(|found| found == name);
        let ours = ["model.safetensors.index.json", "model.safetensors"].into_iter().find(|name| has(name));
        let recipe = ["recipe.json", "config.json"].into_iter().find(|name| has(name));
        if let (Some(weights), Some(recipe)) = (ours, recipe) {
            return Ok(Self { recipe: Some(recipe.into()), weights: weights.into(), rae: [None, None] });
        }
        // Of several networks each has a folder of its own.
        if names.iter().any(|name| name == "transformer/config.json" || name.ends_with("/transformer/config.json")) {
            return Err(UnknownLayout::TextToImage);
        }
        if let Some(weights) = best(names, "", "stage2_model.pt", &["ImageNet256", "DiTDH-XL"]) {
            let decoder = best(names, "decoders/", "model.pt", &["dinov2/wReg_base", "ViTXL_n08"]);
            let statistics = best(names, "stats/", "stat.pt", &["dinov2/wReg_base", "imagenet1k"]);
            return Ok(Self { recipe: recipe.map(String::from), weights, rae: [decoder, statistics] });
        }
        let known = ["vae", "autoencoder", "diffusion_pytorch_model", "optimizer", "encoder"];
        let is_network = |name: &&String| {
            let ending = [".pt", ".pth", ".ckpt", ".safetensors"].iter().any(|ending| name.ends_with(ending));
            ending && !name.contains('/') && !known.iter().any(|other| name.starts_with(other))
        };
        let files: Vec<&String> = names.iter().filter(is_network).collect();
        match files[..] {
            [file] => Ok(Self { recipe: recipe.map(String::from), weights: file.clone(), rae: [None, None] }),
            [] if has("model_index.json") || has("diffusion_pytorch_model.safetensors") => {
                Err(UnknownLayout::Diffusers)
            }
            [] => Err(UnknownLayout::None(names.to_vec())),
            _ => Err(UnknownLayout::Several(files.into_iter().cloned().collect())),
        }
    }

    /// The layout of a network in this file.
    pub fn of_file(file: &str, names: &[String]) -> Self {
        let folder = file.rfind('/').map_or("", |end| &file[..=end]);
        let recipe = ["recipe.json", "config.json"].map(|name| format!("{folder}{name}"));
        Self { recipe: recipe.into_iter().find(|name| names.contains(name)), weights: file.into(), rae: [None, None] }
    }

    /// The network alone: its file, and the shards that this stands for.
    pub fn whole(&self, names: &[String]) -> Vec<String> {
        let shards = self.weights.strip_suffix(".safetensors.index.json");
        let is_shard = |name: &str| {
            shards
                .and_then(|stem| name.strip_prefix(stem))
                .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".safetensors"))
        };
        let shards = names.iter().filter(|name| is_shard(name)).cloned();
        std::iter::once(self.weights.clone()).chain(shards).collect()
    }

    /// What to fetch of these names: the network, what makes images of it, and what tells about both.
    pub fn wanted(&self, names: &[String]) -> Vec<String> {
        let whole = self.whole(names);
        let wanted = |name: &&String| {
            let told = self.recipe.as_deref() == Some(name) || whole.contains(name);
            let rae = self.rae.iter().flatten().any(|file| file == *name);
            let vae = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"].contains(&name.as_str());
            // Files that the recipe of ours names lie beside it.
            let beside = self.recipe.is_some() && !name.contains('/') && !name.starts_with("model");
            let beside = beside && (name.ends_with(".safetensors") || name.ends_with(".pt"));
            told || rae || vae || beside
        };
        names.iter().filter(wanted).cloned().collect()
    }
}

/// The names of all files below a folder, sorted, with slashes.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    fn walk(folder: &Path, above: &str, depth: usize, names: &mut Vec<String>) -> Result<(), Error> {
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            let entry = entry.map_err(Error::io("read", folder))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (path, name) = (entry.path(), format!("{above}{name}"));
            if path.is_file() {
                names.push(name);
            } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&path, &format!("{name}/"), depth - 1, names)?;
            }
        }
        Ok(())
    }
    let mut names = vec![];
    walk(folder, "", DEPTH, &mut names)?;
    names.sort();
    Ok(names)
}

/// The file of this name below `folder` whose folders contain most of `words`, the first words first.
fn best(names: &[String], folder: &str, file: &str, words: &[&str]) -> Option<String> {
    let is_file = |name: &&String| name.starts_with(folder) && name.rsplit('/').next() == Some(file);
    let score = |name: &&String| words.iter().map(|word| name.contains(word)).collect::<Vec<_>>();
    // The first of equals.
    names.iter().filter(is_file).rev().max_by_key(score).cloned()
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no files".into();
    }
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let more = if names.len() > shown.len() { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn published_folders_are_recognised() {
        for (names, recipe, weights) in [
            (vec!["README.md", "config.json", "model.safetensors"], Some("config.json"), "model.safetensors"),
            (vec!["config.json", "model.safetensors", "recipe.json"], Some("recipe.json"), "model.safetensors"),
            (
                vec!["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"],
                Some("config.json"),
                "model.safetensors.index.json",
            ),
            (vec!["README.md", "SiT-XL-2-256.pt"], None, "SiT-XL-2-256.pt"),
            (vec!["last.pt", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"], None, "last.pt"),
            (vec!["SiT-XL-2-256.pt", "vae.safetensors"], None, "SiT-XL-2-256.pt"),
        ] {
            let layout = Layout::of(&owned(&names)).unwrap();
            assert_eq!((layout.recipe.as_deref(), layout.weights.as_str()), (recipe, weights));
        }
    }

    #[test]
    fn of_the_collection_of_rae_the_largest_network_and_its_decoder_are_taken() {
        let names = owned(&[
            "DiTs/Dinov2/wReg_base/ImageNet256/DiTDH-S_ep20/stage2_model.pt",
            "DiTs/Dinov2/wReg_base/ImageNet256/DiTDH-XL/stage2_model.pt",
            "DiTs/Dinov2/wReg_base/ImageNet512/DiTDH-XL/stage2_model.pt",
            "decoders/dinov2/wReg_base/ViTL_n08/model.pt",
            "decoders/dinov2/wReg_base/ViTXL_n08/model.pt",
            "decoders/mae/base_p16/ViTXL_n08/model.pt",
            "stats/dinov2/wReg_base/imagenet1k/stat.pt",
            "stats/mae/base_p16/imagenet1k/stat.pt",
        ]);
        let layout = Layout::of(&names).unwrap();
        assert_eq!(layout.weights, names[1]);
        assert_eq!(layout.rae, [4, 6].map(|index| Some(names[index].clone())));
        assert_eq!(layout.wanted(&names), [names[1].clone(), names[4].clone(), names[6].clone()]);
    }

    #[test]
    fn only_what_is_needed_is_fetched() {
        let names = owned(&[
            "README.md",
            "autoencoder.safetensors",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "samples/0.png",
            "vae/config.json",
        ]);
        let wanted = Layout::of(&names).unwrap().wanted(&names);
        assert_eq!(wanted, [&names[1..6], &names[7..]].concat());
    }

    #[test]
    fn what_is_no_network_is_named() {
        for (names, complaint) in [
            (vec![], "found no files"),
            (vec!["README.md", "a.bin"], "found README.md, a.bin"),
            (vec!["a.pt", "b.pt"], "has several networks, a.pt, b.pt"),
            (vec!["model_index.json", "vae/config.json"], "is a folder of diffusers"),
        ] {
            let reason = Layout::of(&owned(&names)).unwrap_err().to_string();
            assert!(reason.contains(complaint), "{reason}");
        }
    }
}
