//! What an adapter is multiplied by, as files say it.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Map, Value};

use crate::Error;
use crate::mapped_file::MappedFile;

/// The key of the header under which `diffusers` keeps rank and alpha. Without it, it takes the rank for alpha.
pub(super) const METADATA: &str = "lora_adapter_metadata";

/// What a file says of rank and alpha beside its tensors.
#[derive(Default)]
pub(super) struct Scales {
    alpha: Option<f64>,
    /// Alphas of some layers, the first of them that fits.
    alphas: Vec<(Pattern, f64)>,
    /// Whether alpha is divided by the root of the rank.
    by_root: bool,
}

/// Names of layers in settings of `peft`: the end of a name behind a dot, or the whole of one.
struct Pattern {
    end: String,
    whole: bool,
}

impl Pattern {
    /// They are regular expressions there; names and ends of names are what programs write.
    fn parse(pattern: &str) -> Option<Self> {
        let (end, whole) = pattern.strip_prefix('^').map_or((pattern, false), |end| (end, true));
        let end = end.trim_end_matches('$').replace("\\.", ".");
        let plain = end.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        plain.then_some(Self { end, whole })
    }

    /// As `re.match(r"(.*\.)?(pattern)$", layer)`.
    ///
    /// # Source
    /// `peft` 0.21.2, `utils/other.py`, `get_pattern_key`.
    fn fits(&self, layer: &str) -> bool {
        let before = layer.strip_suffix(&self.end);
        before.is_some_and(|before| before.is_empty() || !self.whole && before.ends_with('.'))
    }
}

/// Values of `init_lora_weights` that leave the weights of the network as they are. Others, `pissa`, `olora`, `corda`, `loftq` and
/// `lora_ga`, take from them what the adapter begins as.
///
/// # Source
/// `peft` 0.21.2, `tuners/lora/layer.py`, `update_layer`.
const PLAIN_BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

impl Scales {
    /// The header of `diffusers`, else `peft`'s settings beside its file, else nothing.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let file = MappedFile::open(path).map_err(Error::reading(path))?;
        let header = SafeTensors::read_metadata(&file).ok().and_then(|(_, header)| header.metadata().clone());
        let beside = path.with_file_name("adapter_config.json");
        let (text, name) = match header.and_then(|mut header| header.remove(METADATA)) {
            Some(text) => (text, path.to_path_buf()),
            None if path.file_stem().is_some_and(|name| name == "adapter_model") && beside.is_file() => {
                (fs::read_to_string(&beside).map_err(Error::reading(&beside))?, beside)
            }
            None => return Ok(Self::default()),
        };
        let config: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::format(&name, format!("has settings of an adapter that are no JSON: {error}")))?;
        let get = |key: &str| config.get(&format!("transformer.{key}")).or_else(|| config.get(key));
        let on = |key: &str| get(key).and_then(Value::as_bool).unwrap_or(false);
        let of_a_kind =
            |kind: &str| Error::format(&name, format!("says {kind}, an adapter of a kind that is not read"));
        if let Some(other) = ["use_dora", "lora_bias"].into_iter().find(|key| on(key)) {
            return Err(of_a_kind(&format!("`{other}`")));
        }
        if let Some(other) = get("peft_type").filter(|kind| *kind != "LORA") {
            return Err(of_a_kind(&format!("`peft_type` {other}")));
        }
        let is_plain = |value: &Value| {
            value.as_str().is_none_or(|name| PLAIN_BEGINNINGS.iter().any(|plain| name.eq_ignore_ascii_case(plain)))
        };
        if let Some(other) = get("init_lora_weights").filter(|value| !is_plain(value)) {
            return Err(of_a_kind(&format!("`init_lora_weights` {other}")));
        }
        let number = |key: &str, value: &Value| {
            let fault = || Error::format(&name, format!("has {value} as {key}, expected a number"));
            value.as_f64().ok_or_else(fault)
        };
        let alphas = get("alpha_pattern").and_then(Value::as_object).into_iter().flatten().map(|(layer, alpha)| {
            let pattern = Pattern::parse(layer).ok_or_else(|| of_a_kind(&format!("`alpha_pattern` {layer}")))?;
            Ok::<_, Error>((pattern, number("an alpha", alpha)?))
        });
        Ok(Self {
            alpha: get("lora_alpha").map(|alpha| number("lora_alpha", alpha)).transpose()?,
            alphas: alphas.collect::<Result<_, _>>()?,
            by_root: on("use_rslora"),
        })
    }

    /// `alpha / rank`, or 1 where alpha is not known: as `diffusers` has it.
    pub(super) fn of(&self, layer: &str, rank: f64) -> f64 {
        // A pattern may have what stands before names of layers in a file.
        let whole = format!("transformer.{layer}");
        let own = self.alphas.iter().find(|(pattern, _)| pattern.fits(layer) || pattern.fits(&whole));
        let alpha = own.map(|(_, alpha)| *alpha).or(self.alpha).unwrap_or(rank);
        if self.by_root { alpha / rank.sqrt() } else { alpha / rank }
    }
}
