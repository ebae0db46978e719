//! What a network is told of the labels of examples.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow_backbones::{ClassLabels, Condition};

use super::Error;

/// Conditions in memory, which are still to be put on a device.
pub type HostCondition<C> = Box<dyn FnOnce(&Device) -> C + Send>;

/// Makes the condition of a network, `C`, of the labels of examples: of what the data are about.
///
/// A label is an index into [`Dataset::classes`](super::Dataset::classes), whose names are those of classes, captions, or
/// whatever a data set numbers.
///
/// ```
/// use burn::tensor::{Bool, Device, Int, Tensor};
/// use mixflow::backbones::Condition;
/// use mixflow::data::{Conditioner, Error, HostCondition};
///
/// /// The angle that an image is turned by, in radians; zero stands for none.
/// #[derive(Clone, Debug)]
/// struct Angle(Tensor<1>);
///
/// impl Condition for Angle {
///     fn mask(self, mask: Tensor<1, Bool>) -> Self { Self(self.0.mask_fill(mask, 0.0)) }
///     fn null(self) -> Self { Self(self.0.zeros_like()) }
///     fn select(self, rows: Tensor<1, Int>) -> Self { Self(self.0.select(0, rows)) }
///     fn on(self, device: &Device) -> Self { Self(self.0.to_device(device)) }
/// }
///
/// /// One angle a label.
/// #[derive(Debug)]
/// struct Angles(Vec<f32>);
///
/// impl Conditioner<Angle> for Angles {
///     fn read(&self, labels: &[usize]) -> Result<HostCondition<Angle>, Error> {
///         let angles: Vec<f32> = labels.iter().map(|&label| self.0[label]).collect();
///         Ok(Box::new(move |device| Angle(Tensor::from_data(angles.as_slice(), device))))
///     }
/// }
/// let angles = Angles(vec![0.5, 1.5]).conditions(&[1, 0, 1], &Device::default())?;
/// assert_eq!(angles.0.into_data().to_vec::<f32>().unwrap(), [1.5, 0.5, 1.5]);
/// # Ok::<(), Error>(())
/// ```
pub trait Conditioner<C: Condition>: Debug + Send + Sync {
    /// The conditions of these labels, one a row. A loader calls it on its threads: what takes long belongs here, and only
    /// what needs the device into what it returns.
    ///
    /// # Errors
    /// If a label is unknown, or what it stands for cannot be read.
    fn read(&self, labels: &[usize]) -> Result<HostCondition<C>, Error>;

    /// The same on a device.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn conditions(&self, labels: &[usize], device: &Device) -> Result<C, Error> {
        Ok(self.read(labels)?(device))
    }

    /// What the user should know of how they were prepared, in words; provided: nothing.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<C: Condition, T: Conditioner<C> + ?Sized> Conditioner<C> for Arc<T> {
    fn read(&self, labels: &[usize]) -> Result<HostCondition<C>, Error> {
        (**self).read(labels)
    }

    fn notices(&self) -> Vec<String> {
        (**self).notices()
    }
}

/// Tells the number of the class, of so many; the null label is that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes(pub usize);

impl Conditioner<ClassLabels> for Classes {
    fn read(&self, labels: &[usize]) -> Result<HostCondition<ClassLabels>, Error> {
        check_labels(labels, self.0)?;
        let (labels, null) = (labels.to_vec(), self.0);
        Ok(Box::new(move |device| ClassLabels::new(&labels, null, device)))
    }
}

/// Tells nothing, whatever the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconditional;

impl Conditioner<()> for Unconditional {
    fn read(&self, _: &[usize]) -> Result<HostCondition<()>, Error> {
        Ok(Box::new(|_| ()))
    }
}

/// Knows no labels: for networks that are told what these are called, where nobody says. Images are made of conditions then,
/// see [`Generator::draw`](crate::Generator::draw).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlabelled;

impl<C: Condition> Conditioner<C> for Unlabelled {
    fn read(&self, _: &[usize]) -> Result<HostCondition<C>, Error> {
        Err(Error::Unlabelled)
    }
}

/// Refuses labels from `count` on.
///
/// # Errors
/// [`Error::Label`] with the first of them.
pub fn check_labels(labels: &[usize], count: usize) -> Result<(), Error> {
    match labels.iter().find(|label| **label >= count) {
        None => Ok(()),
        Some(&found) => Err(Error::Label { found, count }),
    }
}
