//! What a transformer with a class token reads.

use burn::tensor::Tensor;

use crate::embed::PatchEmbedding;
use crate::resize::Filter;
use crate::vit::resize_positions;

/// Tokens that belong to no patch, then the patches of images; and how many the former are.
///
/// The class token has the first position, registers have none, patches have the others, resized to their grid.
///
/// # Shapes
/// - images: `[batch, channels, height, width]`
/// - positions: `[1, 1 + positions, width]`
/// - class: `[1, 1, width]`
/// - registers: `[1, registers, width]`
/// - returns: `[batch, 1 + registers + patches, width]`
pub(super) fn embed(
    patch: &PatchEmbedding,
    images: Tensor<4>,
    positions: Tensor<3>,
    filter: Filter,
    class: Tensor<3>,
    registers: Option<Tensor<3>>,
) -> (Tensor<3>, usize) {
    let [batch, _, height, length] = images.dims();
    let side = patch.proj.weight.val().dims()[2];
    let table = resize_positions(positions.clone().slice_dim(1, 1..), [height / side, length / side], filter);
    let class = class + positions.slice_dim(1, 0..1);
    let extra = Tensor::cat([Some(class), registers].into_iter().flatten().collect(), 1);
    let [_, count, width] = extra.dims();
    (Tensor::cat(vec![extra.expand([batch, count, width]), patch.forward(images) + table], 1), count)
}
