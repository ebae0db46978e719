//! What attention does not see.

use burn::tensor::{Device, Int, Tensor};

/// What scores gain where a mask `[batch, tokens]` is 1 for tokens and 0 for padding, `[batch, 1, tokens, tokens]`.
///
/// Padding gains the lowest finite number, as in Transformers: where all keys are hidden, all count equally.
pub(super) fn padding_bias(mask: Tensor<2, Int>) -> Tensor<4> {
    let [batch, tokens] = mask.dims();
    let scores = Tensor::<2>::zeros([batch, tokens], &mask.device()).mask_fill(mask.equal_elem(0), f32::MIN);
    scores.reshape([batch, 1, 1, tokens]).repeat_dim(2, tokens)
}

/// `tokens` `[batch, tokens, width]` with zeros in the place of padding.
pub(super) fn zeros_for_padding(tokens: Tensor<3>, mask: Tensor<2, Int>) -> Tensor<3> {
    let padding = mask.equal_elem(0).unsqueeze_dim::<3>(2).expand(tokens.shape());
    tokens.mask_fill(padding, 0.0)
}

/// What [`padding_bias`] says where no token sees those after it, `[1, 1, tokens, tokens]`.
pub(super) fn causal_bias(tokens: usize, device: &Device) -> Tensor<4> {
    let later = Tensor::tril_mask([tokens, tokens], 0, device);
    Tensor::<2>::zeros([tokens, tokens], device).mask_fill(later, f32::MIN).unsqueeze()
}
