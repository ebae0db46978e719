use nalgebra::{DMatrix, DMatrixViewMut, DVector};
use rayon::prelude::*;

use super::features::{at_least, same_width};
use super::{Error, Features};

/// Mean and covariance of a set of features: all that a Fréchet distance reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
    count: usize,
}

impl Gaussian {
    /// Takes published statistics: `mean` `[d]`, `covariance` `[d, d]`, and the number of images behind them.
    ///
    /// # Errors
    /// [`Error::NoColumns`], [`Error::Shape`], [`Error::NonFinite`], and [`Error::Covariance`] for a matrix that is not
    /// symmetric to 1e-6 of its largest entry, or has a negative diagonal.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>, count: usize) -> Result<Self, Error> {
        let width = mean.len();
        Features::new(1, width, mean.clone())?;
        let checked = Features::new(width, width, covariance)?;
        let covariance = DMatrix::from_row_iterator(width, width, checked.iter().flatten().copied());
        let slack = 1e-6 * covariance.amax();
        for row in 0..width {
            for column in 0..=row {
                let value = covariance[(row, column)];
                if (value - covariance[(column, row)]).abs() > slack || (row == column && value < 0.0) {
                    return Err(Error::Covariance { row, column, value });
                }
            }
        }
        Ok(Self { mean: DVector::from_vec(mean), covariance, count })
    }

    /// Mean and unbiased covariance (dividing by `n − 1`, as `numpy.cov`), in f64.
    ///
    /// # Errors
    /// [`Error::TooFewRows`] below two rows, [`Error::TooWide`] above [`MAX_COLUMNS`](Self::MAX_COLUMNS).
    pub fn from_features(features: &Features) -> Result<Self, Error> {
        Self::check_columns(features.columns())?;
        let mut accumulator = GaussianAccumulator::new(features.columns());
        accumulator.update(features)?;
        accumulator.finish()
    }

    /// The widest features that a covariance is taken of: colour images of 64 x 64. One such matrix has 1.2 GB, and a
    /// Fréchet distance needs a few.
    pub const MAX_COLUMNS: usize = 3 * 64 * 64;

    /// Whether features of this width can be measured, before there are any.
    ///
    /// # Errors
    /// [`Error::TooWide`].
    pub fn check_columns(columns: usize) -> Result<(), Error> {
        if columns > Self::MAX_COLUMNS {
            return Err(Error::TooWide { most: Self::MAX_COLUMNS, found: columns });
        }
        Ok(())
    }

    /// `[d]`.
    pub fn mean(&self) -> &[f64] {
        self.mean.as_slice()
    }

    /// `[d, d]`, symmetric.
    pub fn covariance(&self) -> &[f64] {
        self.covariance.as_slice()
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Trace of the covariance.
    pub fn total_variance(&self) -> f64 {
        self.covariance.trace()
    }
}

/// Collects a [`Gaussian`] from features that arrive in chunks.
///
/// The result depends on the rows and their order alone: how they are cut into chunks does not change a bit of it, nor
/// does the number of threads.
#[derive(Clone, Debug)]
pub struct GaussianAccumulator {
    count: usize,
    mean: DVector<f64>,
    /// `Σ (x − mean)(x − mean)ᵀ`, of which only the diagonal and what lies above it is kept.
    scatter: DMatrix<f64>,
    /// Rows that do not fill a block yet.
    pending: Vec<f64>,
}

/// Rows that enter the sums together. Blocks are cut by row number, hence the independence from the caller's chunks.
const BLOCK: usize = 256;

/// Columns of the scatter matrix that one task updates.
const PANEL: usize = 64;

impl GaussianAccumulator {
    /// For features of this width.
    pub fn new(columns: usize) -> Self {
        Self {
            count: 0,
            mean: DVector::zeros(columns),
            scatter: DMatrix::zeros(columns, columns),
            pending: Vec::with_capacity(BLOCK * columns),
        }
    }

    /// Adds all rows.
    ///
    /// # Errors
    /// [`Error::Width`].
    pub fn update(&mut self, features: &Features) -> Result<(), Error> {
        same_width(self.mean.len(), features.columns())?;
        for row in features.iter() {
            self.pending.extend_from_slice(row);
            if self.pending.len() == BLOCK * row.len() {
                self.absorb();
            }
        }
        Ok(())
    }

    /// The statistics of all rows so far.
    ///
    /// # Errors
    /// [`Error::TooFewRows`] below two rows.
    pub fn finish(mut self) -> Result<Gaussian, Error> {
        self.absorb();
        at_least(self.count, 2, "a covariance")?;
        self.scatter /= (self.count - 1) as f64;
        self.scatter.fill_lower_triangle_with_upper_triangle();
        Ok(Gaussian { mean: self.mean, covariance: self.scatter, count: self.count })
    }

    /// Merges the pending rows with the moments so far (Chan et al. 1983): the block's own scatter, and one
    /// more rank for the distance of the two means.
    fn absorb(&mut self) {
        let width = self.mean.len();
        let rows = self.pending.len() / width.max(1);
        if rows == 0 {
            return;
        }
        let (before, after) = (self.count as f64, (self.count + rows) as f64);
        let mut block = DMatrix::from_column_slice(width, rows, &self.pending);
        let block_mean = block.column_mean();
        for mut column in block.column_iter_mut() {
            column -= &block_mean;
        }
        let shift = block_mean - &self.mean;
        self.mean += &shift * (rows as f64 / after);
        let mut block = block.insert_column(rows, 0.0);
        block.set_column(rows, &(shift * (before * rows as f64 / after).sqrt()));

        let transposed = block.transpose();
        self.scatter.as_mut_slice().par_chunks_mut(PANEL * width).enumerate().for_each(|(index, panel)| {
            let (first, columns) = (index * PANEL, panel.len() / width);
            let upper = first + columns;
            DMatrixViewMut::from_slice(panel, width, columns).rows_mut(0, upper).gemm(
                1.0,
                &block.rows(0, upper),
                &transposed.columns(first, columns),
                1.0,
            );
        });
        self.count += rows;
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, noise};
    use super::*;

    #[test]
    fn statistics_match_numpy() {
        for case in ["rankdef", "exact_lowrank", "ill", "big", "full"] {
            let fixture = Fixture::load(&format!("metrics/features_{case}"));
            for set in ["ref", "sample"] {
                let gaussian = Gaussian::from_features(&fixture.features(&format!("in.{set}"))).unwrap();
                fixture.assert_close(gaussian.mean(), &fixture.tensor(&format!("out.mu_{set}")));
                fixture.assert_close(gaussian.covariance(), &fixture.tensor(&format!("out.sigma_{set}")));
            }
        }
    }

    #[test]
    fn chunks_do_not_change_a_bit() {
        let all = noise(700, 70, 1);
        let whole = Gaussian::from_features(&all).unwrap();
        for chunk in [1, 7, 256, 300] {
            let mut accumulator = GaussianAccumulator::new(70);
            for start in (0..700).step_by(chunk) {
                let rows: Vec<_> = (start..700.min(start + chunk)).collect();
                accumulator.update(&all.select(&rows)).unwrap();
            }
            assert_eq!(accumulator.finish().unwrap(), whole);
        }
    }

    #[test]
    fn a_far_origin_costs_no_precision() {
        let near = noise(600, 5, 2);
        let far = Features::new(600, 5, near.iter().flatten().map(|x| x + 1e6).collect()).unwrap();
        let (near, far) = (Gaussian::from_features(&near).unwrap(), Gaussian::from_features(&far).unwrap());
        for (a, b) in near.covariance().iter().zip(far.covariance()) {
            // 1e6 + x keeps x to 1e-10.
            assert!((a - b).abs() < 1e-9, "{a} and {b}");
        }
    }

    #[test]
    fn wrong_statistics_are_refused() {
        assert!(matches!(Gaussian::from_features(&noise(1, 3, 3)), Err(Error::TooFewRows { needed: 2, found: 1, .. })));
        assert!(matches!(Gaussian::new(vec![0.0; 2], vec![1.0, 0.5, 0.2, 1.0], 9), Err(Error::Covariance { .. })));
        assert!(matches!(Gaussian::new(vec![0.0], vec![-1.0], 9), Err(Error::Covariance { .. })));
        assert!(matches!(Gaussian::new(vec![0.0; 2], vec![1.0; 3], 9), Err(Error::Shape { .. })));
        assert!(matches!(GaussianAccumulator::new(3).update(&noise(4, 2, 4)), Err(Error::Width { .. })));
    }
}
