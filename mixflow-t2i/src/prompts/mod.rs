//! The prompts of a data set as its classes.
//!
//! Trainings, comparisons and samplers of `mixflow` tell a network the number of a class. [`Prompted`] makes that the
//! number of a prompt in a [`PromptTable`], so that all of them work for text.

mod prompted;
mod table;

pub use prompted::Prompted;
pub use table::PromptTable;
