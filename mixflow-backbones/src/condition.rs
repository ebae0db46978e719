//! What a network is told besides the time.

use burn::tensor::{Bool, Device, Int, Tensor};

/// A batch of conditions, one a row, each of which can be replaced by the null condition.
///
/// Training drops conditions at random, by [`mask`](Self::mask); guidance compares with none, by [`null`](Self::null).
///
/// # Example
/// ```
/// use burn::tensor::{Bool, Device, Int, Tensor};
/// use mixflow_backbones::Condition;
///
/// /// A number a row; zero stands for none.
/// #[derive(Clone, Debug)]
/// struct Angle(Tensor<1>);
///
/// impl Condition for Angle {
///     fn mask(self, mask: Tensor<1, Bool>) -> Self { Self(self.0.mask_fill(mask, 0.0)) }
///     fn null(self) -> Self { Self(self.0.zeros_like()) }
///     fn select(self, rows: Tensor<1, Int>) -> Self { Self(self.0.select(0, rows)) }
///     fn on(self, device: &Device) -> Self { Self(self.0.to_device(device)) }
/// }
/// ```
pub trait Condition: Clone + Send + 'static {
    /// Replaces the rows where `mask` is true by the null condition. `mask`: `[batch]`.
    #[must_use]
    fn mask(self, mask: Tensor<1, Bool>) -> Self;

    /// Replaces every row by the null condition.
    #[must_use]
    fn null(self) -> Self;

    /// The same of one part of what is told, such as what one of several encoders says; provided: there is one part, which is all
    /// of it.
    #[must_use]
    fn mask_part(self, part: usize, mask: Tensor<1, Bool>) -> Self {
        assert_eq!(part, 0, "a condition of one part");
        self.mask(mask)
    }

    /// Takes the rows of these numbers, in their order.
    #[must_use]
    fn select(self, rows: Tensor<1, Int>) -> Self;

    /// The same on a device.
    #[must_use]
    fn on(self, device: &Device) -> Self;
}

/// Unconditional networks.
impl Condition for () {
    fn mask(self, _: Tensor<1, Bool>) -> Self {}
    fn null(self) -> Self {}
    fn select(self, _: Tensor<1, Int>) -> Self {}
    fn on(self, _: &Device) -> Self {}
}

/// Class labels.
#[derive(Clone, Debug)]
pub struct ClassLabels {
    /// `[batch]`, each in `0..=null`.
    pub labels: Tensor<1, Int>,
    /// The label that stands for no class: the number of classes.
    pub null: usize,
}

impl ClassLabels {
    /// One label a row; `null` is the number of classes, and stands for none in networks that have a row for it.
    ///
    /// # Panics
    /// If a label is above `null`: some devices would read what lies beyond the table of labels.
    pub fn new(labels: &[usize], null: usize, device: &Device) -> Self {
        if let Some(label) = labels.iter().find(|label| **label > null) {
            panic!("labels are 0 to {null}, found {label}");
        }
        let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        Self { labels: Tensor::from_data(labels.as_slice(), device), null }
    }
}

impl Condition for ClassLabels {
    fn mask(self, mask: Tensor<1, Bool>) -> Self {
        Self { labels: self.labels.mask_fill(mask, self.null as i64), ..self }
    }

    fn null(self) -> Self {
        Self { labels: self.labels.full_like(self.null as i64), ..self }
    }

    fn select(self, rows: Tensor<1, Int>) -> Self {
        Self { labels: self.labels.select(0, rows), ..self }
    }

    fn on(self, device: &Device) -> Self {
        Self { labels: self.labels.to_device(device), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "labels are 0 to 10, found 1000")]
    fn a_label_beyond_the_table_is_refused() {
        ClassLabels::new(&[0, 10, 1000], 10, &Device::flex());
    }
}
