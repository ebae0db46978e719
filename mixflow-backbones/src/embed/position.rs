//! Places in a grid as vectors.

use burn::tensor::{Device, Tensor, TensorData};

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
    let of_axis = sin_cos(rows.max(columns), spacing, width);
    let place = |index: usize| &of_axis[index * width / 2..][..width / 2];
    (0..rows).flat_map(|row| (0..columns).flat_map(move |column| [place(column), place(row)].concat())).collect()
}

/// [`sin_cos_2d`] as `[rows columns, width]` on a device, where grids are of many sizes: what is computed and sent is one axis.
///
/// # Panics
/// Unless `width` is a multiple of four.
pub fn sin_cos_2d_on([rows, columns]: [usize; 2], width: usize, device: &Device) -> Tensor<2> {
    let (places, half) = (rows.max(columns), width / 2);
    let of_axis: Tensor<2> = Tensor::from_data(TensorData::new(sin_cos(places, 1.0, width), [places, half]), device);
    let column = of_axis.clone().narrow(0, 0, columns).reshape([1, columns, half]).expand([rows, columns, half]);
    let row = of_axis.narrow(0, 0, rows).reshape([rows, 1, half]).expand([rows, columns, half]);
    Tensor::cat(vec![column, row], 2).reshape([rows * columns, width])
}

/// Half a vector for each of so many places of an axis.
fn sin_cos(places: usize, spacing: f64, width: usize) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "a position table needs a width divisible by 4, found {width}");
    let quarter = width / 4;
    let half = |place: usize| {
        let angle = move |k: usize| place as f64 * spacing * 10_000f64.powf(-(k as f64) / quarter as f64);
        let (sines, cosines) = ((0..quarter).map(move |k| angle(k).sin()), (0..quarter).map(move |k| angle(k).cos()));
        sines.chain(cosines).map(|value| value as f32)
    };
    (0..places).flat_map(half).collect()
}
