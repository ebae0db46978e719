//! Networks that are read block after block.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::Precision;
use mixflow::backbones::weights::Weights;

use crate::Error;

/// A network that only computes, with what is rounded alone.
pub(super) fn cast_blocks<M: Module>(network: M, precision: Precision) -> M {
    if precision.is_full() { network } else { precision.of_blocks(network).materialize() }
}

/// All but the blocks of `network` with its values, and the blocks, which are called `blocks`, as they are read and rounded.
///
/// # Errors
/// If `weights` are not those of the network, before any value is read.
pub(super) fn stream_blocks<N: Module, B: Module>(
    mut network: N,
    blocks: fn(&mut N) -> &mut Vec<B>,
    weights: Weights,
    key: fn(&str) -> String,
    precision: Precision,
) -> Result<(N, impl Iterator<Item = Result<B, Error>>), Error> {
    weights.check(&network, key)?;
    let blocks = std::mem::take(blocks(&mut network));
    let rest = weights.fill(network, key)?;
    let blocks = blocks.into_iter().enumerate().map(move |(index, block)| {
        let block = weights.fill(block, |path| key(&format!("blocks.{index}.{path}")))?;
        Ok::<_, Error>(cast_blocks(block, precision))
    });
    Ok((rest, blocks))
}

/// What comes out of blocks, of which one is in memory at a time; they see `batch` rows at a time.
///
/// # Shapes
/// - x and output: `[rows, tokens, width]`
/// - bias: `[1 or rows, 1 or heads, tokens, tokens]`, as attention takes it
pub(super) fn run_blocks<B>(
    blocks: impl Iterator<Item = Result<B, Error>>,
    mut x: Tensor<3>,
    bias: Tensor<4>,
    batch: usize,
    forward: impl Fn(&B, Tensor<3>, Tensor<4>) -> Tensor<3>,
) -> Result<Tensor<3>, Error> {
    let biases = match bias.dims()[0] {
        1 => vec![bias; x.dims()[0].div_ceil(batch)],
        _ => bias.split(batch, 0),
    };
    for block in blocks {
        let block = block?;
        let rows = x.split(batch, 0).into_iter().zip(&biases).map(|(x, bias)| forward(&block, x, bias.clone()));
        x = Tensor::cat(rows.collect(), 0);
    }
    Ok(x)
}
