//! Train, sample and measure flow-matching image models on Burn, with MixFlow Training.
//!
//! Flow models are trained on true interpolations of noise and data but sampled on states that they made themselves.
//! MixFlow Training (arXiv 2512.19311) post-trains them on inputs that are noisier than their time label says. Here it
//! is a law of times, so that any backbone, path and objective can pick it up:
//!
//! ```
//! use mixflow::FlowMatching;
//! use mixflow::schedules::{Linear, MixFlow};
//!
//! let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.8));
//! ```
//!
//! | to | use |
//! |---|---|
//! | train a network of yours | [`FlowMatching`], [`train::TrainState`] |
//! | align it with frozen encoders (REPA) | [`Alignment`] |
//! | train it so that it survives being killed | [`train::Run`] |
//! | sample | [`flow::Flow`], [`sampler::Sampler`], [`generate`] |
//! | encode images once, before training | [`LatentEncoder`], [`data::latents`] |
//! | read images | [`images::ImageSource`] |
//! | write images | [`export::Export`] |
//! | measure | [`evaluate`](mod@evaluate), [`metric::measure`], [`slow_flow`], [`likelihood`] |
//! | compare plain and MixFlow post-training | [`compare`], [`report`] |
//! | train an autoencoder on features | [`rae_training::RaeRun`] |
//! | describe a run as JSON | [`recipe::Recipe`] |
//! | keep other processes out of its folder | [`FolderLock`] |
//! | know what it will cost | [`plan::Plan`] |

pub use mixflow_backbones as backbones;
pub use mixflow_schedules as schedules;

mod alignment;
pub mod compare;
pub mod data;
mod decoded;
mod device;
mod digest;
mod encoded;
mod error;
pub mod evaluate;
pub mod export;
pub mod flow;
mod flow_matching;
pub mod generate;
pub mod guidance;
mod image_set;
pub mod images;
pub mod inception;
mod labels;
mod latent_encoder;
pub mod likelihood;
mod lock;
mod memory;
pub mod metric;
pub mod npz;
mod objective;
pub mod plan;
mod printable;
pub mod rae_training;
pub mod random;
pub mod recipe;
pub mod report;
pub mod sampler;
pub mod slow_flow;
pub mod solver;
pub mod train;

pub use alignment::{Alignment, AlignmentConfig, AlignmentLosses, TargetEncoder};
pub use device::{check_device, device_name};
pub use encoded::{Encoded, learned};
pub use error::Error;
pub use flow_matching::{FlowMatching, Noised, Target, noise};
pub use image_set::ImageSet;
pub use labels::{Labels, class_number};
pub use latent_encoder::{LatentEncoder, StorageConfig};
pub use lock::FolderLock;
pub use memory::{check_memory, memory};
pub use objective::{Batch, Objective};
pub use printable::printable;
