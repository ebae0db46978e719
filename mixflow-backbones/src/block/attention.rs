//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use crate::Linear;
use crate::block::{HeadNorm, NormKind, Projection, SplitProjection};
use crate::embed::{RotaryTable, Rotation};
use crate::init::Initializer;
use crate::ops::{self, Recomputed};
use crate::precision::product_type;

/// Self-attention: of all tokens to all, or causal; with queries and keys normalised within their heads and turned by
/// their places, where a network does that.
///
/// `P` is what makes queries, keys and values: one layer, or [`SplitProjection`].
#[derive(Module, Debug)]
pub struct Attention<P: Module = Linear> {
    /// `width` to queries, keys and values of `heads` times `d` numbers each.
    pub qkv: P,
    /// Of queries.
    pub q_norm: Option<HeadNorm>,
    /// Of keys.
    pub k_norm: Option<HeadNorm>,
    /// `heads d` to `width`
    pub proj: Linear,
    heads: usize,
    #[module(skip)]
    scores: AttentionModuleOptions,
}

/// [`Attention`] whose queries, keys and values are stored apart.
pub type SplitAttention = Attention<SplitProjection>;

impl<P: Projection> Attention<P> {
    /// Layers from `linear`, which is given the numbers of inputs and outputs; the last is that of `proj`.
    pub fn new(width: usize, heads: usize, linear: impl Fn(usize, usize) -> Linear) -> Self {
        Self::of(P::new(width, &linear), linear(width, width), heads)
    }

    /// Of these layers.
    pub fn of(qkv: P, proj: Linear, heads: usize) -> Self {
        Self { qkv, q_norm: None, k_norm: None, proj, heads, scores: AttentionModuleOptions::default() }
    }

    /// The same with queries and keys normalised.
    ///
    /// # Source
    /// Dehghani et al. 2023 (arXiv 2302.05442), section 2; `qk_norm` of timm 0.9.16.
    #[must_use]
    pub fn with_qk_norm(self, kind: NormKind, init: &Initializer) -> Self {
        let norm = || Some(HeadNorm::new(self.head_width(), kind, init));
        Self { q_norm: norm(), k_norm: norm(), ..self }
    }

    /// The same with another number added to the mean square in norms of queries and keys.
    #[must_use]
    pub fn with_qk_epsilon(self, epsilon: f64) -> Self {
        let [q_norm, k_norm] = [self.q_norm, self.k_norm].map(|norm| norm.map(|norm| norm.with_epsilon(epsilon)));
        Self { q_norm, k_norm, ..self }
    }

    /// The same with other scores: causal, or of another scale than `1 / √d`.
    #[must_use]
    pub fn with_scores(self, scores: AttentionModuleOptions) -> Self {
        Self { scores, ..self }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - places: of as many tokens
    pub fn forward(&self, x: impl Into<Recomputed>, places: Option<&RotaryTable>) -> Recomputed {
        if self.scores != AttentionModuleOptions::default() || self.qkv.is_grouped() {
            return self.forward_biased(x.into().value(), places.map(RotaryTable::rotation).as_ref(), None).into();
        }
        self.proj.forward_of(self.attend(self.packed_qkv(x.into(), places)))
    }

    /// [`ops::attention`] of packed queries, keys and values, multiplied in the type of the layers' weights:
    /// `[batch, tokens, 3 heads d]` to `[batch, tokens, heads d]`, in that type.
    pub fn attend(&self, packed: Recomputed) -> Recomputed {
        let low = product_type(&self.proj.weight);
        ops::attention_of(packed.map(move |packed| packed.cast(low)), self.heads)
    }

    /// Queries, keys and values as [`ops::attention`] takes them, normalised and turned: `[batch, tokens, width]` to
    /// `[batch, tokens, 3 heads d]`.
    pub fn packed_qkv(&self, x: Recomputed, places: Option<&RotaryTable>) -> Recomputed {
        self.normed_and_rotated(self.qkv.packed(x), places.map(RotaryTable::rotation).as_ref())
    }

    /// The same of queries, keys and values that are there, perhaps those of other layers:
    /// `[batch, tokens, 3 heads d]`, as the output.
    pub fn normed_and_rotated(&self, qkv: Recomputed, places: Option<&Rotation>) -> Recomputed {
        let qkv = HeadNorm::queries_and_keys(&self.q_norm, &self.k_norm, qkv, self.heads);
        match places {
            Some(rotation) => rotation.turn(qkv, 2 * self.heads),
            None => qkv,
        }
    }

    /// [`forward`](Self::forward) with numbers added to the scores, by Burn's operation.
    ///
    /// # Shapes
    /// - bias: `[1 or batch, 1 or heads, tokens, tokens]`, of a query (row) for a key (column); minus infinity hides a key
    pub fn forward_biased(&self, x: Tensor<3>, places: Option<&Rotation>, bias: Option<Tensor<4>>) -> Tensor<3> {
        let ([batch, tokens, _], heads, width) = (x.dims(), self.heads, self.head_width());
        let part = |x: Tensor<3>, norm: &Option<HeadNorm>, places: Option<&Rotation>| {
            let (shape, own) = (x.dims(), x.dims()[2] / width);
            let x = norm.iter().fold(x, |x, norm| norm.forward(x.reshape([batch, tokens, own, width])).reshape(shape));
            let x = places.iter().fold(x, |x, places| places.turn(x.into(), own).value());
            let x = x.reshape([batch, tokens, own, 1, width]).repeat_dim(3, heads / own);
            x.reshape([batch, tokens, heads, width]).swap_dims(1, 2) // [batch, heads, tokens, d]
        };
        let [q, k, v] = self.qkv.apart(x);
        let (q, k, v) = (part(q, &self.q_norm, places), part(k, &self.k_norm, places), part(v, &None, None));
        let y = attention(q, k, v, None, bias, self.scores).swap_dims(1, 2);
        self.proj.forward(y.reshape([batch, tokens, heads * width]))
    }

    fn head_width(&self) -> usize {
        self.proj.weight.lazy_shape()[1] / self.heads
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Device;

    use super::*;
    use crate::init::laws::numbers;

    /// Of 6 tokens, in 4 heads of 8 numbers.
    fn attention(init: &Initializer) -> SplitAttention {
        Attention::new(32, 4, |inputs, outputs| init.pytorch_linear(inputs, outputs))
    }

    fn assert_same(a: Tensor<3>, b: Tensor<3>) {
        // Sums of up to 32 products of numbers about 1.
        let apart = (a - b).abs().max().into_scalar::<f32>();
        assert!(apart < 1e-5, "{apart}");
    }

    #[test]
    fn every_way_to_compute_it_is_the_same() {
        let init = Initializer::new(3, &Device::default());
        let x = numbers([2, 6, 32], init.device());
        let places = RotaryTable::new(&[2, 3], 8, &init);
        for kind in [NormKind::Rms, NormKind::Layer] {
            let split = attention(&init).with_qk_norm(kind, &init);
            let parts = [&split.qkv.query, &split.qkv.key, &split.qkv.value];
            let cat = |parts: Vec<Tensor<2>>| Param::from_tensor(Tensor::cat(parts, 0).detach());
            let bias = parts.iter().filter_map(|part| part.bias.as_ref().map(|bias| bias.val().unsqueeze_dim(1)));
            let qkv = Linear {
                weight: cat(parts.map(|part| part.weight.val()).into()),
                bias: Some(Param::from_tensor(cat(bias.collect()).val().squeeze_dim(1))),
            };
            let packed = Attention {
                q_norm: split.q_norm.clone(),
                k_norm: split.k_norm.clone(),
                ..Attention::of(qkv, split.proj.clone(), 4)
            };
            let expected = split.forward(x.clone(), Some(&places)).value();
            assert_same(packed.forward(x.clone(), Some(&places)).value(), expected.clone());
            let places = places.rotation();
            assert_same(packed.forward_biased(x.clone(), Some(&places), None), expected.clone());
            assert_same(split.forward_biased(x.clone(), Some(&places), None), expected);
        }
    }

    #[test]
    fn grouped_queries_share_the_keys_and_values_of_their_group() {
        let init = Initializer::new(3, &Device::default());
        let x = numbers([2, 6, 32], init.device());
        let mut grouped = attention(&init);
        let mut whole = grouped.clone();
        let few = || init.pytorch_linear(32, 16);
        (grouped.qkv.key, grouped.qkv.value) = (few(), few());
        let twice = |x: Tensor<2>| x.reshape([2, 1, 8, -1]).repeat_dim(1, 2).reshape([32, -1]);
        for (few, all) in [(&grouped.qkv.key, &mut whole.qkv.key), (&grouped.qkv.value, &mut whole.qkv.value)] {
            all.weight = Param::from_tensor(twice(few.weight.val()).detach());
            all.bias = few
                .bias
                .as_ref()
                .map(|bias| Param::from_tensor(twice(bias.val().unsqueeze_dim(1)).squeeze_dim(1).detach()));
        }
        assert_same(grouped.forward(x.clone(), None).value(), whole.forward(x, None).value());
    }

    #[test]
    fn causal_attention_does_not_look_ahead() {
        let init = Initializer::new(3, &Device::default());
        let x = numbers([1, 6, 32], init.device());
        let causal = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let network = attention(&init).with_scores(causal);
        let whole = network.forward(x.clone(), None).value();
        for tokens in 1..6 {
            let first = network.forward(x.clone().narrow(1, 0, tokens), None).value();
            assert_same(first, whole.clone().narrow(1, 0, tokens));
        }
    }
}
