//! Places in a grid as vectors.

/// Two-dimensional sine and cosine table, row-major over the grid.
///
/// The first half of a vector encodes the column, the second half the row; each half is `[sin | cos]` with
/// frequencies `10000^(-k / (width / 4))`. Returns `rows * columns * width` values.
///
/// # Panics
/// Unless `width` is a multiple of four.
///
/// # Source
/// SiT `models.py`, `get_2d_sincos_pos_embed`: the mesh puts width first.
pub fn sin_cos_2d(grid: [usize; 2], width: usize) -> Vec<f32> {
    sin_cos_2d_spaced(grid, 1.0, width)
}

/// [`sin_cos_2d`] of a grid whose neighbours are `spacing` apart.
///
/// # Panics
/// Unless `width` is a multiple of four.
pub fn sin_cos_2d_spaced([rows, columns]: [usize; 2], spacing: f64, width: usize) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "a position table needs a width divisible by 4, found {width}");
    let quarter = width / 4;
    let mut table = Vec::with_capacity(rows * columns * width);
    for row in 0..rows {
        for column in 0..columns {
            for place in [column, row].map(|index| index as f64 * spacing) {
                let angles = (0..quarter).map(|k| place * 10_000f64.powf(-(k as f64) / quarter as f64));
                table.extend(angles.clone().map(|angle| angle.sin() as f32));
                table.extend(angles.map(|angle| angle.cos() as f32));
            }
        }
    }
    table
}
