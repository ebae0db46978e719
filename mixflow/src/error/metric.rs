/// Why a metric could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The values do not fill the stated shape.
    #[error("expected {rows} x {columns} = {} values, found {found}", rows.saturating_mul(*columns))]
    Shape {
        /// Stated rows.
        rows: usize,
        /// Stated columns.
        columns: usize,
        /// Number of values given.
        found: usize,
    },
    /// Rows without a single number.
    #[error("expected at least 1 feature per row, found 0")]
    NoColumns,
    /// A NaN or an infinity.
    #[error("expected finite values, found {value} in row {row}, column {column}; check what produced that row")]
    NonFinite {
        /// Row of the first such value.
        row: usize,
        /// Column of the first such value.
        column: usize,
        /// The value.
        value: f64,
    },
    /// A set too small for the metric.
    #[error("{metric} needs at least {needed} rows, found {found}; add samples")]
    TooFewRows {
        /// What was to be computed.
        metric: &'static str,
        /// The smallest number of rows that defines it.
        needed: usize,
        /// Rows given.
        found: usize,
    },
    /// Features so wide that their covariance would not fit into memory.
    #[error("a covariance of {found} features does not fit into memory, at most {most} do; measure smaller images")]
    TooWide {
        /// The largest width.
        most: usize,
        /// Width given.
        found: usize,
    },
    /// Two sets that do not live in the same space.
    #[error("expected {expected} features per row, found {found}; compare features of one extractor")]
    Width {
        /// Width of the first set.
        expected: usize,
        /// Width of the second set.
        found: usize,
    },
    /// Maps with too few channels.
    #[error("expected feature maps of {needed} channels or more, found {found}")]
    Channels {
        /// Channels to read.
        needed: usize,
        /// Channels given.
        found: usize,
    },
    /// A matrix that is not a covariance.
    #[error(
        "expected a symmetric covariance with a diagonal of 0 or more, found {value} at row {row}, column {column}"
    )]
    Covariance {
        /// Row of the first wrong entry.
        row: usize,
        /// Column of the first wrong entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A reference whose rows are all equal: nothing can be compared to its variance.
    #[error("expected a reference that varies, found {rows} equal rows")]
    ConstantReference {
        /// Rows of the reference.
        rows: usize,
    },
    /// A count that must be positive.
    #[error("expected {name} of 1 or more, found 0")]
    Zero {
        /// Name of the argument.
        name: &'static str,
    },
    /// What is wrong with features or a measure of one's own.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}
