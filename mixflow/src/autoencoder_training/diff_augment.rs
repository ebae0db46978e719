//! What a discriminator's images are changed by.

use burn::tensor::{Tensor, TensorData};

use crate::random::{self, Stream};

/// Random shifts and colours of images before a discriminator sees them, through which gradients pass.
///
/// # Source
/// Zhao et al. 2020 (arXiv 2006.10738); RAE `src/disc/diffaug.py` at a4d18c4, whose cut-out is switched off.
#[derive(Clone, Debug)]
pub struct DiffAugment {
    shift: bool,
    colour: bool,
    /// In [0, 1), for each image: of the shift down and right, of brightness, saturation and contrast.
    numbers: Vec<[f64; 5]>,
}

/// Which of the images of a step are changed; each has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Those that the decoder learns from.
    Decoder,
    /// Reconstructions that the discriminator learns from.
    Found,
    /// Real ones.
    Real,
}

/// Numbers that a view may take from the stream of a position.
const NUMBERS: usize = 7;

/// The largest shift, of a side.
const SHIFT: f64 = 0.125;

impl DiffAugment {
    /// Both changes of all images, by given numbers.
    pub fn new(numbers: Vec<[f64; 5]>) -> Self {
        Self { shift: true, colour: true, numbers }
    }

    /// What the images from the training position `first` on are changed by: each change with `probability`, for all of
    /// them or none.
    pub fn draw(probability: f64, seed: u64, first: u64, batch: usize, view: View) -> Self {
        let draw = |position| {
            let mut rng = random::rng(seed, Stream::DiffAugment, position);
            let mut numbers = (0..).map(|_| random::uniform(&mut rng)).skip(NUMBERS * view as usize);
            std::array::from_fn::<_, NUMBERS, _>(|_| numbers.next().expect("numbers have no end"))
        };
        let [shift, colour, ..] = draw(first);
        let numbers = (first..).take(batch).map(|position| {
            let [_, _, numbers @ ..] = draw(position);
            numbers
        });
        Self { shift: shift < probability, colour: colour < probability, numbers: numbers.collect() }
    }

    /// Changed images, of the same shape; what is moved in is 0, grey.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [-1, 1]
    pub fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        let images = if self.shift { self.shifted(images) } else { images };
        if self.colour { self.coloured(images) } else { images }
    }

    fn shifted(&self, images: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = images.dims();
        let [down, right] = [height, width].map(|side| (side as f64 * SHIFT).round_ties_even() as usize);
        let margin =
            |rows, columns| Tensor::zeros([batch, channels, rows, columns], (&images.device(), images.dtype()));
        let (above, beside) = (margin(down, width), margin(height + 2 * down, right));
        let padded = Tensor::cat(vec![above.clone(), images, above], 2);
        let padded = Tensor::cat(vec![beside.clone(), padded, beside], 3);
        // Where the image begins in the padded one: from 0 to twice the margin.
        let start = |u: f64, most: usize| ((u * (2 * most + 1) as f64) as usize).min(2 * most);
        let images = self.numbers.iter().enumerate().map(|(image, [y, x, ..])| {
            let (top, left) = (start(*y, down), start(*x, right));
            padded.clone().slice([image..image + 1, 0..channels, top..top + height, left..left + width])
        });
        Tensor::cat(images.collect(), 0)
    }

    fn coloured(&self, images: Tensor<4>) -> Tensor<4> {
        let number = |index: usize| {
            let values: Vec<f64> = self.numbers.iter().map(|numbers| numbers[index]).collect();
            let shape = [values.len(), 1, 1, 1];
            Tensor::<4>::from_data(TensorData::new(values, shape), (&images.device(), images.dtype()))
        };
        let (brightness, saturation, contrast) = (number(2) - 0.5, number(3) * 2.0, number(4) + 0.5);
        let images = images + brightness;
        let grey = images.clone().mean_dim(1);
        let images = (images - grey.clone()) * saturation + grey;
        let mean = images.clone().mean_dim(1).mean_dim(2).mean_dim(3);
        (images - mean.clone()) * contrast + mean
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn views_and_positions_have_their_own_numbers_and_batches_do_not_matter() {
        let draw = |first, batch, view| DiffAugment::draw(1.0, 3, first, batch, view).numbers;
        assert_eq!(draw(0, 4, View::Found)[2..], draw(2, 2, View::Found));
        assert_ne!(draw(0, 1, View::Found), draw(0, 1, View::Real));
        assert_ne!(draw(0, 1, View::Decoder), draw(1, 1, View::Decoder));
    }

    #[test]
    fn probability_zero_changes_nothing_and_one_half_half_of_the_batches() {
        let images = Tensor::<4>::ones([1, 3, 8, 8], &Device::default());
        let never = DiffAugment::draw(0.0, 1, 0, 1, View::Real);
        assert_eq!(never.apply(images.clone()).into_data(), images.into_data());
        let shifted = (0..400).filter(|first| DiffAugment::draw(0.5, 1, *first, 1, View::Real).shift).count();
        // Five standard deviations of a binomial law.
        assert!(shifted.abs_diff(200) < 50, "{shifted} of 400");
    }
}
