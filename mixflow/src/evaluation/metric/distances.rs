use super::Features;
use super::pairs::{dot, for_each_row, sum};

/// Squared distances between the rows of two sets: a matrix product says where each lies, and what that leaves open
/// is computed from the differences.
pub(super) struct Distances<'a> {
    a: &'a Features,
    b: &'a Features,
    squares: [Vec<f64>; 2],
}

impl<'a> Distances<'a> {
    pub(super) fn new(a: &'a Features, b: &'a Features) -> Self {
        let squares = [a, b].map(|set| set.iter().map(|row| dot(row, row)).collect());
        Self { a, b, squares }
    }

    /// For each row `i` of `a`: `reduce(i, bounds)`, where the `j`-th bounds enclose [`exact`](Self::exact) of `i`, `j`.
    pub(super) fn for_each_row<R: Send>(&self, reduce: impl Fn(usize, &[Bounds]) -> R + Sync) -> Vec<R> {
        for_each_row(self.a, self.b, |i, products| {
            let squares = self.squares[1].iter().zip(products);
            let bounds: Vec<_> =
                squares.map(|(square, product)| self.bounds(self.squares[0][i] + square, *product)).collect();
            reduce(i, &bounds)
        })
    }

    /// `|a_i − b_j|²`, from the differences: exactly zero for equal rows, where `|x|² − 2 x·y + |y|²` leaves rounding noise.
    pub(super) fn exact(&self, i: usize, j: usize) -> f64 {
        sum(self.a.row(i), self.b.row(j), |x, y| (x - y) * (x - y))
    }

    /// From `|x|² + |y|²` and `x·y`.
    ///
    /// A sum of `d` products is off by at most `d u` of the sum of their sizes, with `u = ε / 2`. The three sums here and
    /// the one of [`exact`](Self::exact) make that `4 (d + 2) u (|x|² + |y|²)`: half of what is allowed. The smallest
    /// number stands for products too small to be normal.
    fn bounds(&self, squares: f64, product: f64) -> Bounds {
        let distance = squares - 2.0 * product;
        let error = 4.0 * (self.a.columns() + 8) as f64 * f64::EPSILON * squares + f64::MIN_POSITIVE;
        if distance.is_finite() && error.is_finite() {
            Bounds { least: distance - error, most: distance + error }
        } else {
            Bounds { least: f64::NEG_INFINITY, most: f64::INFINITY }
        }
    }
}

/// An interval that a number lies in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) least: f64,
    pub(super) most: f64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fixture::noise;
    use super::*;

    /// Sets that matrix products are good and bad at: rows near and far from the origin, equal, tiny, and so large that
    /// their squares overflow.
    pub(in super::super) fn sets() -> Vec<[Features; 2]> {
        let of = |scale: f64, shift: f64| {
            [1, 2].map(|seed| {
                let rows = noise(150, 19, seed);
                Features::new(150, 19, rows.iter().flatten().map(|x| scale * x + shift).collect()).unwrap()
            })
        };
        let repeated = noise(30, 19, 3).select(&(0..150).map(|row| row % 30).collect::<Vec<_>>());
        vec![of(1.0, 0.0), of(1.0, 1e7), of(1e-160, 0.0), of(1e160, 0.0), [repeated.clone(), repeated]]
    }

    #[test]
    fn bounds_enclose_every_distance() {
        for [a, b] in sets() {
            let distances = Distances::new(&a, &b);
            let inside = |i: usize, j: usize, Bounds { least, most }: Bounds| {
                let exact = distances.exact(i, j);
                least <= exact && exact <= most
            };
            let found = distances.for_each_row(|i, bounds| bounds.iter().enumerate().all(|(j, b)| inside(i, j, *b)));
            assert_eq!(found, [true; 150]);
        }
    }

    #[test]
    fn bounds_are_narrow() {
        let [a, b] = &sets()[0];
        let widths =
            Distances::new(a, b).for_each_row(|_, all| all.iter().map(|b| b.most - b.least).fold(0.0, f64::max));
        assert!(widths.iter().all(|width| *width < 1e-11), "{widths:?}");
    }
}
