//! Normalisation of rows, by a factor and a shift for groups of rows.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{CHUNK, UNITS, each, each_row, element, empty, lanes, like, storage, tensor};

/// As [`ops::modulated_layer_norm`](super::super::modulated_layer_norm).
pub(in super::super) fn modulated_norm(x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>, epsilon: f64) -> Tensor<3> {
    let rows = Rows { tokens: x.dims()[1], normalised: x.dims()[0], centred: true, epsilon };
    apply(rows, x, (scale + 1.0).unsqueeze_dim(1), shift.unsqueeze_dim(1))
}

/// As [`ops::affine_layer_norm`](super::super::affine_layer_norm).
pub(in super::super) fn affine_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let rows = Rows { tokens: x.dims()[0] * x.dims()[1], normalised: 1, centred: true, epsilon };
    apply(rows, x, weight.unsqueeze(), bias.unsqueeze())
}

/// As [`ops::modulated_rms_norm`](super::super::modulated_rms_norm).
pub(in super::super) fn modulated_rms_norm(
    x: Tensor<3>,
    weight: Tensor<1>,
    shift: Tensor<2>,
    scale: Tensor<2>,
    epsilon: f64,
) -> Tensor<3> {
    let rows = Rows { tokens: x.dims()[1], normalised: x.dims()[0], centred: false, epsilon };
    apply(rows, x, (weight.unsqueeze() * (scale + 1.0)).unsqueeze_dim(1), shift.unsqueeze_dim(1))
}

/// As [`ops::qk_rms_norm`](super::super::qk_rms_norm): rows are heads, and values a third group that stays.
pub(in super::super) fn qk_rms_norm(
    qkv: Tensor<3>,
    queries: Tensor<1>,
    keys: Tensor<1>,
    heads: usize,
    epsilon: f64,
) -> Tensor<3> {
    let (shape, width) = (qkv.dims(), queries.dims()[0]);
    let rows = Rows { tokens: heads, normalised: 2, centred: false, epsilon };
    let values = queries.ones_like().detach();
    let factor = Tensor::stack::<2>(vec![queries, keys, values], 0).unsqueeze_dim(1);
    let shift = factor.zeros_like().detach();
    let all = shape.iter().product::<usize>() / (3 * heads * width);
    apply(rows, qkv.reshape([all, 3 * heads, width]), factor, shift).reshape(shape)
}

/// How the rows of a tensor `[.., width]` are normalised: `tokens` rows after another have one factor and shift, the next
/// those of the next group, and after the last group come the first's again.
#[derive(Clone, Copy)]
struct Rows {
    tokens: usize,
    /// Groups from the first that are normalised; others are multiplied and shifted only.
    normalised: usize,
    /// Whether means are subtracted.
    centred: bool,
    epsilon: f64,
}

/// - x: `[.., .., width]`
/// - factor, shift: `[groups, 1, width]`
fn apply(rows: Rows, x: Tensor<3>, factor: Tensor<3>, shift: Tensor<3>) -> Tensor<3> {
    node::apply_kernel::<Cube, _>(rows, vec![shift, x, factor])
}

impl Operation for Rows {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let [shift, x, factor]: [_; 3] = inputs.try_into().expect("there are three");
        let groups = factor.dims()[0];
        let [shift, x, factor] = [shift, x, factor].map(storage);
        let (rows, width) = size(&x);
        let (y, moments) = (like(&x), empty(&x, [rows, 1, 2], DType::F32));
        let lanes = lanes(&x, width);
        let (count, dim, units) = each_row(&x, rows, width / lanes);
        normalise::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            factor.into_tensor_arg(),
            shift.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            rows,
            width / lanes,
            self.tokens,
            groups,
            self.normalised,
            self.epsilon as f32,
            units,
            self.centred,
            element(x.dtype),
        );
        (tensor(y), vec![tensor(moments)])
    }

    /// One input: the shift, which no gradient depends on.
    fn forgets(&self) -> usize {
        1
    }

    fn backward(&self, kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let [x, factor, moments]: [_; 3] = kept.try_into().expect("there are three");
        let [groups, _, width] = factor.dims();
        let [x, factor, moments, gradient] = [x, factor, moments, gradient].map(storage);
        let of_x = wanted[1].then(|| self.of_rows(&x, factor, &moments, &gradient, groups));
        let [of_factor, of_shift] = if wanted[0] || wanted[2] {
            let dtype = x.dtype;
            self.of_groups(x, moments, gradient, [groups, width]).map(|sums| Some(sums.cast(dtype)))
        } else {
            [None, None]
        };
        vec![of_shift, of_x, of_factor]
    }
}

impl Rows {
    fn of_rows(
        &self,
        x: &CubeTensor,
        factor: CubeTensor,
        moments: &CubeTensor,
        gradient: &CubeTensor,
        groups: usize,
    ) -> Tensor<3> {
        let (rows, width) = size(x);
        let of_x = like(x);
        let lanes = lanes(x, width);
        let (count, dim, units) = each_row(x, rows, width / lanes);
        normalise_backward::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            factor.into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            gradient.clone().into_tensor_arg(),
            of_x.clone().into_tensor_arg(),
            rows,
            width / lanes,
            self.tokens,
            groups,
            self.normalised,
            units,
            self.centred,
            element(x.dtype),
        );
        tensor(of_x)
    }

    /// Gradients of factors and shifts, `[groups, 1, width]`, in 32 bits.
    fn of_groups(
        &self,
        x: CubeTensor,
        moments: CubeTensor,
        gradient: CubeTensor,
        [groups, width]: [usize; 2],
    ) -> [Tensor<3>; 2] {
        let each_group = size(&x).0 / groups;
        let chunks = each_group.div_ceil(CHUNK);
        let sums = [(); 2].map(|()| empty(&x, [groups, chunks, width], DType::F32));
        let lanes = lanes(&x, width);
        let (count, dim) = each(&x, groups * chunks * width / lanes);
        let [of_factor, of_shift] = sums.each_ref().map(|sums| sums.clone().into_tensor_arg());
        let dtype = element(x.dtype);
        sum_groups::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.into_tensor_arg(),
            moments.into_tensor_arg(),
            gradient.into_tensor_arg(),
            of_factor,
            of_shift,
            width / lanes,
            self.tokens,
            groups,
            each_group,
            chunks,
            dtype,
        );
        sums.map(|sums| tensor::<3>(sums).sum_dim(1))
    }
}

/// Rows, and numbers of each.
fn size(x: &CubeTensor) -> (usize, usize) {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width, width)
}

/// The row of a unit. Units past the last row do that again: all of a cube come to where they wait for each other.
#[cube]
fn own_row(rows: usize) -> usize {
    (CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize).min(rows - 1)
}

/// The sum of what all units of a row have, given to all of them.
#[cube]
fn total<N: Size>(own: Vector<f32, N>, sums: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let (place, unit) = (UNIT_POS as usize, UNIT_POS_X as usize);
    sync_cube();
    sums[place] = own.vector_sum();
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = sums[place + half];
            sums[place] += other;
        }
        half /= 2;
        sync_cube();
    }
    sums[place - unit]
}

/// Writes mean and inverse deviation of each row to `moments`, and `(x - mean) · inverse · factor + shift` to `y`; `width`
/// counts vectors.
#[cube(launch)]
fn normalise<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    factor: &Memory<Vector<E, N>>,
    shift: &Memory<Vector<E, N>>,
    y: &mut Memory<Vector<E, N>>,
    moments: &mut Memory<f32>,
    rows: usize,
    width: usize,
    tokens: usize,
    groups: usize,
    normalised: usize,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] centred: bool,
    #[define(E)] _element: ElemType,
) {
    let row = own_row(rows);
    let group = row / tokens % groups;
    let (start, place, unit) = (row * width, group * width, UNIT_POS_X as usize);
    let numbers = f32::cast_from(width * N::value());
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut mean = 0.0f32;
    if centred {
        let mut own = Vector::<f32, N>::new(0.0f32);
        let mut i = unit;
        while i < width {
            own += Vector::<f32, N>::cast_from(x[start + i]);
            i += units;
        }
        mean = total(own, &mut sums, units) / numbers;
    }
    let mut own = Vector::<f32, N>::new(0.0f32);
    let mut i = unit;
    while i < width {
        let value = Vector::<f32, N>::cast_from(x[start + i]) - Vector::new(mean);
        own += value * value;
        i += units;
    }
    let variance = total(own, &mut sums, units) / numbers;
    let mut inverse = 1.0 / (variance + epsilon).sqrt();
    if group >= normalised {
        mean = 0.0;
        inverse = 1.0;
    }
    let mut i = unit;
    while i < width {
        let value = (Vector::<f32, N>::cast_from(x[start + i]) - Vector::new(mean)) * Vector::new(inverse);
        let factor = Vector::<f32, N>::cast_from(factor[place + i]);
        y[start + i] = Vector::cast_from(value * factor + Vector::<f32, N>::cast_from(shift[place + i]));
        i += units;
    }
    if unit == 0 {
        moments[2 * row] = mean;
        moments[2 * row + 1] = inverse;
    }
}

/// Writes the gradient of each row without the part along 1 and along the row, which normalisation removes.
#[cube(launch)]
fn normalise_backward<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    factor: &Memory<Vector<E, N>>,
    moments: &Memory<f32>,
    gradient: &Memory<Vector<E, N>>,
    of_x: &mut Memory<Vector<E, N>>,
    rows: usize,
    width: usize,
    tokens: usize,
    groups: usize,
    normalised: usize,
    #[comptime] units: usize,
    #[comptime] centred: bool,
    #[define(E)] _element: ElemType,
) {
    let row = own_row(rows);
    let group = row / tokens % groups;
    let (start, place, unit) = (row * width, group * width, UNIT_POS_X as usize);
    let (mean, inverse) = (Vector::<f32, N>::new(moments[2 * row]), Vector::<f32, N>::new(moments[2 * row + 1]));
    let numbers = f32::cast_from(width * N::value());
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut own_one = Vector::<f32, N>::new(0.0f32);
    let mut own_row = Vector::<f32, N>::new(0.0f32);
    let mut i = unit;
    while i < width {
        let scaled = Vector::<f32, N>::cast_from(gradient[start + i]) * Vector::<f32, N>::cast_from(factor[place + i]);
        own_one += scaled;
        own_row += scaled * (Vector::<f32, N>::cast_from(x[start + i]) - mean) * inverse;
        i += units;
    }
    let mut along_one = 0.0f32;
    if centred {
        along_one = total(own_one, &mut sums, units) / numbers;
    }
    let mut along_row = total(own_row, &mut sums, units) / numbers;
    if group >= normalised {
        along_one = 0.0;
        along_row = 0.0;
    }
    let mut i = unit;
    while i < width {
        let scaled = Vector::<f32, N>::cast_from(gradient[start + i]) * Vector::<f32, N>::cast_from(factor[place + i]);
        let value = (Vector::<f32, N>::cast_from(x[start + i]) - mean) * inverse;
        let rest = scaled - Vector::new(along_one) - value * Vector::new(along_row);
        of_x[start + i] = Vector::cast_from(inverse * rest);
        i += units;
    }
}

/// A unit for a vector of columns of each chunk of a group's rows: sums of `gradient · value` and of `gradient`.
#[cube(launch)]
fn sum_groups<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    moments: &Memory<f32>,
    gradient: &Memory<Vector<E, N>>,
    of_factor: &mut Memory<Vector<f32, N>>,
    of_shift: &mut Memory<Vector<f32, N>>,
    width: usize,
    tokens: usize,
    groups: usize,
    each_group: usize,
    chunks: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= groups * chunks * width {
        terminate!();
    }
    let (column, chunk, group) = (place % width, place / width % chunks, place / width / chunks);
    let (first, mut last) = (chunk * CHUNK, (chunk + 1) * CHUNK);
    if last > each_group {
        last = each_group;
    }
    let mut factor = Vector::<f32, N>::new(0.0f32);
    let mut shift = Vector::<f32, N>::new(0.0f32);
    for k in first..last {
        let row = (k / tokens * groups + group) * tokens + k % tokens;
        let own = Vector::<f32, N>::cast_from(gradient[row * width + column]);
        let centred = Vector::<f32, N>::cast_from(x[row * width + column]) - Vector::new(moments[2 * row]);
        shift += own;
        factor += own * centred * Vector::new(moments[2 * row + 1]);
    }
    of_factor[place] = factor;
    of_shift[place] = shift;
}
