/// Side of the images that the network takes.
pub const SIDE: usize = 299;

/// How an image becomes the network's input. Numbers of one are not comparable to those of the other: the pixels that
/// are read differ, and so do the features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The graph of the published FID numbers, as in openai/guided-diffusion 22e0df8 and torch-fidelity 5e211a9: bilinear
    /// with pixels at their corners (`source = target · in / out`, TensorFlow 1), then `(x − 128)/128`.
    #[default]
    Adm,
    /// pytorch-fid 0.3.0: bilinear with pixels at their centres (`source = (target + ½) · in / out − ½`) of `x/255`, then
    /// `2x − 1`.
    PytorchFid,
}

impl Resize {
    /// The input of the network, `[3, 299, 299]`, from bytes `[height, width, channels]` of a grey or RGB image.
    ///
    /// Neither rule filters before it shrinks: that is how the published numbers were made.
    ///
    /// # Panics
    /// If the shape is not that of the bytes, or empty, or has other than 1 or 3 channels.
    pub fn input(self, bytes: &[u8], [height, width, channels]: [usize; 3]) -> Vec<f32> {
        let mut pixels = self.resize(bytes, [height, width, channels]);
        for pixel in &mut pixels {
            *pixel = match self {
                Self::Adm => (*pixel - 128.0) / 128.0,
                Self::PytorchFid => 2.0 * *pixel - 1.0,
            };
        }
        pixels
    }

    /// Planes `[3, 299, 299]` before the last step of [`input`](Self::input): in [0, 255], or in [0, 1] for
    /// [`PytorchFid`](Self::PytorchFid).
    ///
    /// # Panics
    /// As there.
    pub fn resize(self, bytes: &[u8], [height, width, channels]: [usize; 3]) -> Vec<f32> {
        assert!(channels == 1 || channels == 3, "expected 1 or 3 channels, found {channels}");
        assert!(height > 0 && width > 0, "expected an image, found {height} x {width} pixels");
        assert_eq!(bytes.len(), height * width * channels, "bytes of an image of {height} x {width} x {channels}");
        let (rows, columns) = (self.taps(height), self.taps(width));
        let value = |y: usize, x: usize, channel: usize| {
            let byte = f32::from(bytes[(y * width + x) * channels + channel.min(channels - 1)]);
            if self == Self::Adm { byte } else { byte / 255.0 }
        };
        let mut planes = Vec::with_capacity(3 * SIDE * SIDE);
        for channel in 0..3 {
            for row in &rows {
                planes.extend(columns.iter().map(|column| {
                    let [top, bottom] = [row.first, row.second].map(|y| {
                        let left = value(y, column.first, channel);
                        left + (value(y, column.second, channel) - left) * column.weight
                    });
                    top + (bottom - top) * row.weight
                }));
            }
        }
        planes
    }

    /// For each of the 299 places along a side: the two pixels between which it lies.
    fn taps(self, side: usize) -> Vec<Tap> {
        let scale = side as f32 / SIDE as f32;
        let tap = |target: usize| {
            let place = match self {
                Self::Adm => target as f32 * scale,
                Self::PytorchFid => ((target as f32 + 0.5) * scale - 0.5).max(0.0),
            };
            let first = (place as usize).min(side - 1);
            Tap { first, second: (first + 1).min(side - 1), weight: place - first as f32 }
        };
        (0..SIDE).map(tap).collect()
    }
}

struct Tap {
    first: usize,
    second: usize,
    /// Of the second.
    weight: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_the_right_size_is_kept() {
        let bytes: Vec<u8> = (0..SIDE * SIDE).map(|i| (i % 251) as u8).collect();
        let planes = Resize::Adm.resize(&bytes, [SIDE, SIDE, 1]);
        assert_eq!(planes.len(), 3 * bytes.len());
        for plane in planes.chunks(bytes.len()) {
            assert!(plane.iter().zip(&bytes).all(|(&pixel, &byte)| pixel == f32::from(byte)));
        }
        assert_eq!(Resize::Adm.input(&[128], [1, 1, 1]), vec![0.0; 3 * SIDE * SIDE]);
        assert_eq!(Resize::PytorchFid.input(&[255], [1, 1, 1]), vec![1.0; 3 * SIDE * SIDE]);
    }

    #[test]
    fn the_two_rules_place_pixels_differently() {
        // A ramp of two pixels, 0 and 200: from the left edge on, or between the two centres.
        let [adm, centred] = [Resize::Adm, Resize::PytorchFid].map(|resize| resize.resize(&[0, 200], [1, 2, 1]));
        assert_eq!((adm[0], adm[149] > 199.0, adm[150]), (0.0, true, 200.0));
        assert_eq!((centred[0], centred[74], centred[298]), (0.0, 0.0, 200.0 / 255.0));
        assert!((centred[149] - 100.0 / 255.0).abs() < 1e-6);
    }
}
