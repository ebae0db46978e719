//! Labels that say nothing of their input: an ablation of MixFlow Training (arXiv 2512.19311, table 5).

use crate::{TimeLaw, Timestep, TimestepSampler};

/// The label `t` from a law, the input at `m ~ U[0, 1)`, independent of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Independent<L>(pub L);

impl<L: TimeLaw> TimestepSampler for Independent<L> {
    fn timestep(&self, [u, m]: [f64; 2]) -> Timestep {
        Timestep { t: self.0.quantile(u), m }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::tests::all;

    #[test]
    fn the_label_is_that_of_the_law_and_the_input_is_anywhere() {
        for law in all() {
            for m in [0.0, 0.3, 0.999] {
                assert_eq!(Independent(&law).timestep([0.6, m]), Timestep { t: law.quantile(0.6), m });
            }
        }
    }
}
