//! Text to image from a repository.

use mixflow::pipeline::Layout;
use mixflow::{Device, Pipeline};
use mixflow_t2i::TextPipeline;

use super::FromHub;
use crate::progress::{Tell, TransferProgress};
use crate::{Address, Client, Error};

/// Of a repository that holds a Stable Diffusion 3 as `diffusers` writes it, or a [`Publication`](crate::Publication) of a
/// network for text. Of several precisions the full one is fetched, and nothing that is not needed.
///
/// ```no_run
/// use mixflow::Export;
/// use mixflow_hub::FromHub;
/// use mixflow_t2i::TextPipeline;
///
/// let pipeline = TextPipeline::from_hub("stabilityai/stable-diffusion-3.5-medium", &Default::default())?;
/// let images = pipeline.images(&["a lighthouse at night", "two foxes under the moon"], 0)?;
/// Export::new("images.png", 3)?.write(2, 2, [Ok(images)])?;
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
impl FromHub for TextPipeline {
    fn open(
        client: &Client,
        address: &Address,
        device: &Device,
        mut tell: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<Self, Error> {
        let tell: Tell<'_> = &mut tell;
        address.check_whole()?;
        let choose = |names: &[String]| match Layout::of(names) {
            Ok(layout) if layout.recipe.is_some() => Ok((true, layout.wanted(names))),
            _ => {
                let files = text_files(names).map_err(|reason| client.unknown(&address.repository, reason))?;
                Ok((false, files.into_iter().map(String::from).collect()))
            }
        };
        let (ours, snapshot) = client.chosen(address, choose, &mut *tell)?;
        if !ours {
            return Ok(Self::from_folder(snapshot.folder, device)?);
        }
        let mut fetch = |address: &str| Ok::<_, Error>(client.addressed(address, &mut *tell)?.1);
        Ok(Self::new(Pipeline::of_run_with(snapshot.folder, device, Some(&mut fetch))?)?)
    }
}

/// The files of a Stable Diffusion 3 as `diffusers` writes it, of these names; or why there is none. Weights in half
/// precision are left out where there are others.
fn text_files(names: &[String]) -> Result<Vec<&str>, String> {
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
    let of_part = |part: &str| {
        let files = names.iter().map(String::as_str);
        files.filter(|name| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'))).collect::<Vec<_>>()
    };
    if of_part("transformer").is_empty() || of_part("text_encoder_3").is_empty() && of_part("text_encoder_2").is_empty()
    {
        return Err(format!(
            "is no Stable Diffusion 3 as diffusers writes it, with folders such as text_encoder_2 and transformer; found {}",
            if names.is_empty() {
                "no files".into()
            } else {
                names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ")
            }
        ));
    }
    let is_weights = |name: &str| name.contains(".safetensors");
    let is_half = |name: &str| name.contains(".fp16");
    let wanted = PARTS.iter().flat_map(|part| {
        let files = of_part(part);
        let whole = files.iter().any(|name| is_weights(name) && name.ends_with(".safetensors") && !is_half(name));
        let wanted = move |name: &&str| match is_weights(name) {
            true => !(whole && is_half(name)),
            false => name.ends_with(".json") || name.ends_with(".txt"),
        };
        files.into_iter().filter(wanted).collect::<Vec<_>>()
    });
    Ok(names.iter().map(String::as_str).filter(|name| *name == "model_index.json").chain(wanted).collect())
}

#[cfg(test)]
mod tests {
    use mixflow::pipeline::UnknownLayout;

    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn of_a_stable_diffusion_3_what_is_needed_is_fetched_once() {
        // As in the repositories of Stable Diffusion 3.5, with what is not for us between.
        let names = owned(&[
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
        ]);
        assert_eq!(
            text_files(&names).unwrap(),
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
        for names in [owned(&["README.md", "transformer/config.json"]), vec![]] {
            assert!(text_files(&names).unwrap_err().contains("is no Stable Diffusion 3"));
        }
        assert_eq!(Layout::of(&names), Err(UnknownLayout::TextToImage));
    }
}
