//! Published weights.

use super::Inception;
use crate::Error;
use crate::weights::Weights;

/// SHA-256 of the published file: `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid and
/// `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity are the same 95,628,359 bytes.
pub const PUBLISHED_SHA256: &str = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2";

/// The official name of the parameter at `path` of an [`Inception`].
///
/// ```
/// use mixflow_backbones::inception::official_key;
///
/// assert_eq!(official_key("conv2d_1a_3x3.bn.running_mean"), "Conv2d_1a_3x3.bn.running_mean");
/// assert_eq!(official_key("mixed_5b.branch1x1.conv.weight"), "Mixed_5b.branch1x1.conv.weight");
/// assert_eq!(official_key("fc.weight"), "fc.weight");
/// ```
pub fn official_key(path: &str) -> String {
    match path.strip_prefix("mixed_") {
        Some(rest) => format!("Mixed_{rest}"),
        None => path.replace("conv2d_", "Conv2d_"),
    }
}

impl Inception {
    /// This network with published weights. The number of batches that statistics were made of, which newer versions of
    /// PyTorch store, is not read.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = weights.network(&["Conv2d_1a_3x3.conv.weight"])?;
        weights.retain(|name| !name.ends_with(".num_batches_tracked"));
        weights.into_module(self, official_key)
    }
}
