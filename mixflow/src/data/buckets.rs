//! Aspect-ratio buckets: the sizes in which training sees images of many shapes.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, LARGEST};

/// Training images in sizes of about their own aspect ratios, as written in a recipe.
///
/// A size has sides that are multiples of `step` and from half to twice `S`, the side of a square, and the largest such
/// height for its width, or width for its height, with which its area is at most `S²`: no size takes more memory than the
/// square. An image is trained on in the size whose aspect ratio is nearest to its own by their quotient, scaled until
/// it covers that size and cut from its centre.
///
/// # Source
/// `NovelAI` 2022, "Improvements on Stable Diffusion", aspect ratio bucketing; the sizes are those of `kohya-ss/sd-scripts`,
/// `library/model_util.py`, `make_bucket_resolutions`, with half and twice the side as the limits. There aspect ratios are
/// compared by their difference, so that a picture and the same one turned by 90° may be cut differently.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// What sides are multiples of, in pixels: such as 64, and what network and autoencoder divide them by.
    pub step: usize,
    /// The `S`, ascending: an image takes the sizes of the largest `S` that do not enlarge it, or those of the smallest.
    /// None is the side of the data's square alone, which is the largest that there may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<usize>,
}

/// Height and width in pixels.
pub(crate) type Size = [usize; 2];

impl BucketConfig {
    /// What is wrong with it for images of this side, if anything.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] with the key.
    pub(super) fn check(&self, side: usize) -> Result<(), Error> {
        let fault = |name, expected, found: usize| Err(Error::OutOfRange { name, expected, found: found as u64 });
        if let Some(found) = self.sizes.iter().find(|size| !(1..=side.min(LARGEST)).contains(*size)) {
            return fault("buckets.sizes", "from 1 to data.size pixels", *found);
        }
        if let Some(pair) = self.sizes.windows(2).find(|pair| pair[0] >= pair[1]) {
            return fault("buckets.sizes", "ascending", pair[1]);
        }
        let least = self.sizes.first().copied().unwrap_or(side);
        if !(1..=least).contains(&self.step) {
            return fault("buckets.step", "from 1 pixel to the smallest size", self.step);
        }
        Ok(())
    }

    /// The size for an image of `width` by `height` pixels, of data whose square has this side.
    pub(crate) fn size_of(&self, [width, height]: [u32; 2], side: usize) -> Size {
        let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
        let sides = if self.sizes.is_empty() { &[side][..] } else { &self.sizes };
        let nearest = |side: &usize| {
            let sizes = sizes(*side, self.step).into_iter();
            sizes.min_by(|one, other| compare(*one, *other, [height, width])).expect("a square is a size")
        };
        let fits = |[high, wide]: &Size| *high as u64 <= height && *wide as u64 <= width;
        let found = sides.iter().rev().map(nearest).find(fits);
        found.unwrap_or_else(|| nearest(&sides[0]))
    }
}

/// The sizes for a side, each once.
fn sizes(side: usize, step: usize) -> Vec<Size> {
    let (least, most) = (side.div_ceil(2), 2 * side);
    let square = side / step * step;
    let mut sizes = vec![[square, square]];
    for one in (least.next_multiple_of(step)..=most).step_by(step) {
        let other = (side * side / one).min(most) / step * step;
        if other >= least {
            sizes.extend([[one, other], [other, one]]);
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Which size is nearer to an image: by the quotient of the aspect ratios, then by the larger area.
fn compare(one: Size, other: Size, [height, width]: [u64; 2]) -> Ordering {
    // The quotient, at least one, as a fraction.
    let quotient = |[high, wide]: Size| {
        let (a, b) = (u128::from(width) * high as u128, u128::from(height) * wide as u128);
        (a.max(b), a.min(b))
    };
    let ((a, b), (c, d)) = (quotient(one), quotient(other));
    let area = |[high, wide]: Size| high * wide;
    (a * d).cmp(&(c * b)).then(area(other).cmp(&area(one)))
}

/// Of an image, the share that is left when it is cut to a size.
fn kept([height, width]: Size, [wide, high]: [u32; 2]) -> f64 {
    let quotient = (f64::from(wide) * height as f64) / (f64::from(high) * width as f64);
    quotient.min(1.0 / quotient)
}

/// The sizes of all images of a set.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Channels, height and width, ascending; each is that of an image.
    pub(super) shapes: Vec<[usize; 3]>,
    /// A place among them for each image.
    of: Vec<u16>,
    /// The first image of which more than a quarter is cut off, and how many there are.
    cut: Option<(usize, usize)>,
}

impl Buckets {
    /// Of images with these widths and heights; of those that have none that is known, the square.
    pub(super) fn new(config: &BucketConfig, side: usize, images: &[Option<[u32; 2]>]) -> Self {
        let size_of = |image: &Option<[u32; 2]>| config.size_of(image.unwrap_or([u32::MAX; 2]), side);
        let sizes: Vec<Size> = images.iter().map(size_of).collect();
        let mut used = sizes.clone();
        used.sort_unstable();
        used.dedup();
        let place = |size: &Size| used.binary_search(size).expect("it is one of them") as u16;
        let of = sizes.iter().map(place).collect();
        let mut cut =
            images.iter().zip(&sizes).enumerate().filter_map(|(index, (image, size))| {
                (*image).filter(|image| kept(*size, *image) < 0.75).map(|_| index)
            });
        let cut = cut.next().map(|first| (first, 1 + cut.count()));
        let shapes = used.into_iter().map(|[height, width]| [3, height, width]).collect();
        Self { shapes, of, cut }
    }

    /// The bucket of an image.
    pub(super) fn of(&self, image: usize) -> usize {
        self.of[image].into()
    }

    /// Height and width of an image.
    pub(super) fn size(&self, image: usize) -> Size {
        let [_, height, width] = self.shapes[self.of(image)];
        [height, width]
    }

    /// SHA-256 of the sizes of all images, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let mut digest = Sha256::new();
        (0..self.of.len()).for_each(|image| digest.update(format!("{:?}", self.size(image))));
        hex::encode(digest.finalize())
    }

    /// What the user should know: which sizes there are, and which images are cut most; `name` gives an image's.
    pub(super) fn notices(&self, name: impl Fn(usize) -> String) -> Vec<String> {
        /// More are not told one by one.
        const MOST: usize = 12;
        let mut counts = vec![0; self.shapes.len()];
        self.of.iter().for_each(|bucket| counts[usize::from(*bucket)] += 1);
        let mut by_count: Vec<_> = self.shapes.iter().zip(counts).collect();
        by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown =
            by_count.iter().take(MOST).map(|([_, height, width], count)| format!("{height} x {width} ({count})"));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = if by_count.len() > MOST { ", …" } else { "" };
        let sizes = if by_count.len() == 1 { "1 size".into() } else { format!("{} sizes", by_count.len()) };
        let line = format!("images are trained on in {sizes} of height x width pixels: {shown}{more}");
        let cut = self.cut.map(|(first, count)| {
            let images = if count == 1 { "1 image loses".into() } else { format!("{count} images lose") };
            format!("{images} more than a quarter to the nearest size, the first {}", name(first))
        });
        [line].into_iter().chain(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize) -> BucketConfig {
        BucketConfig { step, sizes: vec![] }
    }

    /// Those of `make_bucket_resolutions((512, 512), 256, 1024, 64)` in kohya-ss/sd-scripts, widths and heights.
    #[test]
    fn sizes_are_those_of_the_reference() {
        let wide = [
            [512, 512],
            [576, 448],
            [640, 384],
            [704, 320],
            [768, 320],
            [832, 256],
            [896, 256],
            [960, 256],
            [1024, 256],
        ];
        let more = [[448, 576], [384, 640], [384, 640], [320, 768], [320, 704], [256, 832], [256, 896], [256, 960]];
        let mut expected: Vec<Size> = wide.into_iter().chain(more).chain([[256, 1024]]).collect();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(sizes(512, 64), expected);
    }

    #[test]
    fn no_size_is_larger_than_the_square_and_turned_images_take_turned_sizes() {
        for (side, pixels) in [(512, 64), (1024, 64), (1024, 16), (96, 16), (64, 48), (100, 7), (16, 16), (5, 1)] {
            for [high, wide] in sizes(side, pixels) {
                assert!(high * wide <= side * side && high % pixels == 0 && wide % pixels == 0, "{high} x {wide}");
                assert!(high.min(wide) > 0 && high.max(wide) <= 2 * side, "{high} x {wide} of {side}");
            }
            for image in [[1, 1], [640, 480], [480, 640], [3000, 1000], [7, 9000], [101, 100]] {
                let [width, height] = image;
                let [high, wide] = step(pixels).size_of(image, side);
                assert_eq!(step(pixels).size_of([height, width], side), [wide, high], "{image:?} at {side}");
            }
        }
    }

    #[test]
    fn images_take_the_nearest_aspect_ratio() {
        // 1.5 lies between 576/448 = 1.286 and 640/384 = 1.667, which are 1.167 and 1.111 times away.
        assert_eq!(step(64).size_of([600, 400], 512), [384, 640]);
        assert_eq!(step(64).size_of([400, 600], 512), [640, 384]);
        assert_eq!(step(64).size_of([4000, 3900], 512), [512, 512]);
        // Far too narrow: the narrowest.
        assert_eq!(step(64).size_of([20, 4000], 512), [1024, 256]);
    }

    #[test]
    fn of_several_sizes_images_take_the_largest_that_they_fill() {
        let config = BucketConfig { step: 64, sizes: vec![256, 512, 1024] };
        for (image, size) in [
            ([2048, 1024], [704, 1408]),
            ([1024, 1024], [1024, 1024]),
            ([1023, 1024], [512, 512]),
            ([150, 500], [448, 128]),
            ([10, 10], [256, 256]),
        ] {
            assert_eq!(config.size_of(image, 1024), size, "{image:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let check = |step, sizes: &[usize]| {
            BucketConfig { step, sizes: sizes.into() }
                .check(512)
                .map_or_else(|error| error.to_string(), |()| "right".into())
        };
        assert_eq!(check(64, &[256, 512]), "right");
        assert_eq!(check(64, &[]), "right");
        for (step, sizes, words) in [
            (0, &[][..], "buckets.step must be from 1 pixel to the smallest size, found 0"),
            (513, &[], "found 513"),
            (300, &[256, 512], "found 300"),
            (64, &[256, 1024], "buckets.sizes must be from 1 to data.size pixels, found 1024"),
            (64, &[512, 256], "buckets.sizes must be ascending, found 256"),
        ] {
            assert!(check(step, sizes).contains(words), "{}", check(step, sizes));
        }
    }

    #[test]
    fn sizes_are_told_with_what_is_cut() {
        let images: Vec<_> = [[512, 512], [600, 400], [4000, 400], [600, 400], [500, 5000]].map(Some).into();
        let buckets = Buckets::new(&step(64), 512, &images);
        assert_eq!(buckets.shapes, [[3, 256, 1024], [3, 384, 640], [3, 512, 512], [3, 1024, 256]]);
        assert_eq!([0, 1, 2, 3, 4].map(|image| buckets.of(image)), [2, 1, 0, 1, 3]);
        assert_eq!(
            buckets.notices(|image| format!("image {image}")),
            [
                "images are trained on in 4 sizes of height x width pixels: 384 x 640 (2), 256 x 1024 (1), 512 x 512 (1), \
                 1024 x 256 (1)",
                "2 images lose more than a quarter to the nearest size, the first image 2",
            ]
        );
    }
}
