//! The blocks of the transformer.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::block::{Attention, FeedForward, NormKind, Projection, RmsNorm, SplitSwiGlu, recompute};
use mixflow::backbones::embed::Rotation;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::ops::Recomputed;

use super::{EPSILON, RotaryEmbeddings};

/// Attention and a perceptron, each on normalised tokens and added to them: a block of the text alone, or what image or text
/// have in a [`DoubleBlock`].
#[derive(Module, Debug)]
pub struct Stream {
    /// Before attention.
    pub norm1: RmsNorm,
    /// Attention. The text of a [`DoubleBlock`] has no norms of its own: queries and keys of both are normalised by the image's.
    pub attn: Attention,
    /// Before the perceptron.
    pub norm2: RmsNorm,
    /// The perceptron.
    pub mlp: SplitSwiGlu,
}

impl Stream {
    /// Of this width, number of heads and hidden width.
    pub fn new([width, heads, hidden]: [usize; 3], qk_norm: bool, init: &Initializer) -> Self {
        let attn = Attention::new(width, heads, |inputs, outputs| init.pytorch_linear(inputs, outputs));
        let xavier = |inputs, outputs| init.xavier_linear(inputs, outputs).without_bias();
        Self {
            norm1: RmsNorm::new(width, EPSILON, init),
            attn: if qk_norm { attn.with_qk_norm(NormKind::Rms, init) } else { attn },
            norm2: RmsNorm::new(width, EPSILON, init),
            mlp: SplitSwiGlu::new(width, hidden, xavier),
        }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>, places: &Rotation) -> Tensor<3> {
        let mixed = self.attn.attend(self.packed(&x, &self.attn, places));
        self.add(x, mixed)
    }

    /// Queries, keys and values of tokens, normalised by the norms of `attn` and turned by their places.
    fn packed(&self, x: &Tensor<3>, attn: &Attention, places: &Rotation) -> Recomputed {
        attn.normed_and_rotated(self.attn.qkv.packed(self.norm1.forward(x.clone())), Some(places))
    }

    /// Tokens after what attention gives them, and after the perceptron.
    fn add(&self, x: Tensor<3>, mixed: Recomputed) -> Tensor<3> {
        let x = x + self.attn.proj.forward_of(mixed).value();
        let y = self.mlp.forward(self.norm2.forward(x.clone()));
        x + y.value()
    }
}

/// A block in which image and text attend to each other.
#[derive(Module, Debug)]
pub struct DoubleBlock {
    /// Of the image.
    pub img: Stream,
    /// Of the text.
    pub txt: Stream,
    last: bool,
    recompute: bool,
}

impl DoubleBlock {
    /// Of this width, number of heads and hidden width. After the `last` block the text is not needed: layers that would
    /// change it are frozen there, for files to have them.
    pub fn new(sizes: [usize; 3], last: bool, init: &Initializer) -> Self {
        let (img, mut txt) = (Stream::new(sizes, true, init), Stream::new(sizes, false, init));
        if last {
            txt.attn.proj = txt.attn.proj.no_grad();
            txt = Stream { norm2: txt.norm2.no_grad(), mlp: txt.mlp.no_grad(), ..txt };
        }
        Self { img, txt, last, recompute: false }
    }

    /// The same block, which keeps its inputs alone for the backward pass: [`recompute`].
    #[must_use]
    pub fn recomputing(&self) -> Self {
        Self { recompute: true, ..self.clone() }
    }

    /// Image and text after this block; the last one leaves the text as it is.
    ///
    /// # Shapes
    /// - image, text and outputs: `[batch, tokens, width]`
    pub fn forward(&self, image: Tensor<3>, text: Tensor<3>, places: &RotaryEmbeddings) -> (Tensor<3>, Tensor<3>) {
        let [tokens, text_tokens] = [image.dims()[1], text.dims()[1]];
        if self.recompute {
            let (again, places) = (Self { recompute: false, ..self.clone() }, places.clone());
            let both = recompute(&again, image, text, move |block, image, text| {
                let (image, text) = block.forward(image, text, &places);
                Tensor::cat(vec![image, text], 1)
            });
            return (both.clone().narrow(1, 0, tokens), both.narrow(1, tokens, text_tokens));
        }
        let of_image = self.img.packed(&image, &self.img.attn, &places.image);
        let of_text = self.txt.packed(&text, &self.img.attn, &places.text);
        let both = of_image.zip_map(of_text, |image, text| Tensor::cat(vec![image, text], 1));
        let mixed = self.img.attn.attend(both);
        let image = self.img.add(image, mixed.clone().map(move |mixed| mixed.narrow(1, 0, tokens)));
        if self.last {
            return (image, text);
        }
        (image, self.txt.add(text, mixed.map(move |mixed| mixed.narrow(1, tokens, text_tokens))))
    }
}
