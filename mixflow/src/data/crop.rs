//! From the bytes of an image and its mask to the numbers of an example.

use image::{DynamicImage, RgbImage};

use super::buckets::Size;
use super::mask::other_size;
use super::{center_crop_to, random_crop, to_planes};
use crate::files::decode::{Losses, decode, decode_rgb, decode_rgb_and_alpha};

/// How an image is cut to an example.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crop {
    /// Its centre, of this height and width, by [`center_crop_to`].
    Center(Size),
    /// A square of it, by [`random_crop`].
    Random { size: usize, short_side: usize, place: [f64; 2] },
}

/// Where the mask of an image is.
#[derive(Clone, Copy, Debug)]
pub(super) enum MaskOf<'a> {
    /// There is none.
    None,
    /// In its alpha channel.
    Alpha,
    /// In the bytes of another image.
    File(&'a [u8]),
}

/// What is left of an image.
#[derive(Debug)]
pub(super) struct Cropped {
    /// `[3, height, width]`, in [−1, 1].
    pub(super) pixels: Vec<f32>,
    /// `[height, width]`, in [0, 1].
    pub(super) mask: Option<Vec<f32>>,
    /// Height and width.
    pub(super) size: Size,
    /// What of the file is not in it.
    pub(super) losses: Losses,
}

impl Crop {
    fn cut(self, image: &RgbImage) -> RgbImage {
        match self {
            Self::Center([height, width]) => center_crop_to(image, [width as u32, height as u32]),
            Self::Random { size, short_side, place } => random_crop(image, size as u32, short_side as u32, place),
        }
    }

    /// Whether an image of this width and height is smaller than what it is cut from.
    fn enlarges(self, [width, height]: [u32; 2]) -> bool {
        let [high, wide] = match self {
            Self::Center(size) => size,
            Self::Random { short_side, .. } => [short_side; 2],
        };
        (height as usize) < high || (width as usize) < wide
    }
}

/// Decodes an image and its mask, and cuts both alike, as `crop` says of their width and height.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn crop(bytes: &[u8], mask: MaskOf<'_>, crop: impl FnOnce([u32; 2]) -> Crop) -> Result<Cropped, String> {
    // Of a mask in three channels that are equal.
    let numbers = |mask: &RgbImage| mask.pixels().map(|pixel| f32::from(pixel.0[0]) / 255.0).collect::<Vec<_>>();
    let (image, alpha) = match mask {
        MaskOf::Alpha => decode_rgb_and_alpha(bytes)?,
        MaskOf::None | MaskOf::File(_) => (decode_rgb(bytes)?, None),
    };
    let (sides, mut losses) = (<[u32; 2]>::from(image.image.dimensions()), image.losses);
    let crop = crop(sides);
    let cut = crop.cut(&image.image);
    let size = [cut.height() as usize, cut.width() as usize];
    // Its memory is given back before that of a mask is asked for.
    drop(image);
    let grey = match mask {
        MaskOf::None | MaskOf::Alpha => alpha,
        MaskOf::File(bytes) => {
            let mask = decode(bytes).map_err(|reason| format!("its mask cannot be used: {reason}"))?;
            if mask.losses | Losses::ALPHA == mask.losses {
                let reason = "it is partly transparent, and what counts is its brightness: save it in black and white";
                return Err(format!("its mask cannot be used: {reason}"));
            }
            let (width, height) = (mask.image.width(), mask.image.height());
            if [width, height] != sides {
                return Err(format!("its mask cannot be used: {}", other_size([width, height], sides)));
            }
            Some(mask.image.to_luma8())
        }
    };
    // Of the whole of it: another cut may show more.
    losses |= Losses::MASKED.when(grey.as_ref().is_some_and(|grey| grey.pixels().all(|pixel| pixel.0 == [0])));
    losses |= Losses::OPAQUE.when(matches!(mask, MaskOf::Alpha) && grey.is_none());
    let grey = grey.map(|grey| numbers(&crop.cut(&DynamicImage::from(grey).into_rgb8())));
    let mask = match mask {
        MaskOf::None => None,
        MaskOf::Alpha | MaskOf::File(_) => Some(grey.unwrap_or_else(|| vec![1.0; size[0] * size[1]])),
    };
    losses |= Losses::ENLARGED.when(crop.enlarges(sides));
    Ok(Cropped { pixels: to_planes(&cut), mask, size, losses })
}
