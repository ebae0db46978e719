//! Pictures inside a page.

use base64::prelude::{BASE64_STANDARD, Engine};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::files::png;

/// A PNG inside a page or a JSON file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The PNG file in base64.
    pub png: String,
}

impl From<&RgbImage> for Picture {
    fn from(image: &RgbImage) -> Self {
        Self { width: image.width(), height: image.height(), png: BASE64_STANDARD.encode(png(image)) }
    }
}
