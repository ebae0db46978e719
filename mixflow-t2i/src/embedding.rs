//! What a network is told of a prompt.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bool, Device, Int, Tensor};
use mixflow::backbones::Condition;

/// What text encoders say of a batch of prompts, and of the prompt that stands for none.
#[derive(Clone, Debug)]
pub struct TextEmbedding {
    /// `[batch, tokens, width]`: what there is to attend to.
    pub tokens: Tensor<3>,
    /// `[batch, pooled]`: the prompt as a whole.
    pub pooled: Tensor<2>,
    null: Null,
    /// What each of several encoders says; none where one says all.
    parts: Arc<[EncoderSlice]>,
}

/// What one of several encoders says of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderSlice {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Which channels of these.
    pub channels: Range<usize>,
    /// Which channels of the prompt as a whole.
    pub pooled: Range<usize>,
}

/// One row, or as many as the prompts are.
#[derive(Clone, Debug)]
struct Null {
    tokens: Tensor<3>,
    pooled: Tensor<2>,
}

impl TextEmbedding {
    /// Prompts against none: the null condition is zeros, as Stable Diffusion 3 was trained with.
    ///
    /// # Shapes
    /// - tokens: `[batch, tokens, width]`
    /// - pooled: `[batch, pooled]`
    ///
    /// # Panics
    /// If they differ in the number of prompts.
    ///
    /// # Source
    /// Esser et al. 2024 (arXiv 2403.03206), appendix B.3.
    pub fn new(tokens: Tensor<3>, pooled: Tensor<2>) -> Self {
        let ([prompts, length, width], [rows, pooled_width]) = (tokens.dims(), pooled.dims());
        assert_eq!(prompts, rows, "{prompts} rows of tokens, {rows} pooled");
        let null = Null {
            tokens: Tensor::zeros([1, length, width], (&tokens.device(), tokens.dtype())),
            pooled: Tensor::zeros([1, pooled_width], (&pooled.device(), pooled.dtype())),
        };
        Self { tokens, pooled, null, parts: [].into() }
    }

    /// The same by several encoders, each of which can be left out in training.
    ///
    /// # Panics
    /// If a part is beyond what is said.
    #[must_use]
    pub fn with_parts(self, parts: impl Into<Arc<[EncoderSlice]>>) -> Self {
        let (parts, [_, tokens, width], [_, pooled]) = (parts.into(), self.tokens.dims(), self.pooled.dims());
        let most = [tokens, width, pooled];
        let within = |part: &EncoderSlice| {
            [&part.tokens, &part.channels, &part.pooled].iter().zip(most).all(|(of, most)| of.end <= most)
        };
        assert!(parts.iter().all(within), "parts {parts:?} of {tokens} tokens of {width} and {pooled} pooled numbers");
        Self { parts, ..self }
    }

    /// Prompts of tokens alone, for networks that read no vector of the whole: it is one zero.
    ///
    /// # Shapes
    /// - tokens: `[batch, tokens, width]`
    pub fn of_tokens(tokens: Tensor<3>) -> Self {
        let pooled = Tensor::zeros([tokens.dims()[0], 1], (&tokens.device(), tokens.dtype()));
        Self::new(tokens, pooled)
    }

    /// The same against `null`: the empty prompt, or negative prompts. One row for all prompts, or one for each.
    ///
    /// # Panics
    /// If `null` has another number of rows, or rows of another shape.
    #[must_use]
    pub fn with_negative(self, null: Self) -> Self {
        let ([batch, length, width], [rows, null_length, null_width]) = (self.tokens.dims(), null.tokens.dims());
        assert!(rows == 1 || rows == batch, "{rows} null prompts for {batch} prompts: expected one, or one for each");
        assert_eq!([length, width], [null_length, null_width], "shape of a prompt and of a null prompt");
        assert_eq!(self.pooled.dims()[1], null.pooled.dims()[1], "pooled width of a prompt and of a null prompt");
        Self { null: Null { tokens: null.tokens, pooled: null.pooled }, ..self }
    }

    /// The number of prompts.
    pub fn batch(&self) -> usize {
        self.tokens.dims()[0]
    }
}

impl Null {
    /// As many rows as there are prompts.
    fn rows(&self, batch: usize) -> Self {
        if self.tokens.dims()[0] == batch {
            return self.clone();
        }
        Self { tokens: self.tokens.clone().repeat_dim(0, batch), pooled: self.pooled.clone().repeat_dim(0, batch) }
    }
}

impl Condition for TextEmbedding {
    fn mask(self, mask: Tensor<1, Bool>) -> Self {
        let Null { tokens, pooled } = self.null.rows(self.batch());
        Self {
            tokens: self.tokens.clone().mask_where(mask.clone().reshape([-1, 1, 1]).expand(tokens.shape()), tokens),
            pooled: self.pooled.clone().mask_where(mask.reshape([-1, 1]).expand(pooled.shape()), pooled),
            ..self
        }
    }

    fn mask_part(self, part: usize, mask: Tensor<1, Bool>) -> Self {
        if self.parts.is_empty() {
            assert_eq!(part, 0, "a prompt that one encoder tells of");
            return self.mask(mask);
        }
        let (null, EncoderSlice { tokens, channels, pooled }) =
            (self.null.rows(self.batch()), self.parts[part].clone());
        let (mut told, rows) = (self, 0..mask.dims()[0]);
        // A part of no numbers is no slice.
        if !tokens.is_empty() && !channels.is_empty() {
            let place = [rows.clone(), tokens, channels];
            let none = null.tokens.slice(place.clone());
            let mask = mask.clone().reshape([-1, 1, 1]).expand(none.shape());
            let own = told.tokens.clone().slice(place.clone()).mask_where(mask, none);
            told.tokens = told.tokens.slice_assign(place, own);
        }
        if !pooled.is_empty() {
            let place = [rows, pooled];
            let none = null.pooled.slice(place.clone());
            let own =
                told.pooled.clone().slice(place.clone()).mask_where(mask.reshape([-1, 1]).expand(none.shape()), none);
            told.pooled = told.pooled.slice_assign(place, own);
        }
        told
    }

    fn null(self) -> Self {
        let Null { tokens, pooled } = self.null.rows(self.batch());
        Self { tokens, pooled, ..self }
    }

    fn select(self, rows: Tensor<1, Int>) -> Self {
        let null = match self.null.tokens.dims()[0] {
            1 => self.null,
            _ => Null {
                tokens: self.null.tokens.select(0, rows.clone()),
                pooled: self.null.pooled.select(0, rows.clone()),
            },
        };
        Self { tokens: self.tokens.select(0, rows.clone()), pooled: self.pooled.select(0, rows), null, ..self }
    }

    fn on(self, device: &Device) -> Self {
        let Null { tokens, pooled } = self.null;
        let null = Null { tokens: tokens.to_device(device), pooled: pooled.to_device(device) };
        Self { tokens: self.tokens.to_device(device), pooled: self.pooled.to_device(device), null, ..self }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Prompt `i` is filled with `first + i`: two tokens of two numbers, one number pooled.
    fn prompts(first: f32, batch: usize) -> TextEmbedding {
        let values: Vec<f32> = (0..batch).map(|i| first + i as f32).collect();
        let values = Tensor::<1>::from_data(values.as_slice(), &Device::default());
        let tokens = values.clone().reshape([-1, 1, 1]).expand([batch, 2, 2]);
        TextEmbedding::new(tokens, values.reshape([-1, 1]))
    }

    /// What each prompt is filled with.
    fn numbers(text: TextEmbedding) -> Vec<f32> {
        let pooled: Vec<f32> = text.pooled.into_data().iter().collect();
        let tokens: Vec<f32> = text.tokens.into_data().iter().collect();
        assert_eq!(tokens, pooled.iter().flat_map(|&number| [number; 4]).collect::<Vec<_>>());
        pooled
    }

    fn mask(rows: [bool; 3]) -> Tensor<1, Bool> {
        Tensor::from_data(rows, &Device::default())
    }

    #[test]
    fn none_is_zeros_or_what_it_is_said_to_be() {
        assert_eq!(numbers(prompts(1.0, 3).null()), [0.0; 3]);
        assert_eq!(numbers(prompts(1.0, 3).mask(mask([false, true, false]))), [1.0, 0.0, 3.0]);
        let empty = prompts(1.0, 3).with_negative(prompts(7.0, 1));
        assert_eq!(numbers(empty.clone().null()), [7.0; 3]);
        assert_eq!(numbers(empty.mask(mask([true, false, false]))), [7.0, 2.0, 3.0]);
    }

    #[test]
    fn negative_prompts_stay_with_their_prompts() {
        let rows = Tensor::from_data([2, 0], &Device::default());
        let text = prompts(1.0, 3).with_negative(prompts(7.0, 3));
        assert_eq!(numbers(text.clone().null()), [7.0, 8.0, 9.0]);
        let selected = text.select(rows);
        assert_eq!(numbers(selected.clone()), [3.0, 1.0]);
        assert_eq!(numbers(selected.null()), [9.0, 7.0]);
    }

    /// Of two encoders, the second says the last token's second number and nothing of the whole.
    #[test]
    fn what_one_encoder_says_is_none_by_itself() {
        let part = |tokens, channels, pooled| EncoderSlice { tokens, channels, pooled };
        let text = prompts(1.0, 3).with_negative(prompts(7.0, 1));
        let text = text.with_parts([part(0..1, 0..2, 0..1), part(1..2, 1..2, 0..0)]);
        let found = |text: TextEmbedding| {
            [text.tokens.into_data().iter::<f32>().collect::<Vec<_>>(), text.pooled.into_data().iter::<f32>().collect()]
        };
        let rows = || mask([true, false, true]);
        let first = [vec![7.0, 7.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 7.0, 7.0, 3.0, 3.0], vec![7.0, 2.0, 7.0]];
        let second = [vec![1.0, 1.0, 1.0, 7.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 7.0], vec![1.0, 2.0, 3.0]];
        assert_eq!([0, 1].map(|part| found(text.clone().mask_part(part, rows()))), [first, second]);
        let both = text.clone().mask_part(0, rows()).mask_part(1, rows());
        // The second token's first number belongs to neither.
        assert_eq!(found(both)[0][..4], [7.0, 7.0, 1.0, 7.0]);
        // One that says all is dropped as a whole.
        assert_eq!(numbers(prompts(1.0, 3).mask_part(0, rows())), [0.0, 2.0, 0.0]);
        // What is selected or moved has its parts still.
        let moved = text.select(Tensor::from_data([2], &Device::default())).on(&Device::default());
        assert_eq!(found(moved.mask_part(1, mask_one()))[0], [3.0, 3.0, 3.0, 7.0]);
    }

    fn mask_one() -> Tensor<1, Bool> {
        Tensor::from_data([true], &Device::default())
    }

    #[test]
    #[should_panic(expected = "2 null prompts for 3 prompts")]
    fn null_prompts_are_one_or_as_many() {
        let _ = prompts(1.0, 3).with_negative(prompts(7.0, 2));
    }
}
