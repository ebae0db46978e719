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
    /// As [`Weights::network`] and [`Weights::into_module`]; and if two files hold the same tensor.
    pub fn load(self, files: impl IntoIterator<Item = Weights>) -> Result<Self, Error> {
        let own = |file: Weights| Ok::<_, Error>(file.network(&STARTS)?.without(&OTHERS).rename(name));
        let files = files.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
        let weights = files.into_iter().reduce(Weights::merge).unwrap_or_default();
        weights.into_module(self, official_key)
    }

    /// Its weights under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, official_key)
    }
}

/// The first tensors of torchvision's list, of the heads, and of the list as the package cuts it.
const STARTS: [&str; 3] = ["features.0.weight", "lin0.model.1.weight", "net.slice1.0.weight"];

/// torchvision's classes; the heads, which the package lists twice, and its two constants.
const OTHERS: [&str; 3] = ["classifier.", "lins.", "scaling_layer."];

/// The name that a file's tensor is known by here. The package cuts torchvision's list into slices.
fn name(found: &str) -> Option<String> {
    let place = found.strip_prefix("net.slice").and_then(|rest| rest.split_once('.'));
    Some(place.map_or_else(|| found.into(), |(_, place)| format!("features.{place}")))
}
