#![doc = include_str!("../README.md")]
//!
//! | to | use |
//! |---|---|
//! | train a network of yours | [`FlowMatching`], [`train::TrainState`]; by recipes, [`recipe::NetworkSettings`] |
//! | tell it what the data are about | [`data::Conditioner`] |
//! | align it with frozen encoders (REPA) | [`Alignment`] |
//! | train it so that it survives being killed | [`launch::train()`], [`launch::Launch`], [`train::Run`] |
//! | sample | [`Flow`], [`Sampler`], [`Generator`] |
//! | make images with a run or a published network | [`Pipeline`] |
//! | encode images once, before training | [`LatentEncoder`], [`data::latents`] |
//! | read images | [`files::images::ImageSource`] |
//! | write images | [`Export`]; by several processes, [`files::Parts`] |
//! | measure | [`evaluation::evaluate`], [`evaluation::metric`], [`evaluation::slow_flow`], [`sampling::log_likelihood`] |
//! | compare plain and MixFlow post-training | [`compare`], [`report`] |
//! | train an autoencoder on features | [`autoencoder_training::RaeRun`] |
//! | describe a run as JSON | [`Recipe`] |
//! | choose what it is computed on | [`device`]; try it, [`selftest`] |
//! | keep other processes out of its folder | [`FolderLock`] |
//! | know what it will cost | [`plan::Plan`] |
//! | learn how, page by page | [`guide`] |
//!
//! The rooms stand on each other in this order, and none looks up: [`files`], [`data`], [`objective`], [`train`],
//! [`selftest`], [`autoencoder_training`], [`sampling`], [`recipe`], [`evaluation`], [`pipeline`], [`report`],
//! [`compare`], [`launch`], [`plan`].

pub use burn::tensor::Device;
pub use mixflow_backbones as backbones;
pub use mixflow_schedules as schedules;

pub mod autoencoder_training;
pub mod compare;
pub mod data;
pub mod device;
mod error;
pub mod evaluation;
pub mod files;
pub mod guide;
pub mod launch;
mod memory;
pub mod numbers;
pub mod objective;
pub mod pipeline;
pub mod plan;
mod printable;
pub mod random;
pub mod recipe;
pub mod report;
pub mod sampling;
pub mod selftest;
mod shard;
mod spread;
pub mod testing;
pub mod train;

pub use data::{Encoded, LatentEncoder};
pub use error::Error;
pub use evaluation::Generator;
pub use files::FolderLock;
pub use memory::{check_memory, known_memory, memory};
pub use objective::{Alignment, Batch, FlowMatching, Loss, Objective};
pub use pipeline::{AddedAdapter, Pipeline, StoredPipeline};
pub use printable::printable;
pub use recipe::Recipe;
pub use sampling::{Export, Flow, Guidance, Sampler};
pub use shard::Shard;
