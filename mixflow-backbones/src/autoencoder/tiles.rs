//! Large images piece by piece.

use std::ops::Range;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::sizes::demand;

/// How a large image is cut into tiles that overlap, whose results are blended.
///
/// Tiles do not see each other, so normalisation and attention differ from tile to tile; blending hides the seams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileConfig {
    /// Side of a tile, in latent values.
    pub side: usize,
    /// What neighbouring tiles share, in latent values; at most half a tile.
    pub overlap: usize,
}

impl Default for TileConfig {
    /// 512 px behind an eightfold autoencoder, a quarter shared: as `diffusers` does for Stable Diffusion.
    fn default() -> Self {
        Self { side: 64, overlap: 16 }
    }
}

impl TileConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.side == 0 || 2 * self.overlap > self.side {
            let Self { side, overlap } = self;
            return Err(Invalid::new("overlap", format!("must be at most half the side, found {overlap} of {side}")));
        }
        Ok(())
    }

    /// Puts together `f(rows, columns)` of all tiles of a grid of latent values. A tile's result has `unit` pixels along
    /// an edge for every value; where two overlap, the weight goes from one to the other linearly. Tiles start where
    /// those of `diffusers` do, but a tile that reaches the border is the last of its row or column.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub(super) fn blend(
        &self,
        [height, width]: [usize; 2],
        unit: usize,
        f: impl Fn([Range<usize>; 2]) -> Tensor<4>,
    ) -> Tensor<4> {
        demand(self.check());
        let overlap = self.overlap * unit;
        let strips = self.ranges(height).map(|rows| {
            let tiles = self.ranges(width).map(|columns| f([rows.clone(), columns]));
            join(tiles, 3, overlap)
        });
        join(strips, 2, overlap)
    }

    fn ranges(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { side, overlap } = *self;
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let start = next?;
            let end = (start + side).min(size);
            next = (end < size).then_some(start + side - overlap);
            Some(start..end)
        })
    }
}

/// Joins pieces along `axis`, of which each shares its first `overlap` pixels with the last of the one before.
fn join(pieces: impl Iterator<Item = Tensor<4>>, axis: usize, overlap: usize) -> Tensor<4> {
    let mut done = vec![];
    let mut last: Option<Tensor<4>> = None;
    for piece in pieces {
        last = Some(match last.take() {
            Some(last) if overlap > 0 => {
                let (kept, rest) = (last.dims()[axis] - overlap, piece.dims()[axis] - overlap);
                let [from, to] = [last.clone().narrow(axis, kept, overlap), piece.clone().narrow(axis, 0, overlap)];
                // Of a tile that shares half with each neighbour nothing is its own.
                if kept > 0 {
                    done.push(last.narrow(axis, 0, kept));
                }
                done.push(mix(from, to, axis));
                piece.narrow(axis, overlap, rest)
            }
            Some(last) => {
                done.push(last);
                piece
            }
            None => piece,
        });
    }
    done.extend(last);
    Tensor::cat(done, axis)
}

/// From the first of two to the second, along `axis`.
fn mix(from: Tensor<4>, to: Tensor<4>, axis: usize) -> Tensor<4> {
    let len = from.dims()[axis];
    let ramp: Vec<f32> = (0..len).map(|index| index as f32 / len as f32).collect();
    let mut shape = [1; 4];
    shape[axis] = len;
    let ramp = Tensor::<1>::from_data(ramp.as_slice(), (&from.device(), from.dtype())).reshape(shape);
    from.clone() + (to - from) * ramp
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use burn::tensor::{Device, TensorData};

    use super::*;

    const TILES: TileConfig = TileConfig { side: 8, overlap: 3 };

    /// As many as may be shared.
    const HALVES: TileConfig = TileConfig { side: 8, overlap: 4 };

    fn pixels(size: [usize; 2], value: impl Fn(usize, usize) -> f32) -> Tensor<4> {
        let values: Vec<f32> =
            (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (y, x))).map(|(y, x)| value(y, x)).collect();
        Tensor::from_data(TensorData::new(values, [1, 1, size[0], size[1]]), &Device::default())
    }

    fn values(image: Tensor<4>) -> Vec<f32> {
        image.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn tiles_cover_the_grid_and_none_is_larger_or_idle() {
        for (tiles, size) in (1..40).flat_map(|size| [(TILES, size), (HALVES, size)]) {
            let ranges: Vec<_> = tiles.ranges(size).collect();
            assert_eq!((ranges[0].start, ranges.last().unwrap().end), (0, size));
            assert!(ranges.iter().all(|range| range.len() <= tiles.side));
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].end - pair[1].start, tiles.overlap);
                assert!(pair[1].end > pair[0].end);
            }
        }
    }

    #[test]
    fn what_is_local_is_put_together_exactly() {
        let sizes = [([5, 7], 1), ([8, 8], 4), ([9, 23], 2), ([31, 8], 1), ([18, 19], 3)];
        for (tiles, (size, unit)) in sizes.into_iter().flat_map(|size| [(TILES, size), (HALVES, size)]) {
            // Small integers: the blend of two equal values is exact.
            let whole = |y: usize, x: usize| ((7 * y + 3 * x) % 64) as f32;
            let image = tiles.blend(size, unit, |[rows, columns]| {
                let (top, left) = (rows.start * unit, columns.start * unit);
                pixels([rows.len() * unit, columns.len() * unit], |y, x| whole(top + y, left + x))
            });
            assert_eq!(values(image), values(pixels([size[0] * unit, size[1] * unit], whole)), "{size:?}");
        }
    }

    #[test]
    fn tiles_of_different_brightness_leave_no_seam() {
        let calls = RefCell::new(0);
        let unit = 4;
        let image = TILES.blend([18, 18], unit, |[rows, columns]| {
            *calls.borrow_mut() += 1;
            pixels([rows.len() * unit, columns.len() * unit], |_, _| (*calls.borrow() % 2) as f32)
        });
        assert_eq!(*calls.borrow(), 9);
        let image = values(image);
        // The steepest ramp goes from 0 to 1 over the pixels of an overlap.
        let steepest = 1.0 / (TILES.overlap * unit) as f32 + 1e-6;
        let side = 18 * unit;
        for y in 0..side {
            for x in 1..side {
                assert!((image[y * side + x] - image[y * side + x - 1]).abs() <= steepest, "columns {x} of row {y}");
                assert!((image[x * side + y] - image[(x - 1) * side + y]).abs() <= steepest, "rows {x} of column {y}");
            }
        }
        assert!(image.iter().any(|&v| v > 0.99) && image.iter().any(|&v| v < 0.01), "the tiles are all the same");
    }

    #[test]
    fn tiles_that_overlap_too_much_are_refused() {
        assert!(TileConfig { side: 8, overlap: 5 }.check().is_err());
        assert!(TileConfig { side: 0, overlap: 0 }.check().is_err());
        assert_eq!(TileConfig::default().check(), Ok(()));
    }
}
