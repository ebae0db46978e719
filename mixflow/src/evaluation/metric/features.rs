use super::Error;

/// Feature vectors, one row for each image: what every metric reads.
///
/// Rows and columns are `[rows, columns]`, row-major. All values are finite, and there is at least one column; zero rows
/// are allowed here and refused by the metrics that need more.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    values: Vec<f64>,
    columns: usize,
}

impl Features {
    /// Takes `rows * columns` values in row-major order.
    ///
    /// # Errors
    /// [`Error::NoColumns`], [`Error::Shape`] and [`Error::NonFinite`].
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Self, Error> {
        if columns == 0 {
            return Err(Error::NoColumns);
        }
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::Shape { rows, columns, found: values.len() });
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(i) => Err(Error::NonFinite { row: i / columns, column: i % columns, value: values[i] }),
            None => Ok(Self { values, columns }),
        }
    }

    /// As [`Features::new`], from what a network returns.
    ///
    /// # Errors
    /// Those of [`Features::new`].
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Result<Self, Error> {
        Self::new(rows, columns, values.iter().copied().map(f64::from).collect())
    }

    /// Number of images.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Numbers for each image.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `index`. Panics when there is no such row.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// All rows in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.columns)
    }

    /// The named rows, in that order. Panics when there is no such row.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { values, columns: self.columns }
    }

    /// The first `rows` rows and the rest: a reference and its floor, from one shuffled set of real images.
    ///
    /// Panics when there are fewer rows.
    #[must_use]
    pub fn split_at(mut self, rows: usize) -> (Self, Self) {
        let rest = self.values.split_off(rows * self.columns);
        let rest = Self { values: rest, columns: self.columns };
        (self, rest)
    }

    /// Row-major.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn same_width(&self, other: &Self) -> Result<(), Error> {
        same_width(self.columns, other.columns)
    }

    pub(super) fn at_least(&self, needed: usize, metric: &'static str) -> Result<(), Error> {
        at_least(self.rows(), needed, metric)
    }
}

pub(super) fn same_width(expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Width { expected, found }) }
}

pub(super) fn at_least(found: usize, needed: usize, metric: &'static str) -> Result<(), Error> {
    if found >= needed { Ok(()) } else { Err(Error::TooFewRows { metric, needed, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_non_finite_value_is_named() {
        let error = Features::from_f32(2, 3, &[0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected finite values, found NaN in row 1, column 1; check what produced that row"
        );
    }

    #[test]
    fn shapes_are_checked() {
        assert_eq!(Features::new(2, 3, vec![0.0; 5]).unwrap_err().to_string(), "expected 2 x 3 = 6 values, found 5");
        assert!(matches!(Features::new(4, 0, vec![]), Err(Error::NoColumns)));
        assert!(matches!(Features::new(usize::MAX, 2, vec![0.0; 2]), Err(Error::Shape { .. })));
    }

    #[test]
    fn split_and_select_keep_rows_whole() {
        let all = Features::new(3, 2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(all.select(&[2, 0]).iter().collect::<Vec<_>>(), [[4.0, 5.0], [0.0, 1.0]]);
        let (first, rest) = all.split_at(1);
        assert_eq!((first.row(0), rest.rows(), rest.row(1)), (&[0.0, 1.0][..], 2, &[4.0, 5.0][..]));
    }
}
