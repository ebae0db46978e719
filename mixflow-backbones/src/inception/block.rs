//! Branches side by side, joined along the channels.

use burn::module::Module;
use burn::tensor::Tensor;

use super::unit::{Unit, average_pool, max_pool};
use crate::init::Initializer;

/// `[inputs, 35, 35]` to `[224 + pool, 35, 35]`.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names of the published file")]
pub struct BlockA {
    pub branch1x1: Unit,
    pub branch5x5_1: Unit,
    pub branch5x5_2: Unit,
    pub branch3x3dbl_1: Unit,
    pub branch3x3dbl_2: Unit,
    pub branch3x3dbl_3: Unit,
    pub branch_pool: Unit,
}

impl BlockA {
    pub(super) fn new(inputs: usize, pool: usize, init: &Initializer) -> Self {
        let unit = |channels, kernel| Unit::same(channels, kernel, init);
        Self {
            branch1x1: unit([inputs, 64], [1, 1]),
            branch5x5_1: unit([inputs, 48], [1, 1]),
            branch5x5_2: unit([48, 64], [5, 5]),
            branch3x3dbl_1: unit([inputs, 64], [1, 1]),
            branch3x3dbl_2: unit([64, 96], [3, 3]),
            branch3x3dbl_3: unit([96, 96], [3, 3]),
            branch_pool: unit([inputs, pool], [1, 1]),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        join([
            chain(&x, [&self.branch1x1]),
            chain(&x, [&self.branch5x5_1, &self.branch5x5_2]),
            chain(&x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3]),
            self.branch_pool.forward(average_pool(x)),
        ])
    }
}

/// `[inputs, 35, 35]` to `[480 + inputs, 17, 17]`.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names of the published file")]
pub struct BlockB {
    pub branch3x3: Unit,
    pub branch3x3dbl_1: Unit,
    pub branch3x3dbl_2: Unit,
    pub branch3x3dbl_3: Unit,
}

impl BlockB {
    pub(super) fn new(inputs: usize, init: &Initializer) -> Self {
        Self {
            branch3x3: halving([inputs, 384], init),
            branch3x3dbl_1: Unit::same([inputs, 64], [1, 1], init),
            branch3x3dbl_2: Unit::same([64, 96], [3, 3], init),
            branch3x3dbl_3: halving([96, 96], init),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        join([
            chain(&x, [&self.branch3x3]),
            chain(&x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3]),
            max_pool(x, 2, 0),
        ])
    }
}

/// `[768, 17, 17]` to the same shape, through kernels of 7 x 1 and 1 x 7.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names of the published file")]
pub struct BlockC {
    pub branch1x1: Unit,
    pub branch7x7_1: Unit,
    pub branch7x7_2: Unit,
    pub branch7x7_3: Unit,
    pub branch7x7dbl_1: Unit,
    pub branch7x7dbl_2: Unit,
    pub branch7x7dbl_3: Unit,
    pub branch7x7dbl_4: Unit,
    pub branch7x7dbl_5: Unit,
    pub branch_pool: Unit,
}

impl BlockC {
    pub(super) fn new(width: usize, init: &Initializer) -> Self {
        let unit = |channels, kernel| Unit::same(channels, kernel, init);
        Self {
            branch1x1: unit([768, 192], [1, 1]),
            branch7x7_1: unit([768, width], [1, 1]),
            branch7x7_2: unit([width, width], [1, 7]),
            branch7x7_3: unit([width, 192], [7, 1]),
            branch7x7dbl_1: unit([768, width], [1, 1]),
            branch7x7dbl_2: unit([width, width], [7, 1]),
            branch7x7dbl_3: unit([width, width], [1, 7]),
            branch7x7dbl_4: unit([width, width], [7, 1]),
            branch7x7dbl_5: unit([width, 192], [1, 7]),
            branch_pool: unit([768, 192], [1, 1]),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch7x7dbl_1,
            &self.branch7x7dbl_2,
            &self.branch7x7dbl_3,
            &self.branch7x7dbl_4,
            &self.branch7x7dbl_5,
        ];
        join([
            chain(&x, [&self.branch1x1]),
            chain(&x, [&self.branch7x7_1, &self.branch7x7_2, &self.branch7x7_3]),
            chain(&x, double),
            self.branch_pool.forward(average_pool(x)),
        ])
    }
}

/// `[768, 17, 17]` to `[1280, 8, 8]`.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names of the published file")]
pub struct BlockD {
    pub branch3x3_1: Unit,
    pub branch3x3_2: Unit,
    pub branch7x7x3_1: Unit,
    pub branch7x7x3_2: Unit,
    pub branch7x7x3_3: Unit,
    pub branch7x7x3_4: Unit,
}

impl BlockD {
    pub(super) fn new(init: &Initializer) -> Self {
        Self {
            branch3x3_1: Unit::same([768, 192], [1, 1], init),
            branch3x3_2: halving([192, 320], init),
            branch7x7x3_1: Unit::same([768, 192], [1, 1], init),
            branch7x7x3_2: Unit::same([192, 192], [1, 7], init),
            branch7x7x3_3: Unit::same([192, 192], [7, 1], init),
            branch7x7x3_4: halving([192, 192], init),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let seven = [&self.branch7x7x3_1, &self.branch7x7x3_2, &self.branch7x7x3_3, &self.branch7x7x3_4];
        join([chain(&x, [&self.branch3x3_1, &self.branch3x3_2]), chain(&x, seven), max_pool(x, 2, 0)])
    }
}

/// `[inputs, 8, 8]` to `[2048, 8, 8]`.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names of the published file")]
pub struct BlockE {
    pub branch1x1: Unit,
    pub branch3x3_1: Unit,
    pub branch3x3_2a: Unit,
    pub branch3x3_2b: Unit,
    pub branch3x3dbl_1: Unit,
    pub branch3x3dbl_2: Unit,
    pub branch3x3dbl_3a: Unit,
    pub branch3x3dbl_3b: Unit,
    pub branch_pool: Unit,
    #[module(skip)]
    pool: Pool,
}

/// What comes before the last branch of a [`BlockE`]: a quirk of the published graph, whose last block differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// `Mixed_7b`
    Average,
    /// `Mixed_7c`
    Maximum,
}

impl BlockE {
    pub(super) fn new(inputs: usize, pool: Pool, init: &Initializer) -> Self {
        let unit = |channels, kernel| Unit::same(channels, kernel, init);
        Self {
            branch1x1: unit([inputs, 320], [1, 1]),
            branch3x3_1: unit([inputs, 384], [1, 1]),
            branch3x3_2a: unit([384, 384], [1, 3]),
            branch3x3_2b: unit([384, 384], [3, 1]),
            branch3x3dbl_1: unit([inputs, 448], [1, 1]),
            branch3x3dbl_2: unit([448, 384], [3, 3]),
            branch3x3dbl_3a: unit([384, 384], [1, 3]),
            branch3x3dbl_3b: unit([384, 384], [3, 1]),
            branch_pool: unit([inputs, 192], [1, 1]),
            pool,
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let single = chain(&x, [&self.branch3x3_1]);
        let double = chain(&x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2]);
        join([
            chain(&x, [&self.branch1x1]),
            chain(&single, [&self.branch3x3_2a]),
            chain(&single, [&self.branch3x3_2b]),
            chain(&double, [&self.branch3x3dbl_3a]),
            chain(&double, [&self.branch3x3dbl_3b]),
            self.branch_pool.forward(match self.pool {
                Pool::Average => average_pool(x),
                Pool::Maximum => max_pool(x, 1, 1),
            }),
        ])
    }
}

/// A 3 x 3 kernel that takes every second pixel, inside the image alone.
fn halving(channels: [usize; 2], init: &Initializer) -> Unit {
    Unit::new(channels, [3, 3], 2, [0, 0], init)
}

fn chain<const N: usize>(x: &Tensor<4>, units: [&Unit; N]) -> Tensor<4> {
    units.into_iter().fold(x.clone(), |x, unit| unit.forward(x))
}

fn join<const N: usize>(branches: [Tensor<4>; N]) -> Tensor<4> {
    Tensor::cat(branches.into(), 1)
}
