//! Adapters that a command adds to a network.

use std::path::PathBuf;
use std::str::FromStr;

use mixflow::Pipeline;
use mixflow::backbones::lora::Adapter;
use mixflow::numbers::counted;
use mixflow::recipe::NetworkSettings;
use serde_json::{Value, json};

use crate::hub::is_address;
use crate::record;
use crate::terminal::{Result, note};

/// `FILE` or `FILE=STRENGTH`; a folder or an address of the Hub may stand for a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdapterArgument {
    file: PathBuf,
    strength: f64,
}

impl FromStr for AdapterArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (file, strength) = match text.rsplit_once('=') {
            // A folder may have the sign in its name.
            Some((file, strength)) if !strength.contains(['/', '\\']) => {
                let strength = strength.parse().ok().filter(|strength: &f64| strength.is_finite());
                (file, strength.ok_or("expected a number after =, such as 0.5")?)
            }
            _ => (text, 1.0),
        };
        Ok(Self { file: file.into(), strength })
    }
}

/// Adds all of them to the pipeline's network, in their order.
pub(crate) fn add<N: NetworkSettings>(pipeline: &mut Pipeline<N>, adapters: &[AdapterArgument]) -> Result<()> {
    for AdapterArgument { file, strength } in adapters {
        let fetched = if is_address(file) { Some(crate::hub::adapter(file)?) } else { None };
        let added = pipeline.add_adapter(fetched.as_ref().unwrap_or(file), *strength);
        let left_out = added.map_err(|error| format!("--adapter {error}"))?;
        if let Some(first) = left_out.first() {
            let layers = counted(left_out.len() as u64, "layer");
            note(format_args!("{}: left out {layers} of text encoders, such as {first}", file.display()));
        }
    }
    Ok(())
}

/// The same at the commits that are noted for addresses, or else that these stand for now.
pub(crate) fn pinned(adapters: &[AdapterArgument], noted: Option<&Value>) -> Result<Vec<AdapterArgument>> {
    let file = |adapter: &AdapterArgument| crate::hub::pinned(&adapter.file, noted);
    adapters.iter().map(|adapter| Ok(AdapterArgument { file: file(adapter)?, ..*adapter })).collect()
}

/// Which files they are, and their strengths.
pub(crate) fn described(adapters: &[AdapterArgument]) -> Result<Value> {
    let describe = |AdapterArgument { file, strength }: &AdapterArgument| {
        let inside = Adapter::FILES.iter().chain(&["adapter_config.json"]).map(|name| file.join(name));
        let inside: Vec<PathBuf> = inside.filter(|file| file.is_file()).collect();
        let files = record::files(if inside.is_empty() { std::slice::from_ref(file) } else { &inside })?;
        Ok(json!([files, strength]))
    };
    Ok(Value::Array(adapters.iter().map(describe).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_follows_the_last_equals_sign() {
        let parse = |text: &str| text.parse::<AdapterArgument>();
        let of = |file: &str, strength| Ok(AdapterArgument { file: file.into(), strength });
        assert_eq!(parse("a.safetensors"), of("a.safetensors", 1.0));
        assert_eq!(parse("lr=1/a.safetensors=-0.5"), of("lr=1/a.safetensors", -0.5));
        assert_eq!(parse("lr=1/a.safetensors"), of("lr=1/a.safetensors", 1.0));
        assert_eq!(parse("hf://org/name@v1=0.5"), of("hf://org/name@v1", 0.5));
        assert!(parse("a.safetensors=strong").unwrap_err().contains("0.5"));
    }
}
