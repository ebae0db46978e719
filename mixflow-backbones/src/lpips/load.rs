//! Published weights.

use super::Lpips;
use crate::Error;
use crate::weights::Weights;

/// Where torchvision's `vgg16` has the convolutions of each depth.
const PLACES: [&[usize]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];

/// The official name of the parameter at `path` of an [`Lpips`]: torchvision's for the classifier, the package's for the
/// heads.
///
/// ```
/// use mixflow_backbones::lpips::official_key;
///
/// assert_eq!(official_key("vgg.depths.2.1.bias"), "features.12.bias");
/// assert_eq!(official_key("heads.4.weight"), "lin4.model.1.weight");
/// ```
pub fn official_key(path: &str) -> String {
    let number = |text: &str| text.parse::<usize>().expect("lists are numbered");
    match path.split('.').collect::<Vec<_>>()[..] {
        ["vgg", "depths", depth, place, part] => format!("features.{}.{part}", PLACES[number(depth)][number(place)]),
        ["heads", depth, part] => format!("lin{depth}.model.1.{part}"),
        _ => path.into(),
    }
}

impl Lpips {
    /// This network with published weights: torchvision's `vgg16` (`vgg16-397923af.pth`) and the heads of the package
    /// `lpips` (`weights/v0.1/vgg.pth`), in this order or the other, or one file with both, as the package's own
    /// `LPIPS.state_dict()` is. What it does not need, such as the classes, is left out.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, files: impl IntoIterator<Item = Weights>) -> Result<Self, Error> {
        let files = files.into_iter().map(|file| file.rename(name));
        let weights = files.reduce(Weights::merge).unwrap_or_default();
        weights.into_module(self, official_key)
    }

    /// Its weights under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, official_key)
    }
}

/// The name that a file's tensor is known by here, if it is needed.
fn name(found: &str) -> Option<String> {
    // The package cuts torchvision's list into slices, lists the heads twice and stores two constants.
    if ["classifier.", "lins.", "scaling_layer."].iter().any(|start| found.starts_with(start)) {
        return None;
    }
    let place = found.strip_prefix("net.slice").and_then(|rest| rest.split_once('.'));
    Some(place.map_or_else(|| found.into(), |(_, place)| format!("features.{place}")))
}
