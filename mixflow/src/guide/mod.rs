//! How to use mixflow, page by page. Programs in it run with the tests; numbers name their source, a paper or a command.
//!
//! | to | read |
//! |---|---|
//! | understand what MixFlow Training changes, and why | [`idea`] |
//! | choose a solver, its steps and guidance | [`sampling`] |
//! | choose γ | [`gamma`] |
//! | compare any remedies for exposure bias in one table | [`arms`] |
//! | score whether a network draws what it is told | [`scenes`] |
//! | know every key of a recipe | [`recipe`] |
//! | bring your own data, network, objective or solver | [`extending`] |
//! | run the paper's settings | [`reproducing`] |
//! | compute on GPUs, several of them, and other machines | [`devices`] |
//! | go on from weights that PyTorch trained | [`checkpoints`] |
//! | find your way in the folder of a run | [`run_folder`] |
//! | draw, measure or encode by many processes | [`many_processes`] |
//! | know when another program serves you better | [`compared`] |

#![allow(clippy::doc_markdown, reason = "pages are prose, and name programs that are no items")]

#[doc = include_str!("idea.md")]
///
/// [`MixFlow`]: crate::schedules::MixFlow
/// [`lag`]: fn@crate::compare::lag
/// [`Study`]: crate::compare::Study
/// [γ]: self::gamma
pub mod idea {}

#[doc = include_str!("sampling.md")]
///
/// [`Sampler`]: crate::Sampler
/// [`Guidance`]: crate::Guidance
/// [`Euler`]: crate::sampling::solver::Euler
/// [`Heun`]: crate::sampling::solver::Heun
/// [`KarrasHeun`]: crate::sampling::solver::KarrasHeun
/// [`RungeKutta`]: crate::sampling::solver::RungeKutta
/// [`DpmPlusPlus2M`]: crate::sampling::solver::DpmPlusPlus2M
/// [`Adaptive`]: crate::sampling::solver::Adaptive
/// [`EulerMaruyama`]: crate::sampling::solver::EulerMaruyama
/// [`StochasticHeun`]: crate::sampling::solver::StochasticHeun
/// [`Ddim`]: crate::sampling::solver::Ddim
/// [`Ancestral`]: crate::sampling::solver::Ancestral
/// [recipe]: self::recipe
pub mod sampling {}

#[doc = include_str!("gamma.md")]
///
/// [`MixFlow`]: crate::schedules::MixFlow
/// [`PostTraining`]: crate::recipe::PostTraining
/// [idea]: self::idea
pub mod gamma {}

#[doc = include_str!("arms.md")]
pub mod arms {}

#[doc = include_str!("recipe.md")]
///
/// [`Recipe`]: crate::Recipe
pub mod recipe {}

#[doc = include_str!("extending.md")]
///
/// [`Dataset`]: crate::data::Dataset
/// [`Conditioner`]: crate::data::Conditioner
/// [`Condition`]: crate::backbones::Condition
/// [`Backbone`]: crate::backbones::Backbone
/// [`NetworkSettings`]: crate::recipe::NetworkSettings
/// [`Objective`]: crate::Objective
/// [`Solver`]: crate::sampling::solver::Solver
/// [`Schedule`]: crate::schedules::Schedule
/// [`TimeLaw`]: crate::schedules::TimeLaw
/// [`TimestepSampler`]: crate::schedules::TimestepSampler
/// [`Source`]: crate::data::source::Source
/// [`Autoencoder`]: crate::backbones::Autoencoder
/// [`TargetEncoder`]: crate::objective::TargetEncoder
/// [`Recipe`]: crate::Recipe
/// [`Launch`]: crate::launch::Launch
/// [`Study`]: crate::compare::Study
/// [`FlowMatching::draw`]: crate::FlowMatching::draw
/// [`ImageFeatures`]: crate::evaluation::ImageFeatures
/// [`Solver`]: crate::sampling::solver::Solver
/// [`StepSolver`]: crate::sampling::solver::StepSolver
/// [`OwnSolver`]: crate::sampling::solver::OwnSolver
/// [`Correction`]: crate::sampling::correction::Correction
/// [`Run`]: crate::train::Run
/// [`check_dataset`]: crate::testing::check_dataset
/// [`check_solver`]: crate::testing::check_solver
pub mod extending {}

#[doc = include_str!("scenes.md")]
///
/// [`Scenes`]: crate::data::Scenes
/// [`find_objects`]: crate::evaluation::scenes::find_objects
pub mod scenes {}

#[doc = include_str!("reproducing.md")]
///
/// [sampling]: self::sampling
/// [idea]: self::idea
/// [devices]: self::devices
pub mod reproducing {}

#[doc = include_str!("devices.md")]
///
/// [`named`]: crate::device::named
/// [`several`]: crate::device::several
/// [many_processes]: self::many_processes
#[cfg_attr(feature = "remote", doc = "[`watched`]: crate::device::remote::watched")]
#[cfg_attr(not(feature = "remote"), doc = "[`watched`]: crate::device")]
pub mod devices {}

#[doc = include_str!("checkpoints.md")]
///
/// [`Weights`]: crate::backbones::weights::Weights
/// [`Weights::network`]: crate::backbones::weights::Weights::network
/// [`ClassRows`]: crate::train::ClassRows
/// [`Adapter::fuse`]: crate::backbones::lora::Adapter::fuse
/// [`Launch`]: crate::launch::Launch
/// [`Pipeline`]: crate::Pipeline
pub mod checkpoints {}

#[doc = include_str!("run_folder.md")]
///
/// [`Launch`]: crate::launch::Launch
/// [`train`]: crate::launch::train()
/// [`RunFolder`]: crate::train::RunFolder
/// [`Checkpoints`]: crate::train::Checkpoints
/// [`MetricsLog`]: crate::train::MetricsLog
/// [`StoredNetwork`]: crate::train::StoredNetwork
/// [`Latents`]: crate::data::Latents
pub mod run_folder {}

#[doc = include_str!("many_processes.md")]
///
/// [`Shard`]: crate::Shard
/// [`Parts`]: crate::files::Parts
/// [`Generator::draw_part`]: crate::Generator::draw_part
/// [`PartOf`]: crate::data::source::PartOf
/// [`join_parts`]: crate::data::latents::join_parts
pub mod many_processes {}

#[doc = include_str!("compared.md")]
///
/// [reproducing]: self::reproducing
pub mod compared {}
