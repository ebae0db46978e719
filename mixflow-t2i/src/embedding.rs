//! What a network is told of a prompt.

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
        Self { tokens, pooled, null }
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
    pub fn against(self, null: Self) -> Self {
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
        Self { tokens: self.tokens.select(0, rows.clone()), pooled: self.pooled.select(0, rows), null }
    }

    fn on(self, device: &Device) -> Self {
        let Null { tokens, pooled } = self.null;
        let null = Null { tokens: tokens.to_device(device), pooled: pooled.to_device(device) };
        Self { tokens: self.tokens.to_device(device), pooled: self.pooled.to_device(device), null }
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
        let empty = prompts(1.0, 3).against(prompts(7.0, 1));
        assert_eq!(numbers(empty.clone().null()), [7.0; 3]);
        assert_eq!(numbers(empty.mask(mask([true, false, false]))), [7.0, 2.0, 3.0]);
    }

    #[test]
    fn negative_prompts_stay_with_their_prompts() {
        let rows = Tensor::from_data([2, 0], &Device::default());
        let text = prompts(1.0, 3).against(prompts(7.0, 3));
        assert_eq!(numbers(text.clone().null()), [7.0, 8.0, 9.0]);
        let selected = text.select(rows);
        assert_eq!(numbers(selected.clone()), [3.0, 1.0]);
        assert_eq!(numbers(selected.null()), [9.0, 7.0]);
    }

    #[test]
    #[should_panic(expected = "2 null prompts for 3 prompts")]
    fn null_prompts_are_one_or_as_many() {
        let _ = prompts(1.0, 3).against(prompts(7.0, 2));
    }
}
