//! Text to image from a repository.

use mixflow::pipeline::Layout;
use mixflow::{Device, StoredPipeline};
use mixflow_t2i::{MmJitConfig, TextNetworkConfig, TextPipeline, TransformerConfig, from_diffusers};

use super::FromHub;
use super::below::Below;
use super::encoder::{in_folder, read_of};
use crate::address::SCHEME;
use crate::progress::{Progress, TransferProgress};
use crate::{Address, Client, Error};

/// Of a repository, or of a folder in it, that holds a Stable Diffusion 3, FLUX.1 or Z-Image as `diffusers` writes it, a MiniT2I, or a
/// [`Publication`](crate::Publication) of a network for text. Text encoders that lie in another repository are fetched from there.
/// Of several precisions the full one is fetched, and nothing that is not needed.
///
/// ```no_run
/// use mixflow::Export;
/// use mixflow_hub::FromHub;
/// use mixflow_t2i::TextPipeline;
///
/// let pipeline = TextPipeline::from_hub("stabilityai/stable-diffusion-3.5-medium", &Default::default())?;
/// let images = pipeline.images(&["a lighthouse at night", "two foxes under the moon"], 0)?;
/// Export::new("images.png", 3)?.write(2, 2, [Ok(images)])?;
///
/// // A repository of two networks, of which one is named.
/// let pipeline = TextPipeline::from_hub("MiniT2I/MiniT2I/minit2i-b-16", &Default::default())?;
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
impl FromHub for TextPipeline {
    fn open(
        client: &Client,
        address: &Address,
        device: &Device,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Self, Error> {
        Ok(Self::load(client.text_pipeline(address, &mut progress)?, device)?)
    }
}

impl Client {
    /// The same, fetched and yet to be read, so that its recipe can be changed before.
    ///
    /// # Errors
    /// As [`TextPipeline::open`](FromHub::open).
    pub fn text_pipeline(
        &self,
        address: &Address,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<StoredPipeline<TextNetworkConfig>, Error> {
        let progress: Progress<'_> = &mut progress;
        let choose = |names: &[String]| {
            let below = Below::of(address, names)?;
            let layout = Layout::of(&below.names).ok().filter(|layout| layout.recipe.is_some());
            let files = match &layout {
                Some(layout) => below.with_folder(layout.wanted(&below.names)),
                None => {
                    let files =
                        text_files(&below, address).map_err(|reason| self.unknown(&address.repository, reason))?;
                    let files = below.with_folder(files);
                    // Whose network it is is known by a small file: of another one the large ones are not fetched.
                    if let Some(config) = files.iter().find(|name| name.ends_with(CONFIG)) {
                        let file = self.file(&address.repository, &address.revision(), config, |_| {})?;
                        TransformerConfig::from_diffusers(&file).map_err(mixflow::Error::from)?;
                    }
                    files
                }
            };
            Ok(((layout.is_some(), below), files))
        };
        let ((ours, below), snapshot) = self.chosen(address, choose, &mut *progress)?;
        let folder = below.path(&snapshot.folder);
        if ours {
            let mut fetch = |address: &str| Ok::<_, Error>(self.addressed(address, &mut *progress)?.1);
            let mut stored = StoredPipeline::<TextNetworkConfig>::of_run_with(folder, Some(&mut fetch))?;
            if let Some(folder) = stored.recipe.network.text.folder_mut()
                && let Some(address) = folder.to_str().filter(|folder| Address::is_one(folder))
            {
                *folder = self.text_encoders(&address.parse()?, progress)?.1;
            }
            return Ok(stored);
        }
        let has = |folder: &str| !in_folder(below.names.iter().map(String::as_str), folder).is_empty();
        let mut stored = from_diffusers(&folder)?;
        if !(has("text_encoder") || has("text_encoder_2") || has("text_encoder_3")) {
            // The encoder of MiniT2I is not in its official repository.
            let name = MmJitConfig::text_encoder(&folder.join(CONFIG)).map_err(mixflow::Error::from)?;
            let encoder = self.text_encoders(&format!("{SCHEME}{name}").parse()?, &mut *progress)?.1;
            if let Some(folder) = stored.recipe.network.text.folder_mut() {
                *folder = encoder;
            }
        }
        Ok(stored)
    }
}

/// What describes the network in a folder of `diffusers`.
const CONFIG: &str = "transformer/config.json";

/// The files of a Stable Diffusion 3, FLUX.1 or Z-Image as `diffusers` writes it, or of a MiniT2I, of these names; or why there is none.
fn text_files<'a>(below: &'a Below, address: &Address) -> Result<Vec<&'a str>, String> {
    const PARTS: [&str; 9] = [
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
        "transformer",
        "vae",
    ];
    let names = || below.names.iter().map(String::as_str);
    let has = |folder: &str| !in_folder(names(), folder).is_empty();
    // What makes pixels has no autoencoder.
    let whole = has("text_encoder_3") || has("text_encoder_2") || !has("vae") && names().any(|name| name == CONFIG);
    // Z-Image has one encoder, whose vocabulary is of pairs of bytes. So have some that are not known here and are refused when their
    // files are there; others with one encoder have T5's or Gemma's.
    let whole = whole || has("text_encoder") && names().any(|name| name == "tokenizer/merges.txt");
    if has("transformer") && whole {
        let parts = PARTS.iter().flat_map(|part| read_of(in_folder(names(), part)));
        return Ok(names().filter(|name| *name == "model_index.json").chain(parts).collect());
    }
    let networks: Vec<&str> = names().filter_map(|name| name.strip_suffix(CONFIG)?.strip_suffix('/')).collect();
    Err(match &networks[..] {
        [] => format!(
            "is no Stable Diffusion 3, FLUX.1 or Z-Image as diffusers writes it, with folders such as text_encoder and \
             transformer, and no MiniT2I; found {}",
            below.list()
        ),
        [first, ..] => {
            let all = networks.join(" and ");
            format!("has its networks in {all}: name one, as {address}/{first}")
        }
    })
}

#[cfg(test)]
mod tests {
    use mixflow::pipeline::UnknownLayout;

    use super::*;

    fn files(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let address = "hf://org/name".parse().unwrap();
        let below = Below::of(&address, &names).unwrap();
        text_files(&below, &address).map(|files| files.into_iter().map(String::from).collect())
    }

    #[test]
    fn of_a_stable_diffusion_3_what_is_needed_is_fetched_once() {
        // As in the repositories of Stable Diffusion 3.5, with what is not for us between.
        let names = [
            "README.md",
            "model_index.json",
            "sd3.5_medium.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder_2/config.json",
            "text_encoder_2/model.fp16.safetensors",
            "text_encoder_3/model-00001-of-00002.safetensors",
            "text_encoder_3/model.fp16-00001-of-00002.safetensors",
            "text_encoder_3/model.safetensors.index.fp16.json",
            "text_encoder_3/model.safetensors.index.json",
            "text_encoders/t5xxl_fp16.safetensors",
            "tokenizer/merges.txt",
            "tokenizer_3/spiece.model",
            "tokenizer_3/tokenizer.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.bin",
            "transformer/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ];
        assert_eq!(
            files(&names).unwrap(),
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "text_encoder_2/config.json",
                "text_encoder_2/model.fp16.safetensors",
                "text_encoder_3/model-00001-of-00002.safetensors",
                "text_encoder_3/model.safetensors.index.json",
                "tokenizer/merges.txt",
                "tokenizer_3/tokenizer.json",
                "transformer/config.json",
                "transformer/diffusion_pytorch_model.safetensors",
                "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors",
            ]
        );
        for names in [&["README.md", "transformer/config.json", "vae/config.json"][..], &[]] {
            assert!(files(names).unwrap_err().contains("is no Stable Diffusion 3"));
        }
        assert_eq!(Layout::of(&names.map(String::from)), Err(UnknownLayout::TextToImage));
    }

    /// With one encoder; another network with one has another vocabulary.
    #[test]
    fn a_z_image_is_known_by_its_vocabulary() {
        let own = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model-00001-of-00003.safetensors",
            "text_encoder/model.safetensors.index.json",
            "tokenizer/merges.txt",
            "tokenizer/tokenizer.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ];
        assert_eq!(files(&own).unwrap(), own);
        let other = own.map(|name| if name == "tokenizer/merges.txt" { "tokenizer/spiece.model" } else { name });
        assert!(files(&other).unwrap_err().contains("is no Stable Diffusion 3, FLUX.1 or Z-Image"));
    }

    #[test]
    fn a_minit2i_is_known_and_one_of_several_is_to_be_named() {
        let own = [
            "pipeline.py",
            "scheduler/scheduler_config.json",
            "text_encoder/model.safetensors",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.safetensors",
        ];
        assert_eq!(files(&own).unwrap(), own[1..]);
        // As in `MiniT2I/MiniT2I`.
        let official = [
            "minit2i-b-16/transformer/config.json",
            "minit2i-b-16/transformer/diffusion_pytorch_model.safetensors",
            "minit2i-l-16/transformer/config.json",
            "minit2i-l-16/transformer/diffusion_pytorch_model.safetensors",
            "model_index.json",
        ];
        let error = files(&official).unwrap_err();
        assert_eq!(error, "has its networks in minit2i-b-16 and minit2i-l-16: name one, as hf://org/name/minit2i-b-16");
        assert_eq!(Layout::of(&official.map(String::from)), Err(UnknownLayout::TextToImage));
    }
}
