//! Tables of positions for another grid.

use burn::tensor::Tensor;

use crate::resize::{Filter, resize};

/// A square table of positions at another grid, rows and columns.
///
/// # Shapes
/// - table: `[1, side * side, width]`, row-major
/// - returns: `[1, grid[0] * grid[1], width]`
pub fn resize_positions(table: Tensor<3>, grid: [usize; 2], filter: Filter) -> Tensor<3> {
    let [_, positions, width] = table.dims();
    let side = positions.isqrt();
    if grid == [side, side] {
        return table;
    }
    let planes = table.swap_dims(1, 2).reshape([1, width, side, side]);
    resize(planes, grid, filter).reshape([1, width, grid[0] * grid[1]]).swap_dims(1, 2)
}
